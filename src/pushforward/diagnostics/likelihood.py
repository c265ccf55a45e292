"""Held-out log-density beside what simple densities reach on the same rows: a Gaussian, a mixture, a kernel density."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .evidence import Evidence
from .mixture import fit_mixture, gaussian_log_prob, kde_log_prob
from .report import Section
from .stats import BAD, DOUBTFUL, UNKNOWN, Array, judge, mean_and_se
from .subject import take

_GOOD, _BAD = 0.02, 0.2  # nats per row below the best baseline
_KDE_COLUMNS = 6
_FIT_ROWS = 20_000
_TIED = 0.5  # share of repeated values beyond which a column counts as quantised
_LEAST = 20

Scores = dict[str, Array]


def likelihood(e: Evidence) -> Section:
    """Nats per row of held-out rows, and the paired differences from the baselines."""
    mean, se = mean_and_se(e.log_all)
    figures: dict[str, Any] = {"rows": len(e.log_all), "mean": mean, "se": se, "median": float(np.median(e.log_all))}
    table = [["model", _pm(mean, se), f"nats per row, on {len(e.log_all):,} held-out rows"]]
    lost = int((~np.isfinite(e.log_all)).sum())
    figures["not_finite"] = lost
    section = Section("likelihood", "Held-out likelihood", UNKNOWN, "", table, figures)
    figures["baselines"] = found = {}
    tied = _tied(e)
    figures["tied_columns"] = tied
    note = _tie_note(tied)
    if lost:
        first = int(e.index[np.flatnonzero(~np.isfinite(e.log_test))[0]]) if not np.isfinite(e.log_test).all() else -1
        where = f", row {first} among them" if first >= 0 else ""
        section.verdict, section.why = BAD, f"{lost:,} held-out rows have no finite log-density{where}"
        return section
    if e.constant:
        section.why = f"column {e.constant[0]} is constant, and the density of a constant has no bound to compare with"
        return section
    if len(e.test) < _LEAST:
        section.why = f"{len(e.test)} held-out rows are too few to fit baselines to and to compare with"
        return section

    for name, (label, values) in _baselines(e).items():
        own, own_se = mean_and_se(values)
        gain, gain_se = mean_and_se(e.log_test - values)
        found[name] = {"mean": own, "se": own_se, "gain": gain, "gain_se": gain_se, "label": label}
        table.append([label, _pm(own, own_se), f"the model is {_pm(gain, gain_se, sign=True)} above it"])
    if e.log_train is not None:
        train_mean, train_se = mean_and_se(e.log_train)
        figures["train_mean"], figures["train_se"] = train_mean, train_se
        table.append(["model, training rows", _pm(train_mean, train_se), _gap_note(mean, se, train_mean, train_se)])
    if not found:
        section.why = "no baseline could be fitted to these rows" + note
        return section
    best = min(found.values(), key=lambda b: b["gain"])
    section.verdict = judge(-best["gain"], 2.6 * best["gain_se"], _GOOD, _BAD)
    difference = f"{abs(best['gain']):.3f} +- {best['gain_se']:.3f} nats per row"
    if section.verdict == UNKNOWN:
        section.why = f"{difference} from the best baseline ({best['label']}): more held-out rows are needed"
    elif section.verdict in (DOUBTFUL, BAD):
        section.why = f"{best['label']} does better, by {difference}"
    elif best["gain"] > 2.6 * best["gain_se"]:
        section.why = f"above the best baseline ({best['label']}) by {difference}"
    else:
        section.why = f"level with the best baseline ({best['label']}): {difference} apart"
    section.why += note
    return section


def _baselines(e: Evidence) -> dict[str, tuple[str, Array]]:
    """Log-densities (N,) of `e.test` under each baseline, fitted to training rows, or crosswise to halves of the test."""
    rng = e.rng(1)
    if e.train is not None and len(e.train) >= _LEAST:
        return _fitted(e, take(e.train, rng.permutation(len(e.train))[:_FIT_ROWS]), e.test)
    order = rng.permutation(len(e.test))
    halves = np.array_split(order, 2)
    parts = [_fitted(e, take(e.test, fit), take(e.test, score)) for fit, score in (halves, halves[::-1])]
    scores = {}
    for name in parts[0].keys() & parts[1].keys():
        values = np.empty(len(order))
        for half, part in zip(halves[::-1], parts, strict=True):
            values[half] = part[name][1]
        labels = sorted({part[name][0] for part in parts}, key=len)
        scores[name] = (labels[0] if len(labels) == 1 else f"{labels[0]} / {labels[1].split()[-1]}", values)
    return {name: scores[name] for name in parts[0] if name in scores}


def _fitted(e: Evidence, fit: Any, rows: Any) -> dict[str, tuple[str, Array]]:
    """name -> label, log-densities of rows; a baseline that cannot be fitted is left out."""
    x, y = e.subject.matrix(fit), e.subject.matrix(rows)
    if x is None or y is None:
        return e.subject.baselines(fit, rows, e.seed) if hasattr(e.subject, "baselines") else {}  # type: ignore[attr-defined]
    if bool((x == x[0]).all(0).any()):
        return {}
    width = x.shape[1] - e.subject.given
    conditional = "linear Gaussian" if e.subject.given else "Gaussian, full covariance"
    own = gaussian_log_prob(x, y).numpy()
    if e.subject.given:
        own = own - gaussian_log_prob(x[:, width:], y[:, width:]).numpy()
    found = {"gaussian": (conditional, own)}
    try:
        mixture = fit_mixture(x, e.seed)
    except ImportError:
        pass
    else:
        values = mixture.log_prob(y)
        if e.subject.given:  # p(x | c) = p(x, c) / p(c), both of which a mixture knows
            values = values - mixture.log_prob(y, range(width, x.shape[1]))
        found["mixture"] = (f"Gaussian mixture of {len(mixture.weights)}", values)
    if width <= _KDE_COLUMNS and not e.subject.given:
        values, h = kde_log_prob(x, y, e.seed)
        found["kde"] = (f"kernel density, h = {h:.2g}", values)
    return found


def _tied(e: Evidence) -> list[str]:
    """Columns of numbers most of whose values repeat: a continuous density can grow without bound on them."""
    if e.subject.matrix(e.test) is None:
        return []
    rows = e.encoder.numbers(e.test)
    tied = []
    for i in range(len(e.subject.names) - e.subject.given):
        _, counts = np.unique(rows[:, i], return_counts=True)
        if e.encoder.spread[i] > 0 and counts[counts > 1].sum() > _TIED * len(rows):
            tied.append(e.subject.names[i])
    return tied


def _tie_note(tied: list[str]) -> str:
    if not tied:
        return ""
    shown = ", ".join(tied[:4]) + (" ..." if len(tied) > 4 else "")
    return f"; beware: values repeat in {shown}, and on repeated values a continuous log-density has no upper bound"


def _gap_note(mean: float, se: float, train: float, train_se: float) -> str:
    gap, error = train - mean, math.hypot(se, train_se)
    return f"{gap:+.3f} +- {error:.3f} against the held-out rows"


def _pm(mean: float, se: float, sign: bool = False) -> str:
    text = f"{mean:+.4f}" if sign else f"{mean:.4f}"
    return f"{text} +- {se:.4f}" if math.isfinite(se) else text
