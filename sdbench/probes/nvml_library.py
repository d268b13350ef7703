"""NVML as one function, ``call(function, *arguments)``: plain JSON types in and out, and one exception."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import cache
from typing import Any

FIELD_VALUES = "nvmlDeviceGetFieldValues"
# nvml.h: nvmlValueType_t, in its order.
_FIELD_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")

# A GPU by NVML's index, or by its UUID: "GPU-..." of a card, "MIG-..." of a slice of one.
Address = int | str


class NvmlCode(IntEnum):
    """Why a call failed, of nvml.h's nvmlReturn_t; the last is no code of NVML's."""

    NO_PERMISSION = 4
    DRIVER_NOT_LOADED = 9
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    VERSION_MISMATCH = 18
    UNKNOWN = 999
    NO_PACKAGE = -1


class NvmlCallError(Exception):
    """A call to NVML failed; the text is the reason, ``code`` NVML's code for it (0 where there is none)."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code


class PynvmlLibrary:
    """The real library, through nvidia-ml-py."""

    def __init__(self) -> None:
        """Load the library.

        Raises:
            NvmlCallError: nvidia-ml-py or NVML is not there, or the driver is not loaded.
        """
        try:
            import pynvml
        except ImportError:
            raise NvmlCallError("the Python package nvidia-ml-py is not installed", NvmlCode.NO_PACKAGE) from None
        self._pynvml: Any = pynvml
        self._handle = cache(self._open)
        with self._explained():
            pynvml.nvmlInit()

    def call(self, function: str, *arguments: Any) -> Any:
        """Return the value of an NVML function as JSON types; a GPU is its index or UUID, one returned its UUID.

        Raises:
            NvmlCallError: NVML reported an error, or gave what nvidia-ml-py cannot read.
        """
        with self._explained():
            if function.startswith("nvmlDevice") and arguments:
                arguments = (self._handle(arguments[0]), *arguments[1:])
            read = self._read_field if function == FIELD_VALUES else getattr(self._pynvml, function)
            value = read(*arguments)
            if isinstance(value, self._pynvml.c_nvmlDevice_t):
                value = self._pynvml.nvmlDeviceGetUUID(value)
            return _plain(value)

    def _read_field(self, handle: Any, field_id: int) -> Any:
        """Return the value of one field: NVML reports an error for each."""
        (field,) = self._pynvml.nvmlDeviceGetFieldValues(handle, [field_id])
        if field.nvmlReturn:
            raise self._pynvml.NVMLError(field.nvmlReturn)
        return getattr(field.value, _FIELD_MEMBERS[field.valueType])

    def _open(self, address: Address) -> Any:
        by_uuid = isinstance(address, str)
        return getattr(self._pynvml, "nvmlDeviceGetHandleBy" + ("UUID" if by_uuid else "Index"))(address)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._pynvml.NVMLError as error:
            raise NvmlCallError(str(error), error.value) from None
        except UnicodeDecodeError:
            raise NvmlCallError("the text is not UTF-8") from None
        except (self._pynvml.NVMLLibraryMismatchError, AttributeError, TypeError, ValueError, ctypes.ArgumentError):
            mismatch = "nvidia-ml-py and the driver's NVML do not fit each other"
            raise NvmlCallError(mismatch, NvmlCode.FUNCTION_NOT_FOUND) from None


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if fields := getattr(value, "_fields_", None):
        return {field[0]: _plain(getattr(value, field[0])) for field in fields}
    if isinstance(value, int | float | str) or value is None:
        return value
    return {key: _plain(item) for key, item in vars(value).items()}
