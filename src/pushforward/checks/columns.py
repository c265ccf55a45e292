"""Distances between samples and real rows, a column at a time, and of their rank correlations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .evidence import Evidence
from .report import Section
from .stats import BAD, DOUBTFUL, UNKNOWN, Array, judge, ks_noise, ks_two, spearman, worst

_KS = (0.05, 0.12)  # good, bad
_W1 = (0.08, 0.3)  # spreads
_CORRELATION = (0.06, 0.2)
_RARE = 0.05  # share of the rows of a category below which its correlations are left out
_LEAST = 40
_SHOWN = 6


def columns(e: Evidence) -> Section:
    """Kolmogorov-Smirnov and Wasserstein distances of each column, and rank correlations, beside those of real rows."""
    section = Section("columns", "Columns and correlations", UNKNOWN, "")
    n = min(len(e.compared[0]), len(e.compared[2]))
    if n < _LEAST:
        section.why = f"{n} rows on each side are too few to compare distributions"
        return section
    if not e.varying:
        section.why = "all columns are constant"
        return section
    test, other, samples = (e.standard(part) for part in e.compared)
    names = [feature.name for feature in e.varying_features]
    distances = _distances(test, other, samples, names)
    noise = ks_noise(n / 2, len(names))
    far = max(distances, key=lambda f: f["ks"] - f["real_ks"])
    # Spreads say nothing of a rare category: the Kolmogorov-Smirnov distance of its indicator is its share's error.
    numbers = [f for f, of in zip(distances, e.varying_features, strict=True) if not of.indicator] or distances
    moved = max(numbers, key=lambda f: f["w1"] - f["real_w1"])
    # What real rows differ by is not the model's fault: a test of another season, a random half.
    verdicts = [
        judge(far["ks"] - max(0.0, far["real_ks"] - noise), noise, *_KS),
        # Columns with far outliers differ by a lot of spreads between two real halves.
        judge(moved["w1"] - moved["real_w1"], 2 / math.sqrt(n) + 2 * moved["real_w1"], *_W1),
    ]
    ordered = sorted(distances, key=lambda f: -f["ks"])
    section.figures |= {"rows": n, "columns": distances, "ks_noise": noise}
    section.plot_data |= {"columns": ordered, "noise": noise}
    _list(ordered, section)
    text = f"the worst column is {far['column']}, KS distance {far['ks']:.3f} (real rows {far['real_ks']:.3f})"
    common = _common(e, test, other)
    if len(common) > 1:
        verdict, more = _correlations(
            test[:, common], other[:, common], samples[:, common], [names[i] for i in common], section
        )
        verdicts.append(verdict)
        text += more
    section.verdict = worst(verdicts)
    if section.verdict == UNKNOWN:
        text += f"; {n} rows on each side cannot rule out more"
    elif verdicts[1] == section.verdict != verdicts[0] and section.verdict in (BAD, DOUBTFUL):
        real = f"(real rows {moved['real_w1']:.2f})"
        text = f"column {moved['column']} is off by {moved['w1']:.2f} spreads on average {real}; {text}"
    section.why = text
    return section


def _distances(test: Array, other: Array, samples: Array, names: list[str]) -> list[dict[str, Any]]:
    """For each column of (N, F) those of samples, and of other real rows, from held-out rows."""
    from scipy.stats import wasserstein_distance

    def both(i: int, part: Array) -> tuple[float, float]:
        a, b = test[:, i], part[:, i]
        return ks_two(a, b), float(wasserstein_distance(a, b))

    distances = []
    for i, name in enumerate(names):
        (ks, w1), (real_ks, real_w1) = both(i, samples), both(i, other)
        distances.append({"column": name, "ks": ks, "real_ks": real_ks, "w1": w1, "real_w1": real_w1})
    return distances


def _list(ordered: list[dict[str, Any]], section: Section) -> None:
    """Tells of the columns that are farthest off."""
    for f in ordered[:_SHOWN]:
        real = f"KS distance (real rows {f['real_ks']:.3f})"
        remark = f"{real}; Wasserstein {f['w1']:.3f} spreads (real {f['real_w1']:.3f})"
        section.table.append([f["column"], f"{f['ks']:.3f}", remark])
    if len(ordered) > _SHOWN:
        section.table.append([f"{len(ordered) - _SHOWN} more", f"at most {ordered[_SHOWN]['ks']:.3f}", "KS distance"])


def _common(e: Evidence, *parts: Array) -> list[int]:
    """All features but the indicators of rare categories: of two of those, one shared row makes a correlation of 1."""
    return [
        i
        for i, feature in enumerate(e.varying_features)
        if not feature.indicator or all(_RARE <= float((part[:, i] > 0).mean()) <= 1 - _RARE for part in parts)
    ]


def _correlations(test: Array, other: Array, samples: Array, names: list[str], section: Section) -> tuple[str, str]:
    from scipy.stats import norm

    pairs = len(names) * (len(names) - 1) / 2
    noise = float(norm.isf(0.005 / pairs)) * math.sqrt(2 / len(test))
    of_test = spearman(test)
    ours, real = abs(of_test - spearman(samples)), abs(of_test - spearman(other))
    i, j = np.unravel_index(int((ours - real).argmax()), ours.shape)
    value = float(ours[i, j])
    section.figures["correlation"] = {
        "largest": value, "columns": [names[i], names[j]], "mean": float(ours.sum() / (2 * pairs)),
        "real_largest": float(real.max()), "real_mean": float(real.sum() / (2 * pairs)), "noise": noise,
    }  # fmt: skip
    remark = f"largest difference of a rank correlation, {names[i]} and {names[j]} (real rows: up to {real.max():.3f})"
    section.table.append(["correlations", f"{value:.3f}", remark])
    verdict = judge(value - max(0.0, float(real[i, j]) - noise), noise, *_CORRELATION)
    return verdict, f"; rank correlations differ by up to {value:.3f} (real rows {real.max():.3f})"
