"""On the path of a worker: calls of more than 4 images in a search fail with the text in ``FAKE_DEVICE_ERROR``."""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

CAPACITY = 4


class Finder(importlib.abc.MetaPathFinder):
    """Finds the module of the search once, and replaces the function with which it makes a call."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if name != "sdbench.workloads.largest_batch":
            return None
        sys.meta_path.remove(self)
        spec: Any = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            time_call = module.time_call

            def fail_beyond_capacity(backend: Any, clock: Any) -> Any:
                if backend.experiment.batch > CAPACITY:
                    raise RuntimeError(os.environ["FAKE_DEVICE_ERROR"])
                return time_call(backend, clock)

            module.time_call = fail_beyond_capacity

        spec.loader.exec_module = exec_module
        return spec  # type: ignore[no-any-return]


sys.meta_path.insert(0, Finder())
