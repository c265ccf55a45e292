"""Tail mass: the share of held-out rows in the outermost parts of the density, and the least likely of them."""

from __future__ import annotations

import math

import numpy as np

from .evidence import Evidence
from .report import Section
from .stats import BAD, GOOD, UNKNOWN, normal_noise, worst
from .thresholds import rate

_TAILS = (0.05, 0.01, 0.001)
_SMALL = 0.005  # of the mass, which matters in no tail
_LISTED = 10
_LEAST = 30


def tails(e: Evidence) -> Section:
    """The share of held-out rows in the outermost parts of the density, and the least likely of them."""
    section = Section("tails", "Tail mass")
    n, m = len(e.log_all), len(e.log_samples)
    order = np.argsort(np.nan_to_num(e.log_all, nan=-np.inf), kind="stable")[:_LISTED]
    listed = [{"row": int(e.numbers[i]), "log_density": float(e.log_all[i])} for i in order]
    section.figures["least_likely"] = listed
    if m == 0:
        section.add("tails", BAD, "no sample of the model is a finite number")
        return section
    level = e.level(e.log_all)
    shares = {tail: float((level > 1 - tail).mean()) for tail in _TAILS}
    verdicts = {tail: _judged(tail, share, n, m) for tail, share in shares.items()}
    errors = {tail: math.sqrt(max(share * (1 - share), tail * (1 - tail)) / n) for tail, share in shares.items()}
    section.figures["shares"] = {f"{tail:g}": {"share": shares[tail], "se": errors[tail]} for tail in _TAILS}
    for tail, share in shares.items():
        remark = "of the held-out rows lie there"
        figure = f"{100 * share:.2f} +- {100 * errors[tail]:.2f} %"
        section.table.append([f"outermost {100 * tail:g} %", figure, remark])
    section.figures["beyond_all_samples"] = int((level >= 1).sum())
    shown = ", ".join(f"{x['row']} ({x['log_density']:.4g})" for x in listed[:5])
    section.table.append(["least likely rows", "", f"{shown}: their log-density"])
    if n < _LEAST:
        section.missing = f"{n} held-out row{'s are' if n > 1 else ' is'} too few to see a tail"
        return section
    verdict = worst([v for v in verdicts.values() if v != UNKNOWN] or [UNKNOWN])
    section.add("tails", verdict, _why(verdict, n, shares, verdicts))
    return section


def _judged(tail: float, share: float, n: int, m: int) -> str:
    """The verdict on the share of n rows beyond what is the outermost `tail` of m samples."""
    gap, unit = abs(share - tail), tail + _SMALL
    noise = normal_noise(len(_TAILS), sides=2) * math.sqrt(tail * (1 - tail) * (1 / n + 1 / m)) + 2 / n
    return rate("tails", gap / unit, noise / unit)


def _why(verdict: str, n: int, shares: dict[float, float], verdicts: dict[float, str]) -> str:
    if verdict == UNKNOWN:
        return f"{n} held-out rows are too few to see a tail"
    if verdict == GOOD:
        tail = next(tail for tail in reversed(_TAILS) if verdicts[tail] == GOOD)
        return f"{100 * shares[tail]:.2f} % of the held-out rows lie in the model's outermost {100 * tail:g} %"
    tail = next(tail for tail in _TAILS if verdicts[tail] == verdict)
    share = shares[tail]
    if share < tail:
        return f"only {100 * share:.2f} % of the rows lie in the outermost {100 * tail:g} %: the tails are too heavy"
    where = f"{100 * share:.2f} % of the rows lie in the model's outermost {100 * tail:g} %"
    return f"{where}: far rows are likelier than it says"
