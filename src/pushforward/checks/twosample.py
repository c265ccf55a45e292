"""A classifier between samples and held-out rows, and between two sets of real rows (Lopez-Paz, Oquab 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from .evidence import Evidence
from .report import Section
from .stats import BAD, DOUBTFUL, UNKNOWN, Array, auc, judge

_EXCESS = (0.05, 0.15)  # good, bad: ROC AUC above that of real rows against real rows
_FOLDS = 5
_LEAST = 40
_ROTATED_COLUMNS = 64


def two_sample(e: Evidence) -> Section:
    """How well gradient-boosted trees tell samples from held-out rows, and one set of real rows from another."""
    section = Section("two_sample", "Classifier two-sample test", UNKNOWN, "")
    size = len(e.held)
    if e.lost:
        drawn = e.lost + len(e.samples)
        section.table.append(["samples", f"{100 * e.lost / drawn:.2g} %", "of the samples are no finite numbers"])
        section.figures["samples_not_finite"] = e.lost / drawn
        if e.lost > 0.001 * drawn:
            section.verdict, section.why = BAD, f"{e.lost:,} of {drawn:,} samples are no finite numbers"
            return section
    if min(size, len(e.fake)) < _LEAST:
        section.why = f"{size} rows on each side are too few to train a classifier on"
        return section
    if not e.encoder.varying:
        section.why = "all columns are constant"
        return section
    try:
        import sklearn  # noqa: F401
    except ImportError:
        section.why = 'the classifier needs scikit-learn: pip install "pushforward[check]"'
        return section
    held, other, fake = (e.encoder.standard(part) for part in (e.held, e.other, e.fake))
    owners = [e.encoder.owner[i] for i in e.encoder.varying]
    ours = _compare(held, fake, e, owners)
    real = _compare(held, other, e, None)
    section.figures |= {"rows": size, "auc": ours["auc"], "se": ours["se"], "real_auc": real["auc"]}
    section.figures |= {"real_se": real["se"], "telling_columns": ours["telling"]}
    section.drawn["roc"] = {"samples": ours["scores"], "real rows": real["scores"]}
    section.table += [
        ["samples", f"{ours['auc']:.3f} +- {ours['se']:.3f}", f"ROC AUC against {size:,} held-out rows; 0.5 is chance"],
        ["real rows", f"{real['auc']:.3f} +- {real['se']:.3f}", f"ROC AUC of {e.other_is} against the same rows"],
    ]
    if ours["telling"] and ours["auc"] - 0.5 > 3 * ours["se"]:
        shown = ", ".join(f"{t['column']} ({t['drop']:.3f})" for t in ours["telling"][:5])
        section.table.append(["told apart by", "", f"{shown}: the AUC lost when the column is shuffled"])
    excess = ours["auc"] - max(real["auc"], 0.5)
    noise = 2.6 * math.hypot(ours["se"], real["se"])
    section.verdict = judge(excess, noise, *_EXCESS)
    figures = f"AUC {ours['auc']:.3f}, where two sets of real rows give {real['auc']:.3f}"
    if section.verdict == UNKNOWN:
        section.why = f"{figures}, but with {size} rows chance alone could hide a difference"
    elif section.verdict in (BAD, DOUBTFUL):
        column = ours["telling"][0]["column"] if ours["telling"] else None
        by = f", mostly by {column}" if column else ""
        by += ", the values of which repeat as those of a continuous density never do" if column in e.tied else ""
        section.why = f"samples are told from real rows{by}: {figures}"
    else:
        section.why = f"samples pass for real rows: {figures}"
    return section


def _compare(held: Array, other: Array, e: Evidence, owners: list[int] | None) -> dict[str, Any]:
    """Cross-validated AUC between two sets of rows (N, E) and (M, E); with owners, which columns tell them apart."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    x = np.concatenate([held, other])
    y = np.repeat([0, 1], [len(held), len(other)])
    rotated = _rotations(x)
    rng = e.rng(4)
    fold = np.empty(len(y), int)
    for label in (0, 1):
        members = np.flatnonzero(y == label)
        fold[rng.permutation(members)] = np.arange(len(members)) % _FOLDS
    areas, scores, drops = [], np.empty(len(y)), {}
    inputs = np.hstack([x, rotated(x)])
    for k in range(_FOLDS):
        out = fold == k
        model = HistGradientBoostingClassifier(
            max_iter=80, learning_rate=0.1, max_leaf_nodes=16, min_samples_leaf=15, early_stopping=cast(Any, False),
            random_state=e.seed,
        )  # fmt: skip
        model.fit(inputs[~out], y[~out])
        scores[out] = model.decision_function(inputs[out])
        areas.append(auc(scores[out & (y == 0)], scores[out & (y == 1)]))
        if k == 0 and owners is not None:
            drops = _drops(model.decision_function, x[out], y[out], rotated, owners, areas[0][0], rng)
    # Scores of different folds are not on one scale: areas are averaged, not scores.
    telling = sorted(({"column": e.subject.names[c], "drop": d} for c, d in drops.items()), key=lambda t: -t["drop"])
    return {
        "auc": float(np.mean([a for a, _ in areas])),
        "se": math.sqrt(sum(s**2 for _, s in areas)) / _FOLDS,
        "telling": [t for t in telling if t["drop"] > 0.005][:10],
        "scores": (scores[y == 0], scores[y == 1]),
    }


def _rotations(x: Array) -> Callable[[Array], Array]:
    """Principal components and the length of the whitened row: trees cut along columns, and miss what lies across."""
    if x.shape[1] < 2 or x.shape[1] > _ROTATED_COLUMNS:
        return lambda rows: np.empty((len(rows), 0))
    # Ranks would be safer against far outliers; clipping does as much and keeps the map linear in the middle.
    centre = x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(np.clip(x, -10, 10).T))
    whiten = vectors / np.sqrt(np.maximum(values, 1e-8 * values.max()))

    def rotated(rows: Array) -> Array:
        z = (rows - centre) @ whiten
        return np.hstack([z, (z**2).sum(1, keepdims=True)])

    return rotated


def _drops(
    decide: Callable[[Array], Array],
    x: Array,
    y: Array,
    rotated: Callable[[Array], Array],
    owners: list[int],
    full: float,
    rng: np.random.Generator,
) -> dict[int, float]:
    """column -> how much of the AUC is lost when the column is shuffled among the rows."""
    drops = {}
    for column in sorted(set(owners)):
        shuffled = x.copy()
        of_it = [i for i, owner in enumerate(owners) if owner == column]
        shuffled[:, of_it] = x[rng.permutation(len(x))][:, of_it]
        scores = decide(np.hstack([shuffled, rotated(shuffled)]))
        drops[column] = full - auc(scores[y == 0], scores[y == 1])[0]
    return drops
