"""Software and device as the worker process observed them."""

from typing import Literal

from pydantic import Field

from sdbench.schema.base import Compact, Count, PositiveInt, Reading, Sha256
from sdbench.schema.work import Work

WeightsSource = Literal["drawn", "mapped", "downloaded", "file", "exported", "simulated"]


class LoadedLibrary(Compact):
    """A library's file that the worker had loaded after its timed calls."""

    name: str = Field(description="Name of the library, as libcudnn.")
    path: str = Field(description="Its file, from site-packages on where it is there, without names of users.")
    version: Reading[str] = Field(description="Version in the file's name.")
    sha256: Reading[Sha256] = Field(description="Hash of its size and build id, or of blocks of it where it has none.")


class WorkerEnvironment(Compact):
    """Software and device as the worker process itself observed them."""

    backend: str = Field(description="Name of the backend.")
    backend_version: str = Field(description="Version of torch or onnxruntime.")
    device: str = Field(description="Device as torch names it.")
    device_name: str = Field(description="Model of the device.")
    threads: PositiveInt = Field(description="CPU threads of one operator.")
    cuda_version: Reading[str] = Field(description="CUDA version of the backend.")
    cudnn_version: Reading[str] = Field(description="cuDNN version of the backend.")
    weights_digest: str = Field(description="Hash of the weights.")
    weights_source: WeightsSource = Field(description="Where loading got the weights from.")
    weights_mapped_bytes: Count = Field(description="How much of the weights stayed in a mapped file.")
    parameter_count: PositiveInt = Field(description="Parameters of the networks.")
    work: Work = Field(description="How much work one pipeline call is.")
    drawn_tokens: dict[str, PositiveInt] = Field(description="Tokens of a prompt, by tokenizer without vocabulary.")
    cpu_capability: str = Field(description="Vector instructions that torch uses.")
    onednn_isa: Reading[str] = Field(description="Vector and matrix instructions that oneDNN uses.")
    cudnn_benchmark: Reading[bool] = Field(description="Whether cuDNN tries algorithms instead of choosing by rule.")
    cudnn_deterministic: Reading[bool] = Field(description="Whether cuDNN takes deterministic algorithms only.")
    deterministic_algorithms: bool = Field(description="Whether torch takes deterministic algorithms only.")
    loaded_libraries: Reading[tuple[LoadedLibrary, ...]] = Field(description="Libraries that compute, as loaded.")
