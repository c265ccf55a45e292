"""check: a verdict on a density from held-out rows, by many tests of which no single one is trusted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..density import Density
from .calibration import calibration
from .columns import columns as column_distances
from .evidence import Evidence, Rows, gather
from .exact import exact
from .likelihood import likelihood
from .memorisation import memorisation
from .report import Report, Section
from .stats import Array
from .tails import tails
from .two_sample import two_sample

_SECTIONS = (likelihood, exact, calibration, two_sample, column_distances, memorisation, tails)
_COMPARED_ROWS = 10_000  # held-out rows that simple densities are scored on


def check(
    density: Density,
    test: Any,
    train: Any = None,
    *,
    context: Any = None,
    train_context: Any = None,
    columns: Sequence[str] | None = None,
    row_numbers: Sequence[int] | None = None,
    max_rows: int = 10_000,
    seed: int = 0,
) -> Report:
    """Judges a density by rows that it was not fitted to.

    Seven sections, each with figures, their errors and a verdict (good, doubtful, bad or cannot tell): held-out
    likelihood beside a Gaussian, a mixture and a kernel density; exactness of the maps and the integrals of the flows;
    calibration of latents and of regions of highest density; a classifier between samples and held-out rows; distances
    of single columns and correlations; memorisation of training rows; tail mass.

    Args:
        density: any density: a flow, a mixture, the density of a table, ...
        test: held-out rows, in data units, as its space reads them: rows that the training has not seen, not even for
            validation.
        train: rows that it was trained on: baselines are fitted to them, and memorisation is measured against them.
            Without them, baselines are fitted crosswise to halves of the test rows.
        context: (N, K) or (N, *context_dim), of the test rows, where the density is conditional on numbers beside its
            rows.
        train_context: (M, K) or (M, *context_dim), of the training rows.
        columns: names for the report, in place of the space's.
        row_numbers: (N,), what the report calls the test rows by; 0 to N - 1 when None.
        max_rows: of more test rows, so many drawn at random are used beyond likelihood and tails.
        seed: of every random step.

    Returns:
        A `Report`: `verdict`, `summary`, sections by name, `text()`, `to_json()` and `to_html(path)`.

    Raises:
        ImportError: there is no scipy.
        ValueError: rows, names or context do not fit the density, or hold values that are not finite.

    Example:
        >>> from pushforward import Chain, Flow
        >>> rng = np.random.default_rng(0)
        >>> report = check(Flow(Chain(), 1), rng.normal(size=(500, 1)))
        >>> report["calibration"].verdict
        'good'
    """
    began = time.perf_counter()
    try:
        import scipy  # noqa: F401
    except ImportError:
        raise ImportError('a check needs scipy: pip install "pushforward[check]"') from None
    if max_rows < 1:
        raise ValueError(f"max_rows must be at least 1, got {max_rows}")
    if context is not None and train is not None and train_context is None:
        raise ValueError("train_context is needed with train: the context of the training rows")
    rows = _read(density, test, context, "test")
    known = None if train is None else _read(density, train, train_context, "train")
    names = list(density.space.names if columns is None else map(str, columns))
    if len(names) != len(density.space.names):
        raise ValueError(f"expected {len(density.space.names)} column names, got {len(names)}: {names}")
    numbers = np.arange(len(rows)) if row_numbers is None else np.asarray(row_numbers)
    if numbers.shape != (len(rows),):
        raise ValueError(f"expected {len(rows)} row_numbers, one for each row of test, got {len(numbers)}")
    evidence = gather(density, names, rows, known, numbers=numbers, max_rows=max_rows, seed=seed)
    sections = [section(evidence) for section in _SECTIONS]
    about = {
        "rows": len(evidence.log_all),
        "used": len(evidence.test),
        "train_rows": 0 if known is None else len(known),
        "columns": len(names),
        "names": names,
        "samples": len(evidence.samples),
        "seed": seed,
        "seconds": time.perf_counter() - began,
    }
    return Report(sections, about, _plot_data(evidence))


def held_out_likelihood(density: Density, test: Any, train: Any, *, seed: int = 0) -> tuple[Section, Array]:
    """The first section of `check` alone: the log-density of held-out rows beside what simple densities reach.

    Args:
        density: as `check` takes it, without a context beside its rows.
        test: held-out rows.
        train: rows that it was fitted to.
        seed: of every random step.

    Returns:
        The section, and the log-densities (N,) in nats of the test rows, without those that are impossible.

    Raises:
        ValueError: as `check`.
    """
    rows, known = _read(density, test, None, "test"), _read(density, train, None, "train")
    names, numbers = list(density.space.names), np.arange(1, len(rows) + 1)
    evidence = gather(density, names, rows, known, numbers=numbers, max_rows=_COMPARED_ROWS, seed=seed)
    return likelihood(evidence), evidence.log_all


def _read(density: Density, source: Any, context: Any, name: str) -> Rows:
    """The rows of a space, and a context for each, on the device of the density.

    Raises:
        ValueError: they do not fit.
    """
    if not isinstance(density, Density):
        raise ValueError(f"expected a density, got {type(density).__name__}")
    space = density.space
    device = next((t.device for group in (density.parameters(), density.buffers()) for t in group), None)
    try:
        values = space.read(source)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    values = values.to(device) if isinstance(values, Tensor) else values
    if context is None:
        return Rows(values)
    if space.given:
        raise ValueError(f"the rows of this density hold their context, {', '.join(space.given)}: leave out context")
    given = torch.as_tensor(context if isinstance(context, Tensor) else np.asarray(context, float), device=device)
    given = given[:, None] if given.ndim == 1 else given
    given = given.expand(len(values), *given.shape[1:]) if len(given) == 1 else given
    if len(given) != len(values):
        raise ValueError(f"expected as many contexts as rows of {name}, got {len(given)} and {len(values)}")
    if not bool(given.isfinite().all()):
        raise ValueError(f"the context of {name} must hold finite numbers alone")
    return Rows(values, given.detach())


def _plot_data(e: Evidence) -> dict[str, Any]:
    """What the pictures of a report need beyond its sections."""
    test, _, samples = e.compared
    return {
        "names": [feature.name for feature in e.varying_features],
        "indicator": [feature.indicator for feature in e.varying_features],
        "test": e.features(test)[:, e.varying],
        "samples": e.features(samples)[:, e.varying],
        "log_test": e.log_test,
        "log_train": e.log_train,
        "log_samples": e.log_samples,
    }
