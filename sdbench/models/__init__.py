"""What is measured: architectures, the tokenizer, and weights, synthetic or pretrained."""

# Every network that can be measured, by the file in ``configs/`` that describes it.
ARCHITECTURES: dict[str, str] = {
    "tiny": "tiny.json",
    "sd-v1-4": "sd-v1-4.json",
}
