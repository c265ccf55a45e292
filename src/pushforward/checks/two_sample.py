"""A classifier between samples and held-out rows, and between two sets of real rows (Lopez-Paz, Oquab 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .evidence import Evidence
from .report import Section
from .stats import BAD, DOUBTFUL, UNKNOWN, Array, auc, normal_noise
from .thresholds import enough, rate

_FOLDS = 5
_LEAST = 40
_ROTATED_COLUMNS = 64


@dataclass
class _Comparison:
    """How well two sets of rows (N, F) and (M, F) are told apart.

    Attributes:
        auc, se: area under the ROC curve in cross-validation, and its standard error.
        scores: of the rows of each set, by classifiers that did not see them.
        drops: by the number of a column, how much of the area is lost when it is shuffled.
    """

    auc: float
    se: float
    scores: tuple[Array, Array]
    drops: dict[int, float]


def two_sample(e: Evidence) -> Section:
    """How well gradient-boosted trees tell samples from held-out rows, and one set of real rows from another."""
    section = Section("two_sample", "Classifier two-sample test")
    if e.lost:
        drawn = e.lost + len(e.samples)
        section.table.append(["samples", f"{100 * e.lost / drawn:.3g} %", "of the samples are no finite numbers"])
        section.figures["samples_not_finite"] = e.lost / drawn
        section.add("lost", rate("lost", e.lost / drawn, 0), f"{e.lost:,} of {drawn:,} samples are no finite numbers")
    size = len(e.compared[0])
    if min(size, len(e.compared[2])) < _LEAST:
        section.missing = f"{size} rows on each side are too few to train a classifier on"
        return section
    if not e.varying:
        section.missing = "all columns are constant"
        return section
    try:
        import sklearn.ensemble  # noqa: F401
    except ImportError:
        section.missing = 'the classifier needs scikit-learn: pip install "pushforward[check]"'
        return section
    test, other, samples = (e.standard(part) for part in e.compared)
    columns = np.array([feature.column for feature in e.varying_features])
    ours, real = _compare(test, samples, e.seed, columns), _compare(test, other, e.seed)
    every = [*e.names, *(f.name for f in e.feature_list if f.column >= len(e.names))]
    telling = [
        {"column": every[column], "drop": drop}
        for column, drop in sorted(ours.drops.items(), key=lambda item: -item[1])
        if drop > 0.005
    ][:10]
    section.figures |= {"rows": size, "auc": ours.auc, "se": ours.se, "real_auc": real.auc, "real_se": real.se}
    section.figures["telling_columns"] = telling
    section.plot_data["roc"] = {"samples": ours.scores, "real rows": real.scores}
    section.table += [
        ["samples", f"{ours.auc:.3f} +- {ours.se:.3f}", f"ROC AUC against {size:,} held-out rows; 0.5 is chance"],
        ["real rows", f"{real.auc:.3f} +- {real.se:.3f}", f"ROC AUC of {e.other_is} against the same rows"],
    ]
    if telling and ours.auc - 0.5 > 3 * ours.se:
        shown = ", ".join(f"{t['column']} ({t['drop']:.3f})" for t in telling[:5])
        section.table.append(["told apart by", "", f"{shown}: the AUC lost when the column is shuffled"])
    noise = normal_noise() * math.hypot(ours.se, real.se)
    verdict = rate("classifier", ours.auc - max(real.auc, 0.5), noise)
    why = _why(verdict, ours, real, telling[0]["column"] if telling else None, e.tied)
    if verdict == UNKNOWN:
        more = enough("classifier", noise, size, e.total)
        why += f", and {size} held-out rows cannot tell whether that is chance{more}"
    section.add("classifier", verdict, why)
    return section


def _why(verdict: str, ours: _Comparison, real: _Comparison, column: str | None, tied: list[str]) -> str:
    figures = f"AUC {ours.auc:.2f}, where .5 is chance and two sets of real rows have {real.auc:.2f}"
    if verdict == UNKNOWN:
        return f"a classifier tells samples from real rows with {figures}"
    if verdict in (BAD, DOUBTFUL):
        by = f", mostly by {column}" if column else ""
        by += ", the values of which repeat as those of a continuous density never do" if column in tied else ""
        return f"a classifier tells samples from real rows{by}: {figures}"
    return f"a classifier hardly tells samples from real rows: {figures}"


def _compare(test: Array, other: Array, seed: int, columns: Any = None) -> _Comparison:
    """Cross-validated comparison of rows (N, F) and (M, F); drops where the column of each feature (F,) is given."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_validate

    x = np.concatenate([test, other])
    y = np.repeat([0, 1], [len(test), len(other)])
    rotated = _rotations(x)
    inputs = np.hstack([x, rotated(x)])
    options: Any = {"early_stopping": False}
    model = HistGradientBoostingClassifier(
        max_iter=80, learning_rate=0.1, max_leaf_nodes=16, min_samples_leaf=15, random_state=seed, **options
    )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    fitted = cross_validate(model, inputs, y, cv=folds, return_estimator=True, return_indices=True)
    scores, areas, drops = np.empty(len(y)), [], {}
    for estimator, out in zip(fitted["estimator"], fitted["indices"]["test"], strict=True):
        scores[out] = estimator.decision_function(inputs[out])
        # Scores of different folds are not on one scale: areas are averaged, not scores.
        areas.append(auc(scores[out][y[out] == 0], scores[out][y[out] == 1]))
        if columns is not None and not drops:
            decide = estimator.decision_function
            drops = _drops(decide, x[out], y[out], rotated, columns, areas[0][0], np.random.default_rng([seed, 4]))
    se = math.sqrt(sum(s**2 for _, s in areas)) / _FOLDS
    return _Comparison(float(np.mean([a for a, _ in areas])), se, (scores[y == 0], scores[y == 1]), drops)


def _rotations(x: Array) -> Callable[[Array], Array]:
    """Principal components and the length of the whitened row: trees cut along columns, and miss what lies across."""
    from sklearn.decomposition import PCA

    if x.shape[1] < 2 or x.shape[1] > _ROTATED_COLUMNS:
        return lambda rows: np.empty((len(rows), 0))
    # Clipped, as far outliers would decide on the components.
    pca = PCA(1 - 1e-9, svd_solver="full", whiten=True).fit(np.clip(x, -10, 10))

    def rotated(rows: Array) -> Array:
        z = pca.transform(rows)
        return np.hstack([z, (z**2).sum(1, keepdims=True)])

    return rotated


def _drops(
    decide: Callable[[Array], Array],
    x: Array,
    y: Array,
    rotated: Callable[[Array], Array],
    columns: Any,
    full: float,
    rng: np.random.Generator,
) -> dict[int, float]:
    """By column, how much of the full AUC is lost when its features are shuffled among the rows x (N, F)."""
    drops = {}
    for column in np.unique(columns).tolist():
        shuffled = x.copy()
        shuffled[:, columns == column] = x[rng.permutation(len(x))][:, columns == column]
        scores = decide(np.hstack([shuffled, rotated(shuffled)]))
        drops[column] = full - auc(scores[y == 0], scores[y == 1])[0]
    return drops
