"""Held-out log-density beside what simple densities reach on the same rows: see `baselines`."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import torch

from ..baselines import fit_baselines
from .evidence import Evidence, Rows, as_array
from .report import Section
from .stats import BAD, DOUBTFUL, GOOD, UNKNOWN, Array, judge, mean_and_se

_GOOD, _BAD = 0.02, 0.2  # nats per row below the best baseline
_LEAST = 20
_IMPOSSIBLE = 0.05  # share of held-out rows with cells never seen, beyond which the training rows were no fair sample
_FEW = 0.002  # share of rows that must not decide a mean


def likelihood(e: Evidence) -> Section:
    """Nats per row of held-out rows, and the paired differences from the baselines."""
    mean, se = mean_and_se(e.log_all)
    lost = np.flatnonzero(~np.isfinite(e.log_all))
    figures: dict[str, Any] = {
        "rows": len(e.log_all), "mean": mean, "se": se, "median": float(np.median(e.log_all)), "not_finite": len(lost),
        "baselines": {}, "repeated_values": e.tied, "impossible": e.impossible,
    }  # fmt: skip
    table = [["model", _pm(mean, se), f"nats per row, on {len(e.log_all):,} held-out rows"]]
    section = Section("likelihood", "Held-out likelihood", UNKNOWN, "", table, figures)
    note = _tie_note(e.tied)
    share = e.impossible / (e.impossible + len(e.log_all))
    if e.impossible:
        remark = f"{e.impossible:,} more held-out rows are impossible to the model, as by a category it never saw"
        table.append(["left out", f"{100 * share:.2g} %", remark])
        note = f"; {remark}" + note
    if len(lost):
        rows = f"{len(lost):,} held-out rows have no finite log-density"
        section.verdict, section.why = BAD, f"{rows}, the first of them is row {int(e.numbers[lost[0]])}"
        return section
    if e.constant:
        section.why = f"column {e.constant[0]} is constant, and the density of a constant has no bound to compare with"
        return section
    if len(e.test) < _LEAST:
        section.why = f"{len(e.test)} held-out rows are too few to fit baselines to and to compare with"
        return section
    scores = _baselines(e)
    _list(e, scores, section)
    if importlib.util.find_spec("sklearn") is None:
        note += '; more baselines need scikit-learn: pip install "pushforward[sklearn]"'
    if not scores:
        section.why = "no baseline could be fitted to these rows" + note
        return section
    best = min(scores, key=lambda name: figures["baselines"][name]["gain"])
    section.verdict, section.why = _verdict(e.log_test - scores[best][1], figures["baselines"][best], figures)
    section.why += note
    if share > _IMPOSSIBLE and section.verdict in (GOOD, UNKNOWN):
        section.verdict = DOUBTFUL
    return section


def _list(e: Evidence, scores: dict[str, tuple[str, Array]], section: Section) -> None:
    """Tells of each baseline, and of the training rows."""
    for name, (label, values) in scores.items():
        own, own_se = mean_and_se(values)
        gain, gain_se = mean_and_se(e.log_test - values)
        figures = {"mean": own, "se": own_se, "gain": gain, "gain_se": gain_se, "label": label}
        section.figures["baselines"][name] = figures
        side = "above" if gain >= 0 else "below"
        section.table.append([label, _pm(own, own_se), f"the model is {_pm(abs(gain), gain_se)} {side} it"])
    if e.log_train is not None:
        train, train_se = mean_and_se(e.log_train)
        section.figures |= {"train_mean": train, "train_se": train_se}
        note = _gap_note(section.figures["mean"], section.figures["se"], train, train_se)
        section.table.append(["model, training rows", _pm(train, train_se), note])


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


def _baselines(e: Evidence) -> dict[str, tuple[str, Array]]:
    """By name the label and the log-densities (N,) of `e.test` under each baseline.

    They are fitted to training rows, or crosswise to the two halves of `e.test`.
    """
    if e.train is not None and len(e.train) >= _LEAST:
        return _scores(e, e.train, e.test)
    halves = np.array_split(e.rng(1).permutation(len(e.test)), 2)
    parts = [_scores(e, e.test[fit], e.test[score]) for fit, score in (halves, halves[::-1])]
    scores = {}
    for name in (name for name in parts[0] if name in parts[1]):
        values = np.empty(len(e.test))
        for half, part in zip(halves[::-1], parts, strict=True):
            values[half] = part[name][1]
        labels = sorted({part[name][0] for part in parts}, key=len)
        scores[name] = (labels[0] if len(labels) == 1 else f"{labels[0]} / {labels[1].split()[-1]}", values)
    return scores


@torch.no_grad()
def _scores(e: Evidence, fit: Rows, rows: Rows) -> dict[str, tuple[str, Array]]:
    """By name the label and the log-densities of rows, in data units, of what `fit_baselines` fits to others."""
    space = e.density.space
    given = space.encode_given(fit.values) if fit.context is None else fit.flat_context
    sizes = space.given_sizes if fit.context is None else ()
    fitted = fit_baselines(space.encode(fit.values, e.seed), space.sizes, given, e.seed, context_sizes=sizes)
    return {
        name: (baseline.label, as_array(space.wrap(baseline).log_prob(rows.values, rows.flat_context)))
        for name, baseline in fitted.items()
    }


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
