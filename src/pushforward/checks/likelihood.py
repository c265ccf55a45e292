"""Held-out log-density beside what simple densities reach on the same rows: see `baselines`."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..baselines import fit_baselines
from .evidence import Evidence, Rows, as_array
from .report import Section
from .stats import BAD, GOOD, UNKNOWN, Array, mean_and_se, normal_noise, share_noise
from .thresholds import enough, rate

_LEAST = 20
_LEARNED_FROM = 100  # rows that simple densities need, so that being ahead of them says something
_FEW = 0.002  # share of rows that must not decide a mean


def likelihood(e: Evidence) -> Section:
    """Nats per row of held-out rows, and the paired differences from the baselines."""
    mean, se = mean_and_se(e.log_all)
    lost = np.flatnonzero(~np.isfinite(e.log_all))
    section = Section("likelihood", "Held-out likelihood")
    section.figures |= {
        "rows": len(e.log_all), "mean": mean, "se": se, "median": float(np.median(e.log_all)), "not_finite": len(lost),
        "baselines": {}, "repeated_values": e.tied, "impossible": e.impossible,
        "unseen": e.unseen,
    }  # fmt: skip
    section.table.append(["model", _pm(mean, se), f"nats per row, on {len(e.log_all):,} held-out rows"])
    if e.density.space.byte_count:
        bits = 1 / (e.density.space.byte_count * math.log(2))
        section.figures |= {"bits_per_dim": -mean * bits, "bits_per_dim_se": se * bits}
        section.table.append(["", _pm(-mean * bits, se * bits), "bits per dimension, the same figure"])
    _unseen(e, section)
    if len(lost):
        share = len(lost) / len(e.log_all)
        rows = f"{len(lost):,} held-out row{'s have' if len(lost) > 1 else ' has'} no finite log-density"
        section.add("no_density", rate("no_density", share, 0), f"{rows}, first row {int(e.numbers[lost[0]])}")
    if e.constant:
        remark = f"{', '.join(e.constant[:4])}: simple densities take the model's own spread of it"
        section.table.append(["constant", "", remark])
    if len(e.test) < _LEAST:
        section.missing = f"{len(e.test)} held-out rows are too few to compare with simple densities"
        return section
    scores = _baselines(e)
    _list(e, scores, section)
    if importlib.util.find_spec("sklearn") is None:
        section.table.append(["more baselines", "", 'need scikit-learn: pip install "pushforward[sklearn]"'])
    if not scores:
        section.missing = "no simple density could be fitted to these rows"
        return section
    baselines = section.figures["baselines"]
    best = min(scores, key=lambda name: baselines[name]["gain"])
    _compare(e, e.log_test - scores[best][1], baselines[best], section)
    return section


def _unseen(e: Evidence, section: Section) -> None:
    """Tells of the rows with what the training never saw, and of those that the space rules out."""
    if not e.unseen:
        return
    total = e.impossible + len(e.log_all)
    share = e.unseen / total
    remark = f"{e.unseen:,} of {total:,} held-out rows hold a value never seen in training"
    section.table.append(["unseen", f"{100 * share:.3g} %", remark])
    if e.impossible:
        section.table.append(["left out", f"{e.impossible:,}", "of these rows, which are impossible to the model"])
    section.add("unseen", rate("unseen", share, share_noise(share, total, 0.0, total)), remark)


def _list(e: Evidence, scores: dict[str, tuple[str, Array]], section: Section) -> None:
    """Tells of each baseline, and of the training rows."""
    if len(e.log_test) < len(e.log_all):
        remark = f"on the {len(e.log_test):,} of them with which simple densities are compared"
        section.table.append(["", _pm(*mean_and_se(e.log_test)), remark])
    for name, (label, values) in scores.items():
        own, own_se = mean_and_se(values)
        gain, gain_se = mean_and_se(e.log_test - values)
        figures = {"mean": own, "se": own_se, "gain": gain, "gain_se": gain_se, "label": label}
        section.figures["baselines"][name] = figures
        side = "above" if gain >= 0 else "below"
        section.table.append([label, _pm(own, own_se), f"the model is {_pm(abs(gain), gain_se)} {side} it"])
    if e.log_train is not None:
        train, train_se = mean_and_se(e.log_train)
        gap, gap_se = train - section.figures["mean"], math.hypot(train_se, section.figures["se"])
        section.figures |= {"train_mean": train, "train_se": train_se, "fit_gap": gap, "fit_gap_se": gap_se}
        note = f"{_pm(abs(gap), gap_se)} {'above' if gap >= 0 else 'below'} the held-out rows"
        section.table.append(["model, training rows", _pm(train, train_se), note])


def _compare(e: Evidence, gains: Array, best: dict[str, Any], section: Section) -> None:
    """Findings from the paired gains (N,) over the best baseline: of all rows, and of all but the most extreme.

    One row at -1e9 makes any mean meaningless; what holds for all others is worth knowing.
    """
    label, (gain, se) = best["label"], mean_and_se(gains)
    few = max(1, round(_FEW * len(gains)))
    distance = np.nan_to_num(abs(gains - np.median(gains)), nan=np.inf)
    most, most_se = mean_and_se(gains[np.argsort(distance)[:-few]])
    section.figures["gain_without_few"] = {"gain": most, "se": most_se, "rows_left_out": few}
    z = normal_noise()
    verdict = rate("behind", -gain, z * se) if math.isfinite(gain) else BAD
    if verdict != GOOD and rate("behind", -most, z * most_se) == GOOD and most - gain > 0.1 + z * most_se:
        rows = "one row costs" if few == 1 else f"{few} rows cost"
        cost = min(most - gain, -gain) if math.isfinite(gain) else math.inf
        why = f"{rows} {_short(most - gain)} nats per row on average, and put it behind {label}"
        section.add("few_rows", rate("few_rows", min(cost, 1e9), z * most_se), why)
        gain, se, verdict = most, most_se, GOOD
    elif verdict == UNKNOWN and gain > most:  # by rows that a simple density gets far too wrong to tell a mean
        gain, se, verdict = most, most_se, rate("behind", -most, z * most_se)
    difference = f"{_short(abs(gain))} +- {_short(se)} nats per row"
    learned = len(e.test) // 2 if e.train is None or len(e.train) < _LEAST else math.inf
    if verdict in (GOOD, UNKNOWN) and gain > 0 and learned < _LEARNED_FROM:
        verdict = UNKNOWN
        why = f"simple densities had {learned} rows to learn from, so that being ahead of them says little"
        why += ": give the training rows, too"
    elif verdict == UNKNOWN:
        n = len(gains)
        many = f"and {n} rows cannot tell whether that is chance{enough('behind', z * se, n, e.total)}"
        why = f"{difference} from the best simple density ({label}), {many}"
    elif verdict != GOOD:
        why = f"{label} does better on new rows, by {difference}: use that"
    elif gain > z * se:
        why = f"above the best simple density ({label}) by {difference}"
    else:
        side = "ahead" if gain >= 0 else "behind"
        reason = "too little to matter" if rate("behind", abs(gain), 0.0) == GOOD else "within chance"
        why = f"level with the best simple density ({label}): {difference} {side}, which is {reason}"
    section.add("behind", verdict, why + _tie_note(e.tied))


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
    given = space.encode_given(fit.values) if fit.flat_context is None else space.as_given(fit.flat_context)
    sizes = space.given_sizes if fit.context is None else ()
    x = space.encode(fit.values, e.seed)
    x, flat = _spread(e, x) if e.constant else (x, 0)
    fitted = fit_baselines(x, space.sizes, given, e.seed, context_sizes=sizes)
    densities = {name: (baseline.label, space.wrap(baseline)) for name, baseline in fitted.items()}
    context = None if rows.flat_context is None else space.as_given(rows.flat_context)
    # Columns that the model's samples do not vary either are points to it, but have variance 1 in simple densities.
    scores = {
        name: (label, density.log_prob(rows.values, context) + flat * math.log(2 * math.pi) / 2)
        for name, (label, density) in densities.items()
    }
    for name, (label, density) in space.baselines(fit.values, fit.flat_context).items():
        scores[name] = label, density.log_prob(rows.values, rows.flat_context)
    return {name: (label, as_array(log_prob)) for name, (label, log_prob) in scores.items()}


def _spread(e: Evidence, x: Tensor) -> tuple[Tensor, int]:
    """Encoded rows (N, M + C) with the model's samples where a column of numbers is constant; how many still are.

    The density of a constant has no bound: a baseline that took the rows themselves would beat any model by it.
    """
    first = len(e.density.space.sizes)
    numbers = x[:, first:]
    flat = first + ((numbers == numbers[0]).all(0)).nonzero()[:, 0]
    if not len(flat) or not len(e.samples):
        return x, 0
    drawn = e.density.space.encode(e.samples[e.rng(9).integers(len(e.samples), size=len(x))].values, e.seed)
    x = x.clone()
    x[:, flat] = drawn[:, flat].to(x)
    return x, int((x[:, flat] == x[0, flat]).all(0).sum())


def _tie_note(tied: list[str]) -> str:
    if not tied:
        return ""
    shown = ", ".join(tied[:4]) + (" ..." if len(tied) > 4 else "")
    return f"; beware: values repeat in {shown}, and on repeated values a continuous log-density has no upper bound"


def _pm(mean: float, se: float) -> str:
    return f"{_short(mean, 4)} +- {_short(se, 4)}" if math.isfinite(se) else _short(mean, 4)


def _short(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if abs(value) < 1e4 else f"{value:.3g}"
