"""The scikit-learn face: a density, an outlier detector, and an adapter for PyOD (imported only when it is used)."""

from typing import TYPE_CHECKING, Any

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError('the estimators need scikit-learn: pip install "pushforward[sklearn]"') from error

from .density import FlowDensity as FlowDensity
from .detector import FlowOutlierDetector as FlowOutlierDetector

if TYPE_CHECKING:
    from .pyod import PyODFlow as PyODFlow


def __getattr__(name: str) -> Any:
    if name == "PyODFlow":
        from . import pyod

        return pyod.PyODFlow
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
