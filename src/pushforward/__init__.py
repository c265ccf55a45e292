"""pushforward: exact densities from samples, by normalizing flows in PyTorch."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import checks, estimators, io, plots, tables, toys  # noqa: F401
    from ._api import *  # noqa: F403

__version__ = "0.1.0"

_MODULES = ("checks", "estimators", "io", "plots", "tables", "toys")
_OF_ESTIMATOR = ("FlowDensity", "FlowOutlierDetector", "PyODFlow")  # need scikit-learn, the last one PyOD too


def __getattr__(name: str) -> Any:
    """Imports torch and all public names when one is first used (PEP 562), so that `pushforward --help` need not."""
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _OF_ESTIMATOR:
        return getattr(importlib.import_module(".estimators", __name__), name)
    if not name.startswith("_"):
        from . import _api

        public = {key: value for key, value in vars(_api).items() if not key.startswith("_")}
        globals().update(public)
        if name in public:
            return public[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from . import _api

    special = (key for key in globals() if key.startswith("__"))
    return sorted({*special, *_MODULES, *_OF_ESTIMATOR, *(key for key in vars(_api) if not key.startswith("_"))})
