"""pushforward: exact densities from samples, by normalizing flows in PyTorch."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import data, diagnostics, plots  # noqa: F401
    from ._api import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports torch and all public names when one is first used (PEP 562), so that `pushforward --help` need not."""
    if name in ("data", "diagnostics", "plots"):
        return importlib.import_module(f".{name}", __name__)
    if not name.startswith("_"):
        from . import _api

        public = {key: value for key, value in vars(_api).items() if not key.startswith("_")}
        globals().update(public)
        if name in public:
            return public[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from . import _api

    return sorted({*globals(), *(key for key in vars(_api) if not key.startswith("_"))})
