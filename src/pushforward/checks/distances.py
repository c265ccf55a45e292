"""Distances between samples and real rows, a column at a time, and to the nearest training row (memorisation)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from .evidence import Evidence
from .report import Section
from .stats import (
    BAD,
    DOUBTFUL,
    UNKNOWN,
    Array,
    auc,
    judge,
    ks_noise,
    ks_two,
    mean_and_se,
    normal_quantile,
    spearman,
    wasserstein,
    worst,
)
from .subject import take

_KS = (0.05, 0.12)  # good, bad
_W1 = (0.08, 0.3)  # spreads
_CORRELATION = (0.06, 0.2)
_RARE = 0.05  # share of the rows of a category below which its correlations are left out
_LEAST = 40
_QUERIES, _NEIGHBOURS = 2000, 40_000
_CLOSER = (0.06, 0.2)  # P(sample closer than held-out row) - 1/2
_COPIED = (0.02, 0.1)  # samples closer to a training row than all but 1 % of the held-out rows are
_SHOWN = 6


def columns(e: Evidence) -> Section:
    """Kolmogorov-Smirnov and Wasserstein distances of each column, and rank correlations, beside those of real rows."""
    section = Section("columns", "Columns and correlations", UNKNOWN, "")
    n = min(len(e.held), len(e.fake))
    if n < _LEAST:
        section.why = f"{n} rows on each side are too few to compare distributions"
        return section
    varying = e.encoder.varying
    if not varying:
        section.why = "all columns are constant"
        return section
    held, other, fake = (e.encoder.standard(part) for part in (e.held, e.other, e.fake))
    names = [e.encoder.names[i] for i in varying]
    found: list[dict[str, Any]] = []
    for i, name in enumerate(names):
        found.append({
            "column": name,
            "ks": ks_two(held[:, i], fake[:, i]), "real_ks": ks_two(held[:, i], other[:, i]),
            "w1": wasserstein(held[:, i], fake[:, i]), "real_w1": wasserstein(held[:, i], other[:, i]),
        })  # fmt: skip
    noise = ks_noise(n / 2, len(names))
    far = max(found, key=lambda f: f["ks"] - f["real_ks"])
    # Spreads say nothing of a rare category: the Kolmogorov-Smirnov distance of its indicator is its share's error.
    numbers = [f for f, i in zip(found, varying, strict=True) if not e.encoder.indicator[i]] or found
    moved = max(numbers, key=lambda f: f["w1"] - f["real_w1"])
    # What real rows differ by is not the model's fault: a test of another season, a random half.
    verdicts = [
        judge(far["ks"] - max(0.0, far["real_ks"] - noise), noise, *_KS),
        # Columns with far outliers differ by a lot of spreads between two real halves.
        judge(moved["w1"] - moved["real_w1"], 2 / math.sqrt(n) + 2 * moved["real_w1"], *_W1),
    ]
    section.figures |= {"rows": n, "columns": found, "ks_noise": noise}
    ordered = sorted(found, key=lambda f: -f["ks"])
    for f in ordered[:_SHOWN]:
        remark = (
            f"KS distance (real rows {f['real_ks']:.3f}); Wasserstein {f['w1']:.3f} spreads (real {f['real_w1']:.3f})"
        )
        section.table.append([f["column"], f"{f['ks']:.3f}", remark])
    if len(ordered) > _SHOWN:
        section.table.append([f"{len(ordered) - _SHOWN} more", f"at most {ordered[_SHOWN]['ks']:.3f}", "KS distance"])
    said = f"the worst column is {far['column']}, KS distance {far['ks']:.3f} (real rows {far['real_ks']:.3f})"
    common = _common(e, held, other)
    if len(common) > 1:
        real, more, drawn = (part[:, common] for part in (held, other, fake))
        verdict, text = _correlations(real, more, drawn, [names[i] for i in common], section)
        verdicts.append(verdict)
        said += text
    section.drawn["columns"], section.drawn["noise"] = ordered, noise
    section.verdict = worst(verdicts)
    if section.verdict == UNKNOWN:
        said += f"; {n} rows on each side cannot rule out more"
    elif verdicts[1] == section.verdict != verdicts[0] and section.verdict in (BAD, DOUBTFUL):
        real = f"(real rows {moved['real_w1']:.2f})"
        said = f"column {moved['column']} is off by {moved['w1']:.2f} spreads on average {real}; {said}"
    section.why = said
    return section


def memorisation(e: Evidence) -> Section:
    """Whether samples lie closer to training rows than held-out rows do (Meehan, Chaudhuri, Dasgupta 2020)."""
    section = Section("memorisation", "Memorisation", UNKNOWN, "")
    if e.train is None:
        section.why = "the training rows are not known: give them, too"
        return section
    size = min(len(e.test), len(e.samples), _QUERIES)
    if size < _LEAST or len(e.train) < _LEAST or not e.encoder.varying:
        section.why = "there are too few rows to compare nearest neighbours"
        return section
    rng = e.rng(5)
    train = e.encoder.standard(take(e.train, rng.permutation(len(e.train))[:_NEIGHBOURS]))
    test = e.encoder.standard(take(e.test, rng.permutation(len(e.test))[:size]))
    fake = e.encoder.standard(take(e.samples, np.arange(size)))
    of_test, of_fake = _nearest(test, train), _nearest(fake, train)
    closer, se = auc(of_fake, of_test)
    close = np.quantile(of_test, 0.01)
    copied, expected = float((of_fake < close).mean()), float((of_test < close).mean())
    leaked, repeated = float((of_test == 0).mean()), float((_nearest(test, test, itself=True) == 0).mean())
    copies = float((of_fake == 0).mean())
    section.figures |= {
        "closer": closer, "se": se, "copied": copied, "copied_expected": expected, "exact_copies": copies,
        "test_rows_in_train": leaked, "median_distance": float(np.median(of_fake)),
        "test_median_distance": float(np.median(of_test)),
    }  # fmt: skip
    section.drawn |= {"test": of_test, "samples": of_fake}
    medians = f"{np.median(of_fake):.3g} against {np.median(of_test):.3g}"
    noise = 2.6 * math.sqrt(0.01 / size) + 2 / size
    section.table += [
        ["samples closer", f"{100 * closer:.1f} +- {100 * se:.1f} %", "of pairs have the sample nearer to a training "
         "row than the held-out row; 50 is chance"],
        ["median distance", medians, "spreads from samples and held-out rows to the nearest training row"],
        ["near copies", f"{100 * copied:.2f} %", f"of samples are nearer than the nearest 1 % of held-out rows; "
         f"{100 * copies:.2f} % are exact copies"],
    ]  # fmt: skip
    if leaked > max(0.5, 2 * repeated):
        section.verdict = BAD
        section.why = f"{100 * leaked:.0f} % of the held-out rows are training rows: all figures here are too good"
        return section
    fitted = _fit_gap(e, section)
    verdicts = [judge(closer - 0.5, 2.6 * se, *_CLOSER), judge(copied - expected, noise, *_COPIED), fitted]
    section.verdict = worst(verdicts)
    if section.verdict not in (BAD, DOUBTFUL):
        section.why = f"samples lie no nearer to training rows than held-out rows do ({medians} spreads)"
    elif section.verdict in verdicts[:2]:
        section.why = f"samples lie closer to the training rows than held-out rows do ({medians} spreads)"
    else:
        section.why = (
            "training rows are far likelier than held-out ones: the model is overfitted, though no sample is a copy"
        )
    return section


def _common(e: Evidence, *parts: Array) -> list[int]:
    """All numbers but the indicators of rare categories: of two of those, one shared row makes a correlation of 1."""
    kept = []
    for i, of_encoder in enumerate(e.encoder.varying):
        if e.encoder.indicator[of_encoder]:
            shares = [float((part[:, i] > 0).mean()) for part in parts]
            if not all(_RARE <= share <= 1 - _RARE for share in shares):
                continue
        kept.append(i)
    return kept


def _correlations(held: Array, other: Array, fake: Array, names: list[str], section: Section) -> tuple[str, str]:
    pairs = len(names) * (len(names) - 1) / 2
    noise = normal_quantile(1 - 0.005 / pairs) * math.sqrt(2 / len(held))
    of_held = spearman(held)
    ours, real = abs(of_held - spearman(fake)), abs(of_held - spearman(other))
    i, j = np.unravel_index(int((ours - real).argmax()), ours.shape)
    value = float(ours[i, j])
    section.figures["correlation"] = {
        "largest": value, "columns": [names[i], names[j]], "mean": float(ours.sum() / (2 * pairs)),
        "real_largest": float(real.max()), "real_mean": float(real.sum() / (2 * pairs)), "noise": noise,
    }  # fmt: skip
    remark = f"largest difference of a rank correlation, {names[i]} and {names[j]} (real rows: up to {real.max():.3f})"
    section.table.append(["correlations", f"{value:.3f}", remark])
    verdict = judge(value - max(0.0, float(real[i, j]) - noise), noise, *_CORRELATION)
    text = f"; rank correlations differ by up to {value:.3f} (real rows {real.max():.3f})"
    return verdict, text


def _fit_gap(e: Evidence, section: Section) -> str:
    """A verdict on how much likelier training rows are than held-out rows."""
    if e.log_train is None:
        return UNKNOWN
    (train, train_se), (test, test_se) = mean_and_se(e.log_train), mean_and_se(e.log_all)
    gap, noise = train - test, 2.6 * math.hypot(train_se, test_se)
    section.figures |= {"fit_gap": gap, "fit_gap_se": noise / 2.6}
    section.table.append(["fit gap", f"{gap:.4g} +- {noise / 2.6:.2g}", "nats that training rows are likelier by"])
    if not math.isfinite(gap):
        return UNKNOWN
    # Overfitting costs held-out likelihood, which has a section of its own: here it is never worse than doubtful.
    much = 0.3 * math.sqrt(len(e.subject.names))
    verdict = judge(gap, noise, much, 10 * much)
    return DOUBTFUL if verdict == BAD else verdict


def _nearest(rows: Array, others: Array, itself: bool = False) -> Array:
    """Distances (N,) from rows (N, E) to the nearest of others (M, E), each row being among them with `itself`."""
    reference, out = torch.from_numpy(others), []
    size = max(1, 2**23 // len(others))
    for start in range(0, len(rows), size):
        part = torch.from_numpy(rows[start : start + size])
        distances = torch.cdist(part, reference)
        if itself:
            at = torch.arange(len(part))
            distances[at, at + start] = math.inf
        # Distances by a matrix product are not zero for equal rows: the nearest is measured again.
        out.append((part - reference[distances.argmin(1)]).square().sum(1).sqrt())
    return torch.cat(out).numpy()
