"""Utility: models of single columns that learn from samples, tested on held-out rows, beside ones that learn from data.

The protocol of Esteban et al. 2017, "train on synthetic, test on real". For each of some columns extremely randomised
trees predict it from all others: numbers as their ranks, categories as the probabilities of the common ones, so that
each has an explained share of variance. All is done in parts that share no row, the spread of which tells chance.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .evidence import Evidence
from .report import Section
from .stats import ALPHA, BAD, DOUBTFUL, UNKNOWN, Array, placements
from .thresholds import rate

_PARTS = 5
_LEAST = 200  # rows of each side
_ROWS = 4000  # of each side
_COLUMNS = 6
_TREES = 30
_LEARNABLE = 0.05  # explained share of variance below which a column depends on no other
_CLASSES = 5  # common categories of a column


def utility(e: Evidence) -> Section:
    """How much worse a column of held-out rows is predicted by what learned from samples."""
    section = Section("utility", "Utility of samples")
    columns = _targets(e)
    if e.train is None:
        section.missing = "the training rows are not known: give them, too"
    elif min(len(e.train), len(e.test), len(e.samples)) < _LEAST:
        section.missing = f"at least {_LEAST} training rows and held-out rows are needed to compare models of columns"
    elif len(columns) < 1 or len({f.column for f in e.varying_features}) < 2:
        section.missing = "there is no second column that varies"
    else:
        try:
            import sklearn.ensemble  # noqa: F401
        except ImportError:
            section.missing = 'it needs scikit-learn: pip install "pushforward[check]"'
            return section
        _compare(e, columns, section)
    return section


def _targets(e: Evidence) -> list[int]:
    """The modelled columns that vary; of many, some in equal steps."""
    given = {e.feature_list[i].column for i in e.given_features}
    columns = sorted({f.column for f in e.varying_features} - given)
    places = np.linspace(0, len(columns) - 1, min(len(columns), _COLUMNS)).round().astype(int)
    return [columns[i] for i in dict.fromkeys(places.tolist())]


def _compare(e: Evidence, columns: list[int], section: Section) -> None:
    from scipy.stats import t

    assert e.train is not None
    size = min(len(e.train), len(e.samples), _ROWS)
    rng = e.rng(6)
    real = e.standard(e.train[rng.permutation(len(e.train))[:size]])
    drawn = e.standard(e.samples[np.arange(size)])
    test = e.standard(e.test[rng.permutation(len(e.test))[:_ROWS]])
    parts = list(zip(*(np.array_split(x, _PARTS) for x in (real, drawn, test)), strict=True))
    scores = []
    for column in columns:
        own = [i for i, f in enumerate(e.varying_features) if f.column == column]
        indicator = all(e.varying_features[i].indicator for i in own)
        scores.append(
            [
                [_explained(x, holdout, own, indicator, e.seed) for x in (train, samples)]
                for train, samples, holdout in parts
            ]
        )
    table = np.array(scores)  # (columns, parts, real and samples)
    means = table.mean(1)
    learnable = means.max(1) > _LEARNABLE
    if not learnable.any():
        section.missing = "no column can be told from the others, in the data either"
        return
    names = [e.names[column] for column in columns]
    loss = (table[..., 0] - table[..., 1])[learnable].mean(0)  # (parts,)
    value, noise = float(loss.mean()), float(loss.std(ddof=1) / math.sqrt(_PARTS) * t(_PARTS - 1).isf(ALPHA))
    section.figures |= {
        "columns": {n: {"real": r, "samples": s} for n, (r, s) in zip(names, means.tolist(), strict=True)},
        "loss": value, "noise": noise,
    }  # fmt: skip
    for k in np.flatnonzero(learnable)[np.argsort((means[:, 1] - means[:, 0])[learnable])][:4]:
        remark = f"of {names[k]} is explained by what learned from samples, {100 * means[k, 0]:.0f} % from data"
        section.table.append([names[k], f"{100 * means[k, 1]:.0f} %", remark])
    verdict = rate("utility", value, noise)
    both = [f"{100 * means[learnable, i].mean():.0f} %" for i in (1, 0)]
    why = f"models that learn from samples explain {both[0]} of a column of held-out rows, {both[1]} from data"
    if verdict == UNKNOWN:
        why += ", and chance could hide a difference"
    elif verdict in (BAD, DOUBTFUL):
        worst = int(np.argmax(np.where(learnable, means[:, 0] - means[:, 1], -np.inf)))
        why += f"; most is lost for {names[worst]}"
    section.add("utility", verdict, why)


def _explained(train: Array, test: Array, own: list[int], indicator: bool, seed: int) -> float:
    """The share of variance of the columns `own` of test (M, F) that trees explain which learned from train (N, F)."""
    from sklearn.ensemble import ExtraTreesRegressor

    y, truth = train[:, own], test[:, own]
    if indicator:
        y, truth = (part[:, np.argsort(-(test[:, own] > 0).mean(0))[:_CLASSES]] > 0 for part in (y, truth))
    else:  # as ranks among the held-out rows: far outliers would decide all else
        y, truth = (
            np.stack([placements(b, a) for a, b in zip(p.T, test[:, own].T, strict=True)], 1) for p in (y, truth)
        )
    options: Any = {"min_samples_leaf": 3, "max_features": 0.5}
    model = ExtraTreesRegressor(_TREES, random_state=seed, **options)
    others = np.delete(np.arange(train.shape[1]), own)
    target = y[:, 0] if y.shape[1] == 1 else y  # trees warn of a single column
    predicted = model.fit(train[:, others], target.astype(float)).predict(test[:, others]).reshape(truth.shape)
    total = float(((truth - truth.mean(0)) ** 2).sum())
    return 1 - float(((truth - predicted) ** 2).sum()) / total if total > 0 else 0.0
