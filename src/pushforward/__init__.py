"""pushforward: exact densities from samples, by normalizing flows in PyTorch."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import baselines, checks, estimators, images, io, plots, tables, toys  # noqa: F401
    from ._api import *  # noqa: F403

__version__ = "0.1.0"

_ROOMS = ("baselines", "checks", "estimators", "images", "io", "plots", "tables", "toys")
_ESTIMATORS = ("FlowDensity", "FlowOutlierDetector", "PyODFlow")  # need scikit-learn, the last one PyOD too


def __getattr__(name: str) -> Any:
    """Imports torch and all public names when one is first used (PEP 562), so that `pushforward --help` need not."""
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name in _ESTIMATORS:
        return getattr(importlib.import_module(".estimators", __name__), name)
    if not name.startswith("_"):
        globals().update(_public())
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    special = (name for name in globals() if name.startswith("__"))
    return sorted({*special, *_ROOMS, *_ESTIMATORS, *_public()})


def _public() -> dict[str, Any]:
    from . import _api

    return {name: value for name, value in vars(_api).items() if not name.startswith("_") and name != "TYPE_CHECKING"}
