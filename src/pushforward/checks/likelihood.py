"""Held-out log-density beside what simple densities reach on the same rows: a Gaussian, a mixture, a kernel density."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np

from .evidence import Scored
from .mixture import fit_mixture, gaussian_log_prob, kde_log_prob
from .report import Section
from .stats import BAD, DOUBTFUL, GOOD, UNKNOWN, Array, judge, mean_and_se
from .subject import take

_GOOD, _BAD = 0.02, 0.2  # nats per row below the best baseline
_KDE_COLUMNS = 6
_FIT_ROWS = 20_000
_LEAST = 20
_IMPOSSIBLE = 0.05  # share of held-out rows with cells never seen, beyond which the training rows were no fair sample
_FEW = 0.002  # share of rows that must not decide a mean

Scores = dict[str, Array]


def likelihood(e: Scored) -> Section:
    """Nats per row of held-out rows, and the paired differences from the baselines."""
    mean, se = mean_and_se(e.log_all)
    figures: dict[str, Any] = {"rows": len(e.log_all), "mean": mean, "se": se, "median": float(np.median(e.log_all))}
    table = [["model", _pm(mean, se), f"nats per row, on {len(e.log_all):,} held-out rows"]]
    lost = int((~np.isfinite(e.log_all)).sum())
    figures["not_finite"] = lost
    section = Section("likelihood", "Held-out likelihood", UNKNOWN, "", table, figures)
    figures["baselines"] = found = {}
    figures["repeated_values"], figures["impossible"] = e.tied, e.impossible
    note = _tie_note(e.tied)
    share = e.impossible / (e.impossible + len(e.log_all))
    if e.impossible:
        said = f"{e.impossible:,} more held-out rows are impossible to the model, as by a category it never saw"
        table.append(["left out", f"{100 * share:.2g} %", said])
        note = f"; {said}" + note
    if lost:
        first = int(e.numbers[np.flatnonzero(~np.isfinite(e.log_all))[0]])
        section.verdict = BAD
        section.why = f"{lost:,} held-out rows have no finite log-density, the first of them is row {first}"
        return section
    if e.constant:
        section.why = f"column {e.constant[0]} is constant, and the density of a constant has no bound to compare with"
        return section
    if len(e.test) < _LEAST:
        section.why = f"{len(e.test)} held-out rows are too few to fit baselines to and to compare with"
        return section

    scores = _baselines(e)
    for name, (label, values) in scores.items():
        own, own_se = mean_and_se(values)
        gain, gain_se = mean_and_se(e.log_test - values)
        found[name] = {"mean": own, "se": own_se, "gain": gain, "gain_se": gain_se, "label": label}
        side = "above" if gain >= 0 else "below"
        table.append([label, _pm(own, own_se), f"the model is {_pm(abs(gain), gain_se)} {side} it"])
    if e.log_train is not None:
        train_mean, train_se = mean_and_se(e.log_train)
        figures["train_mean"], figures["train_se"] = train_mean, train_se
        table.append(["model, training rows", _pm(train_mean, train_se), _gap_note(mean, se, train_mean, train_se)])
    if not found:
        lacks = importlib.util.find_spec("sklearn") is None
        needed = 'baselines need scikit-learn: pip install "pushforward[sklearn]"'
        section.why = (needed if lacks else "no baseline could be fitted to these rows") + note
        return section
    best = min(found, key=lambda name: found[name]["gain"])
    section.verdict, section.why = _verdict(e.log_test - scores[best][1], found[best], figures)
    section.why += note
    if share > _IMPOSSIBLE and section.verdict in (GOOD, UNKNOWN):
        section.verdict = DOUBTFUL
    return section


def _verdict(gains: Array, best: dict[str, Any], figures: dict[str, Any]) -> tuple[str, str]:
    """-> the verdict and why, from the paired gains (N,) over the best baseline."""
    label, gain, se = best["label"], best["gain"], best["gain_se"]
    verdict = judge(-gain, 2.6 * se, _GOOD, _BAD)
    # One row at -1e9 makes any mean meaningless; what holds for all others is worth knowing.
    few = max(1, round(_FEW * len(gains)))
    most = gains[np.argsort(abs(gains - np.median(gains)))[:-few]]
    trimmed, trimmed_se = mean_and_se(most)
    figures["gain_without_few"] = {"gain": trimmed, "se": trimmed_se, "rows_left_out": few}
    difference = f"{_short(abs(gain))} +- {_short(se)} nats per row"
    decided = abs(trimmed - gain) > 0.1 + 2.6 * trimmed_se and judge(-trimmed, 2.6 * trimmed_se, _GOOD, _BAD) == GOOD
    if verdict != GOOD and decided:
        rows, them = ("one row costs", "it") if few == 1 else (f"{few} rows cost", "them")
        side = "above" if trimmed >= 0 else "below"
        return DOUBTFUL, (
            f"{rows} {_short(trimmed - gain)} nats per row on average; without {them} the model is "
            f"{_short(abs(trimmed))} +- {_short(trimmed_se)} {side} the best baseline ({label})"
        )
    if verdict == UNKNOWN:
        return verdict, f"{difference} from the best baseline ({label}): more held-out rows are needed"
    if verdict in (DOUBTFUL, BAD):
        return verdict, f"{label} does better, by {difference}"
    if gain > 2.6 * se:
        return verdict, f"above the best baseline ({label}) by {difference}"
    return verdict, f"level with the best baseline ({label}): {difference} apart"


def _baselines(e: Scored) -> dict[str, tuple[str, Array]]:
    """Log-densities (N,) of `e.test` under each baseline, fitted to training rows or crosswise to its two halves."""
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


def _fitted(e: Scored, fit: Any, rows: Any) -> dict[str, tuple[str, Array]]:
    """name -> label, log-densities of rows; a baseline that cannot be fitted is left out."""
    x, y = e.subject.matrix(fit), e.subject.matrix(rows)
    if x is None or y is None:
        return e.subject.baselines(fit, rows, e.seed)
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


def _tie_note(tied: list[str]) -> str:
    if not tied:
        return ""
    shown = ", ".join(tied[:4]) + (" ..." if len(tied) > 4 else "")
    return f"; beware: values repeat in {shown}, and on repeated values a continuous log-density has no upper bound"


def _gap_note(mean: float, se: float, train: float, train_se: float) -> str:
    gap, error = train - mean, math.hypot(se, train_se)
    return f"{_pm(abs(gap), error)} {'above' if gap >= 0 else 'below'} the held-out rows"


def _pm(mean: float, se: float) -> str:
    return f"{_short(mean, 4)} +- {_short(se, 4)}" if math.isfinite(se) else _short(mean, 4)


def _short(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if abs(value) < 1e4 else f"{value:.3g}"
