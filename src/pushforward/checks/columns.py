"""Distances between samples and real rows: a column at a time, of their rank correlations, and of their ranges."""

from __future__ import annotations

from typing import Any

import numpy as np

from .evidence import Evidence
from .report import Section
from .stats import BAD, DOUBTFUL, UNKNOWN, Array, ks_noise, ks_two, normal_noise, share_noise, spearman
from .thresholds import enough, rate

_RARE = 0.05  # share of the rows of a category below which its correlations are left out
_LEAST = 40
_SHOWN = 5
_FAR = 0.25  # of the range of a column


def columns(e: Evidence) -> Section:
    """Kolmogorov-Smirnov and Wasserstein distances of each column, and rank correlations, beside those of real rows."""
    section = Section("columns", "Columns and correlations")
    n = min(len(e.compared[0]), len(e.compared[2]))
    if n < _LEAST:
        section.missing = f"{n} rows on each side are too few to compare distributions"
        return section
    if not e.varying:
        section.missing = "all columns are constant"
        return section
    test, other = (e.standard(part) for part in e.compared[:2])
    samples = e.standard(e.samples)
    names = [feature.name for feature in e.varying_features]
    distances = _distances(test, other, samples, names)
    noise = ks_noise(len(test) * len(samples) / (len(test) + len(samples)), len(names))

    def excess(f: dict[str, Any]) -> float:
        """What real rows differ by is not the model's fault: a test of another season, a random half."""
        return f["ks"] - max(0.0, f["real_ks"] - noise)

    ordered = sorted(distances, key=excess, reverse=True)
    far = ordered[0]
    section.figures |= {"rows": n, "columns": distances, "ks_noise": noise}
    section.plot_data |= {"columns": ordered, "noise": noise}
    _list(ordered, section)
    verdict = rate("column", excess(far), noise)
    figures = f"KS distance {far['ks']:.3f} (real rows {far['real_ks']:.3f})"
    why = f"the worst column is {far['column']}, {figures}"
    if verdict in (BAD, DOUBTFUL):
        why = f"column {far['column']} is off: {figures}"
    elif verdict == UNKNOWN:
        why += f", and {n} held-out rows could hide more{enough('column', noise, n, e.total)}"
    section.add("column", verdict, why)
    common = _common(e, test, other)
    if len(common) > 1:
        _correlations(
            test[:, common], other[:, common], samples[:, common], [names[i] for i in common], section
        )  # fmt: skip
    _ranges(e, section)
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
    """Tells of the first columns, which are the worst."""
    for f in ordered[:_SHOWN]:
        remark = f"KS distance (real rows {f['real_ks']:.3f}), Wasserstein {f['w1']:.3f} ({f['real_w1']:.3f})"
        section.table.append([f["column"], f"{f['ks']:.3f}", remark])
    if len(ordered) > _SHOWN:
        section.table.append(
            [f"{len(ordered) - _SHOWN} more", f"at most {max(f['ks'] for f in ordered[_SHOWN:]):.3f}", "KS distance"]
        )


def _common(e: Evidence, *parts: Array) -> list[int]:
    """All features but the indicators of rare categories: of two of those, one shared row makes a correlation of 1."""
    return [
        i
        for i, feature in enumerate(e.varying_features)
        if not feature.indicator or all(_RARE <= float((part[:, i] > 0).mean()) <= 1 - _RARE for part in parts)
    ]


def _correlations(test: Array, other: Array, samples: Array, names: list[str], section: Section) -> None:
    pairs = len(names) * (len(names) - 1) / 2
    (of_test, own), (of_samples, drawn), (of_other, _) = (spearman(part) for part in (test, samples, other))
    noise = normal_noise(pairs, sides=2) * np.sqrt(own**2 + drawn**2)
    ours, real = abs(of_test - of_samples), abs(of_test - of_other)
    off = ours - np.maximum(0.0, real - noise)
    upper = np.triu_indices(len(names), 1)
    i, j = (int(k[(off - noise)[upper].argmax()]) for k in upper)
    section.figures["correlation"] = {
        "largest": float(ours[i, j]), "columns": [names[i], names[j]], "mean": float(ours.sum() / (2 * pairs)),
        "real": float(real[i, j]), "real_mean": float(real.sum() / (2 * pairs)), "noise": float(noise[i, j]),
    }  # fmt: skip
    differ = f"two sets of real rows differ by {real[i, j]:.2f}"
    section.table.append(
        ["correlations", f"{ours[i, j]:.3f}", f"off, most of all {names[i]} and {names[j]} ({differ})"]
    )
    both = f"{of_samples[i, j]:.2f} in samples, {of_test[i, j]:.2f} in real rows"
    why = f"the rank correlation of {names[i]} and {names[j]} is {both} ({differ})"
    section.add("correlation", rate("correlation", float(off[i, j]), float(noise[i, j])), why)


def _ranges(e: Evidence, section: Section) -> None:
    """Whether samples leave the range of the training rows more often, and farther, than held-out rows do."""
    chosen = [i for i in e.varying if not e.feature_list[i].indicator and i not in e.given_features]
    if e.train is None or len(e.train) < _LEAST or not chosen:
        return
    train, test, samples = (e.features(rows)[:, chosen] for rows in (e.train, e.test, e.samples))
    low, high = train.min(0), train.max(0)
    for name, margin, words in (("range", 0.0, "out of range"), ("far", _FAR, "far out of range")):
        reach = margin * (high - low)
        ours, real = ((part < low - reach) | (part > high + reach) for part in (samples, test))
        share, real_share = float(ours.any(1).mean()), float(real.any(1).mean())
        section.figures[name] = {"samples": share, "held_out": real_share}
        remark = f"of samples (held-out rows {100 * real_share:.2f} %)"
        section.table.append([words, f"{100 * share:.2f} %", remark])
        noise = share_noise(share, len(samples), real_share, len(test))
        most = e.feature_list[chosen[int((ours.mean(0) - real.mean(0)).argmax())]].name
        figures = f"{100 * share:.3g} %, for {100 * real_share:.3g} % of held-out rows"
        why = f"samples leave the training range{' by far' if margin else ''}: {figures}; most of all in {most}"
        section.add(name, rate(name, share - real_share, noise), why)
