"""The doors of the house: model files, tables from files and frames. Its modules are imported when first used."""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    if name in ("frames", "models", "tables"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
