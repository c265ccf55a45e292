"""check: a verdict on a density from held-out rows, by many tests of which no single one is trusted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import calibration, tails
from .distances import columns as column_distances
from .distances import memorisation
from .evidence import gather, scored
from .exact import exact
from .likelihood import likelihood
from .report import Report, Section
from .subject import as_subject, numeric_rows
from .twosample import two_sample

_SECTIONS = (likelihood, exact, calibration, two_sample, column_distances, memorisation, tails)
_COMPARED_ROWS = 10_000  # held-out rows that simple densities are scored on


def check(
    density: Any,
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
    likelihood beside a Gaussian, a mixture and a kernel density; exactness of the map and the density's integral;
    calibration of latents and of regions of highest density; a classifier between samples and held-out rows; distances
    of single columns and correlations; memorisation of training rows; tail mass.

    Args:
        density: a `Flow` over vectors, or a density over tables.
        test: held-out rows (N, D), in data units: rows that the training has not seen, not even for validation.
        train: rows (M, D) that it was trained on: baselines are fitted to them, and memorisation is measured against
            them. Without them, baselines are fitted crosswise to halves of the test rows.
        context: (N, K), with a conditional flow: of the test rows.
        train_context: (M, K), of the training rows.
        columns: D names, for the report.
        row_numbers: (N,), what the report calls the test rows by; 0 to N - 1 when None.
        max_rows: of more test rows, so many drawn at random are used beyond likelihood and tails.
        seed: of every random step.

    Returns:
        A `Report`: `verdict`, `summary`, sections by name, `text()`, `to_json()` and `to_html(path)`.

    Raises:
        ValueError: rows, names or context do not fit the density, or hold values that are not finite.

    Example:
        >>> from pushforward import Chain, Flow
        >>> rng = np.random.default_rng(0)
        >>> report = check(Flow(Chain(), 1), rng.normal(size=(500, 1)))
        >>> report["calibration"].verdict
        'good'
    """
    began = time.perf_counter()
    if max_rows < 1:
        raise ValueError(f"max_rows must be at least 1, got {max_rows}")
    subject = as_subject(density, columns, context, train_context)
    test = subject.rows(_joined(test, context, subject, "test"), "test")
    if train is not None:
        if context is not None and train_context is None:
            raise ValueError("train_context is needed with train: the context of the training rows")
        train = subject.rows(_joined(train, train_context, subject, "train"), "train")
    numbers = np.arange(len(test)) if row_numbers is None else np.asarray(row_numbers)
    if numbers.shape != (len(test),):
        raise ValueError(f"expected {len(test)} row_numbers, one for each row of test, got {len(numbers)}")
    evidence = gather(scored(subject, test, train, numbers, max_rows, seed))
    sections = [section(evidence) for section in _SECTIONS]
    about = {
        "rows": len(evidence.log_all),
        "used": len(evidence.test),
        "train_rows": 0 if train is None else len(train),
        "columns": len(subject.names),
        "names": list(subject.names),
        "samples": len(evidence.samples),
        "seed": seed,
        "seconds": time.perf_counter() - began,
    }
    return Report(sections, about, _pictured(evidence))


def held_out_likelihood(density: Any, test: Any, train: Any, *, seed: int = 0) -> tuple[Section, NDArray[np.float64]]:
    """The first section of `check` alone: the log-density of held-out rows beside what simple densities reach.

    Args:
        density: as `check` takes it, without a context.
        test: held-out rows.
        train: rows that it was fitted to.
        seed: of every random step.

    Returns:
        The section, and the log-densities (N,) in nats of the test rows, without those that the schema rules out.

    Raises:
        ValueError: as `check`.
    """
    subject = as_subject(density, None, None, None)
    rows, fitted = subject.rows(test, "test"), subject.rows(train, "train")
    found = scored(subject, rows, fitted, np.arange(1, len(rows) + 1), _COMPARED_ROWS, seed)
    return likelihood(found), found.log_all


def _joined(rows: Any, context: Any, subject: Any, name: str) -> Any:
    """Rows with their contexts behind."""
    if context is None:
        return rows
    x = numeric_rows(rows, name, len(subject.names) - subject.given)
    given = numeric_rows(context, f"the context of {name}", subject.given)
    given = np.broadcast_to(given, (len(x), subject.given)) if len(given) == 1 else given
    if len(given) != len(x):
        raise ValueError(f"expected as many contexts as rows of {name}, got {len(given)} and {len(x)}")
    return np.hstack([x, given])


def _pictured(e: Any) -> dict[str, Any]:
    """What the pictures of a report need beyond its sections."""
    keep = e.encoder.varying
    return {
        "names": [e.encoder.names[i] for i in keep],
        "indicator": [e.encoder.indicator[i] for i in keep],
        "held": e.encoder.numbers(e.held)[:, keep],
        "fake": e.encoder.numbers(e.fake)[:, keep],
        "log_test": e.log_test,
        "log_train": e.log_train,
        "log_samples": e.log_samples,
    }
