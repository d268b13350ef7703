"""What runs the model. A backend is one module with ``open_backend(...)`` and one line here."""

BACKENDS: dict[str, str] = {
    "pytorch": "sdbench.backends.pytorch",
    "onnxruntime": "sdbench.backends.onnxruntime",
    "virtual": "sdbench.backends.virtual",
}
