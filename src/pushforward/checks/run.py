"""check: three questions to a density, answered from held-out rows by findings that stand in one table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import as_seed
from ..density import Density
from .calibration import calibration
from .columns import columns as column_distances
from .evidence import Evidence, Rows, gather
from .exact import exact
from .leak import leak
from .likelihood import likelihood
from .privacy import privacy
from .relations import relations
from .report import Report
from .tails import tails
from .thresholds import QUESTIONS, THRESHOLDS, answer
from .two_sample import two_sample
from .utility import utility

_PICTURES = 32  # rows that are shown as pictures, of each kind
_SECTIONS = {
    "leak": leak,
    "likelihood": likelihood,
    "exactness": exact,
    "calibration": calibration,
    "tails": tails,
    "two_sample": two_sample,
    "columns": column_distances,
    "relations": relations,
    "utility": utility,
    "privacy": privacy,
}


def check(
    density: Density,
    test: Any,
    train: Any = None,
    *,
    context: Any = None,
    train_context: Any = None,
    columns: Sequence[str] | None = None,
    row_numbers: Sequence[int] | None = None,
    questions: Sequence[str] = tuple(QUESTIONS),
    max_rows: int = 10_000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Judges a density by rows that it was not fitted to.

    Three questions, each answered good, doubtful, bad or cannot tell, with one sentence why:

    - ranking: may I rank rows by how likely they are? It must be no worse than simple densities on held-out rows
      (Gaussian, mixtures, latent classes, kernels), and be a density at all: exact maps, an integral of 1. Whether the
      unlikely rows are the outliers that one looks for, only labelled rows tell.
    - probabilities: may I use its probabilities? Besides, held-out rows must fall where it says: in regions of highest
      density, in latent space, in the tails.
    - samples: may I use its samples in place of the data? A classifier must take them for real rows; columns,
      dependence, ranges, relations and rare categories must be those of the data; models that learn from them must do
      as well on held-out rows; and they must not give away single training rows.

    `pushforward.checks.thresholds` holds the limits of all findings in one table, which docs/verdicts.md shows. With
    rows drawn from the model itself, at most 3 of 100 checks call a question doubtful or bad.

    Args:
        density: any density: a flow, a mixture, the density of a table, ...
        test: held-out rows, in data units, as its space reads them: rows that the training has not seen, not even for
            validation.
        train: rows that it was trained on: baselines are fitted to them, and samples are compared with them. Without
            them, baselines are fitted crosswise to halves of the test rows.
        context: (N, K) or (N, *context_dim), of the test rows, where the density is conditional on numbers beside its
            rows.
        train_context: (M, K) or (M, *context_dim), of the training rows.
        columns: names for the report, in place of the space's.
        row_numbers: (N,), what the report calls the test rows by; 0 to N - 1 when None.
        questions: which to answer: "ranking", "probabilities", "samples", of which the last costs most.
        max_rows: of more test rows, so many drawn at random are used beyond likelihood and tails.
        seed: of every random step.
        progress: a function that is called with the name of each step as it begins.

    Returns:
        A `Report`: `answers`, sections of evidence by name, `text()`, `to_json()` and `to_html(path)`.

    Raises:
        ImportError: there is no scipy.
        ValueError: rows, names, questions or context do not fit, or rows hold values that are not finite.

    Example:
        >>> from pushforward import Chain, Flow
        >>> rng = np.random.default_rng(0)
        >>> report = check(Flow(Chain(), 1), rng.normal(size=(500, 1)), questions=["ranking", "probabilities"])
        >>> report.verdicts
        {'ranking': 'good', 'probabilities': 'good'}
    """
    began = time.perf_counter()
    try:
        import scipy  # noqa: F401
    except ImportError:
        raise ImportError('a check needs scipy: pip install "pushforward[check]"') from None
    if max_rows < 1:
        raise ValueError(f"max_rows must be at least 1, got {max_rows}")
    asked = [name for name in QUESTIONS if name in questions]
    if isinstance(questions, str) or not asked or len(asked) < len(set(questions)):
        raise ValueError(f"questions must be some of {', '.join(QUESTIONS)}, got {questions!r}")
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
    progress = progress or (lambda step: None)
    progress("log-densities")
    evidence = gather(density, names, rows, known, numbers=numbers, max_rows=max_rows, seed=as_seed(seed))
    return _reported(evidence, asked, began, progress)


def _reported(e: Evidence, asked: list[str], began: float, progress: Callable[[str], None]) -> Report:
    """The sections that the questions need, and the answers."""
    needed = {t.section for t in THRESHOLDS if set(t.questions) & set(asked)}
    sections = []
    for name, section in _SECTIONS.items():
        if name in needed:
            progress(name.replace("_", " "))
            sections.append(section(e))
    findings = [finding for section in sections for finding in section.findings]
    missing = {section.name: section.missing for section in sections}
    answers = {name: answer(name, findings, missing) for name in asked}
    about = {
        "rows": len(e.log_all),
        "used": len(e.test),
        "train_rows": 0 if e.train is None else len(e.train),
        "columns": len({feature.column for feature in e.feature_list if feature.column < len(e.names)}),
        "names": e.names,
        "samples": len(e.samples),
        "seed": e.seed,
        "seconds": time.perf_counter() - began,
    }
    data = _plot_data(e, "likelihood" in needed)
    return Report(answers, sections, about, data, e.log_all, e.density.space.words)


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


def _plot_data(e: Evidence, scored: bool) -> dict[str, Any]:
    """What the pictures of a report need beyond its sections, log-densities of all sorts of rows if wanted."""
    test, _, samples = e.compared
    logs = {"log_test": e.log_test, "log_train": e.log_train, "log_samples": e.log_samples} if scored else {}
    return logs | {
        "names": [feature.name for feature in e.varying_features],
        "indicator": [feature.indicator for feature in e.varying_features],
        "test": e.features(test)[:, e.varying],
        "samples": e.features(samples)[:, e.varying],
        "pictures": {
            name: e.density.space.as_pictures(rows[np.arange(min(len(rows), _PICTURES))].values)
            for name, rows in (("held-out rows", test), ("samples", samples))
        },
    }
