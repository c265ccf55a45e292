"""Privacy: whether samples lie closer to training rows than held-out rows do, and give away single training rows.

Distances to the closest training record are those of Meehan et al. 2020; rare rows are singled out in the sense of
Giomi et al. 2023 (Anonymeter), with held-out rows as the control. It is evidence, and no proof of privacy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .evidence import Evidence, Rows
from .report import Section
from .stats import BAD, DOUBTFUL, UNKNOWN, Array, auc, normal_noise, share_noise
from .thresholds import rate

_LEAST = 40
_QUERIES, _NEIGHBOURS = 2000, 20_000
_NEAR = 0.01  # share of the held-out rows that are nearest to a training row
_RARE, _LEAST_RARE = 0.95, 10  # the quantile of distances to other rows beyond which a row is rare


def privacy(e: Evidence) -> Section:
    """Distances to the nearest training row, copies, rare rows that are singled out, and texts drawn again."""
    section = Section("privacy", "Copies of training rows")
    if e.train is None or e.known is None:
        section.missing = "the training rows are not known: give them, too"
        return section
    if min(len(e.test), len(e.samples), len(e.train)) < _LEAST or not e.varying:
        section.missing = "there are too few rows to compare nearest neighbours"
    else:
        _neighbours(e, e.train, section)
    if len(e.test) and len(e.samples):
        _texts(e, e.known, section)
    return section


def _neighbours(e: Evidence, known: Rows, section: Section) -> None:
    """Findings on distances to the nearest training row."""
    size = min(len(e.test), len(e.samples), _QUERIES)
    rng = e.rng(5)
    train = e.standard(known[rng.permutation(len(known))[:_NEIGHBOURS]])
    test = e.standard(e.test[rng.permutation(len(e.test))[:size]])
    samples = e.standard(e.samples[np.arange(min(len(e.samples), max(size, len(train))))])  # as many rows
    of_test, of_samples = _nearest(test, train), _nearest(samples[:size], train)
    _copies(e, section)
    _near_copies(of_test, of_samples, _nearest(samples, e.standard(e.test)), len(train) / len(e.test), e, section)
    _distances(of_test, of_samples, section)
    _rare_rows(train, test, samples, of_test, rng, section)


def _copies(e: Evidence, section: Section) -> None:
    """Samples that are training rows, all of which are looked at."""
    samples, test, known = e.keys(e.samples), e.keys(e.test), e.known_keys
    shared = np.isin(samples, known), np.isin(test, known), np.isin(samples, test)
    copies, real, noise = _beside_chance(*shared, len(known) / len(test))
    why = f"{100 * copies:.3g} % of samples are exact copies of training rows (by chance {100 * real:.3g} %)"
    section.add("copies", rate("copies", copies - real, noise), why)
    section.table.append(["exact copies", f"{100 * copies:.2f} %", f"of samples (by chance {100 * real:.2f} %)"])
    section.figures |= {"exact_copies": copies, "test_exact_copies": real}


def _near_copies(
    of_test: Array, of_samples: Array, to_test: Array, ratio: float, e: Evidence, section: Section
) -> None:  # fmt: skip
    """Samples nearer to a training row than nearly all held-out rows are.

    Args:
        of_test: (V,), distances of held-out rows to the nearest training row.
        of_samples: (V,), those of samples.
        to_test: (S,), those of samples to the nearest held-out row.
        ratio: training rows over held-out rows.
        e: with them.
        section: of the report.
    """
    close = np.quantile(of_test, _NEAR)
    if close == 0:  # held-out rows are training rows so often that nearness tells nothing
        return
    near, expected, noise = _beside_chance(of_samples < close, of_test < close, to_test < close, ratio)
    section.figures |= {"copied": near, "copied_expected": expected}
    why = (
        f"{100 * near:.3g} % of samples are nearer to a training row than all but 1 % of the held-out rows are "
        f"(by chance {100 * expected:.3g} %){e.of_known}"
    )
    section.add("near_copies", rate("near_copies", near - expected, noise), why)


def _beside_chance(
    of_samples: NDArray[np.bool_], of_test: NDArray[np.bool_], to_test: NDArray[np.bool_], ratio: float
) -> tuple[float, float, float]:  # fmt: skip
    """-> the share of samples that come as near to a training row, that by chance, and the noise of their difference.

    Where the table holds each row once, no held-out row is a copy of a training row, though a sample may well be one by
    chance: then what samples have in common with held-out rows, which no model has learned, tells how often.

    Args:
        of_samples: (V,), which samples are near to a training row.
        of_test: (W,), which held-out rows are.
        to_test: (S,), which samples are near to a held-out row.
        ratio: training rows over held-out rows.
    """
    share, real = float(of_samples.mean()), float(of_test.mean())
    chance = min(float(to_test.mean()) * ratio, 1.0)
    if chance <= real:
        return share, real, share_noise(share, len(of_samples), real, len(of_test))
    return share, chance, share_noise(share, len(of_samples), chance, max(round(len(to_test) / ratio), 1))


def _distances(of_test: Array, of_samples: Array, section: Section) -> None:
    """How often a sample is nearer to its nearest training row than a held-out row is."""
    closer, se = auc(of_samples, of_test)
    middle, real = float(np.median(of_samples)), float(np.median(of_test))
    section.figures |= {"closer": closer, "se": se, "median_distance": middle, "test_median_distance": real}
    section.plot_data |= {"test": of_test, "samples": of_samples}
    remark = f"of pairs; 50 is chance (medians {middle:.3g} and {real:.3g} spreads)"
    section.table.append(["samples closer", f"{100 * closer:.1f} +- {100 * se:.1f} %", remark])
    why = f"in {100 * closer:.0f} % of pairs a sample is nearer to its closest training row than a held-out row is"
    section.add("closer", rate("closer", closer - 0.5, normal_noise() * se), f"{why} (50 is chance)")


def _rare_rows(
    train: Array, test: Array, samples: Array, of_test: Array, rng: np.random.Generator, section: Section
) -> None:
    """Whether samples lie beside rare training rows more often than beside rare held-out rows."""
    some = train[rng.permutation(len(train))[:_QUERIES]]
    own = _nearest(some, train, 2)
    is_rare, is_rare_test = own >= np.quantile(own, _RARE), of_test >= np.quantile(own, _RARE)
    n, m = int(is_rare.sum()), int(is_rare_test.sum())
    if min(n, m) < _LEAST_RARE or np.quantile(own, _RARE) == 0:  # nearly all rows come several times: none is rare
        return
    hit = float((_nearest(some[is_rare], samples) < own[is_rare] / 2).mean())
    real = float((_nearest(test[is_rare_test], samples) < of_test[is_rare_test] / 2).mean())
    section.figures |= {"singled_out": hit, "test_singled_out": real, "rare_rows": n}
    remark = f"of {n} rare training rows have a sample beside them (rare held-out rows {100 * real:.0f} %)"
    section.table.append(["singled out", f"{100 * hit:.0f} %", remark])
    verdict = rate("singled_out", hit - real, share_noise(hit, n, real, m))
    section.add("singled_out", verdict, f"{100 * hit:.0f} % {remark}")


def _texts(e: Evidence, known_rows: Rows, section: Section) -> None:
    """Whether texts that only one of all training rows has come again in samples."""
    known, test, samples = (e.texts(rows) for rows in (known_rows, e.test, e.samples))
    shares = []
    for name in (name for name in known if name in samples):
        values, counts = np.unique([t for t in known[name] if t is not None], return_counts=True)
        single = set(values[counts == 1].tolist())
        if not single:
            continue
        share, real = _share_in(samples[name], single), _share_in(test[name], single)
        shares.append((share - real, name, share, real))
    if not shares:
        return
    excess, name, share, real = max(shares)
    figures = f"{100 * share:.3g} % of samples have a {name} that stands in one training row alone"
    section.figures["texts"] = {"column": name, "samples": share, "held_out": real}
    noise = share_noise(share, len(e.samples), real, len(e.test), len(shares))
    section.add("texts", rate("texts", excess, noise), f"{figures} (held-out rows {100 * real:.3g} %)")
    if rate("texts", excess, noise) in (BAD, DOUBTFUL, UNKNOWN):
        section.table.append(["texts drawn again", f"{100 * share:.3g} %", f"{figures} (held-out {100 * real:.3g} %)"])


def _share_in(texts: NDArray[np.object_], known: set[str]) -> float:
    return float(np.mean([t in known for t in texts]))


def _nearest(rows: Array, others: Array, k: int = 1) -> Array:
    """Distances (N,) from rows (N, F) to the k-th nearest of others (M, F)."""
    from scipy.spatial import KDTree

    distances: Any = KDTree(others).query(rows, k=k, workers=-1)[0]
    return distances if k == 1 else distances[:, -1]
