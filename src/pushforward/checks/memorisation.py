"""Memorisation: whether samples lie closer to training rows than held-out rows do (Meehan et al. 2020)."""

from __future__ import annotations

import math

import numpy as np

from .evidence import Evidence
from .report import Section
from .stats import BAD, DOUBTFUL, UNKNOWN, Array, auc, judge, mean_and_se, worst

_LEAST = 40
_QUERIES, _NEIGHBOURS = 2000, 40_000
_CLOSER = (0.06, 0.2)  # good, bad: P(sample closer than held-out row) - 1/2
_COPIED = (0.02, 0.1)  # samples closer to a training row than all but 1 % of the held-out rows are


def memorisation(e: Evidence) -> Section:
    """Distances to the nearest training row, of samples and held-out rows, and how much likelier training rows are."""
    section = Section("memorisation", "Memorisation", UNKNOWN, "")
    if e.train is None:
        section.why = "the training rows are not known: give them, too"
        return section
    size = min(len(e.test), len(e.samples), _QUERIES)
    if size < _LEAST or len(e.train) < _LEAST or not e.varying:
        section.why = "there are too few rows to compare nearest neighbours"
        return section
    rng = e.rng(5)
    train = e.standard(e.train[rng.permutation(len(e.train))[:_NEIGHBOURS]])
    test = e.standard(e.test[rng.permutation(len(e.test))[:size]])
    of_test, of_samples = _nearest(test, train), _nearest(e.standard(e.samples[np.arange(size)]), train)
    closer, se = auc(of_samples, of_test)
    close = np.quantile(of_test, 0.01)
    copied, expected = float((of_samples < close).mean()), float((of_test < close).mean())
    copies, leaked = float((of_samples == 0).mean()), float((of_test == 0).mean())
    counts = np.unique(test, axis=0, return_counts=True)[1]
    repeated = float(counts[counts > 1].sum() / size)
    section.figures |= {
        "closer": closer, "se": se, "copied": copied, "copied_expected": expected, "exact_copies": copies,
        "test_rows_in_train": leaked, "median_distance": float(np.median(of_samples)),
        "test_median_distance": float(np.median(of_test)),
    }  # fmt: skip
    section.plot_data |= {"test": of_test, "samples": of_samples}
    medians = f"{np.median(of_samples):.3g} against {np.median(of_test):.3g}"
    _list(section, medians)
    if leaked > max(0.5, 2 * repeated):
        section.verdict = BAD
        section.why = f"{100 * leaked:.0f} % of the held-out rows are training rows: all figures here are too good"
        return section
    noise = 2.6 * math.sqrt(0.01 / size) + 2 / size
    verdicts = [
        judge(closer - 0.5, 2.6 * se, *_CLOSER),
        judge(copied - expected, noise, *_COPIED),
        _fit_gap(e, section),
    ]
    section.verdict = worst(verdicts)
    if section.verdict not in (BAD, DOUBTFUL):
        section.why = f"samples lie no nearer to training rows than held-out rows do ({medians} spreads)"
    elif section.verdict in verdicts[:2]:
        section.why = f"samples lie closer to the training rows than held-out rows do ({medians} spreads)"
    else:
        likelier = "training rows are far likelier than held-out ones"
        section.why = f"{likelier}: the model is overfitted, though no sample is a copy"
    return section


def _list(section: Section, medians: str) -> None:
    """Tells of the distances."""
    f = section.figures
    closer = "of pairs have the sample nearer to a training row than the held-out row; 50 is chance"
    exact = f"{100 * f['exact_copies']:.2f} % are exact copies"
    copies = f"of samples are nearer than the nearest 1 % of held-out rows; {exact}"
    section.table += [
        ["samples closer", f"{100 * f['closer']:.1f} +- {100 * f['se']:.1f} %", closer],
        ["median distance", medians, "spreads from samples and held-out rows to the nearest training row"],
        ["near copies", f"{100 * f['copied']:.2f} %", copies],
    ]  # fmt: skip


def _fit_gap(e: Evidence, section: Section) -> str:
    """A verdict on how much likelier training rows are than held-out rows."""
    if e.log_train is None:
        return UNKNOWN
    (train, train_se), (test, test_se) = mean_and_se(e.log_train), mean_and_se(e.log_all)
    gap, noise = train - test, 2.6 * math.hypot(train_se, test_se)
    section.figures |= {"fit_gap": gap, "fit_gap_se": noise / 2.6}
    section.table.append(["fit gap", f"{gap:.4g} +- {noise / 2.6:.2g}", "nats that training rows are likelier by"])
    if not math.isfinite(gap):
        return UNKNOWN
    # Overfitting costs held-out likelihood, which has a section of its own: here it is never worse than doubtful.
    much = 0.3 * math.sqrt(len(e.names))
    verdict = judge(gap, noise, much, 10 * much)
    return DOUBTFUL if verdict == BAD else verdict


def _nearest(rows: Array, others: Array) -> Array:
    """Distances (N,) from rows (N, F) to the nearest of others (M, F)."""
    from scipy.spatial import KDTree

    return KDTree(others).query(rows, workers=-1)[0]
