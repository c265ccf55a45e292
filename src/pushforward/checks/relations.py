"""Relations: whether samples keep what holds in the training rows between columns, and rare categories."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sized
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .evidence import Evidence, Rows
from .report import Section
from .stats import BAD, DOUBTFUL, GOOD, UNKNOWN, Array, auc, normal_noise, share_noise
from .thresholds import rate

_LEAST = 100  # training rows
_HOLDS = 0.999  # share of the training rows in which an order counts as one
_CHANCE = 0.98  # share in which it holds for shuffled rows, beyond which it is no relation
_EXACT = 1e-3  # residual of a linear relation, in spreads
_LEAST_WEIGHT = 1e-3  # of a column in a relation of standardised columns, to be named
_MOST_NUMBERS, _MOST_TEXTS = 30, 10
_RARE, _EXPECTED = 0.05, 5  # share of a rare category; how often it must have been seen
_LISTED = 4

Codes = NDArray[np.int64]
Breaks = Callable[[Array], NDArray[np.bool_]]  # numbers (N, C), NaN where missing -> which rows break a relation (N,)


class _Judged(NamedTuple):
    """One candidate of a finding: the worst is the finding.

    Attributes:
        verdict: on it.
        what: in words.
        samples, held_out: the share of either that it is about.
    """

    verdict: str
    what: str
    samples: float
    held_out: float

    @property
    def rank(self) -> tuple[int, float]:
        """The worst first."""
        return (BAD, DOUBTFUL, UNKNOWN, GOOD).index(self.verdict), self.held_out - self.samples

    @property
    def remark(self) -> str:
        """The other share."""
        return f"held-out rows {100 * self.held_out:.3g} %"


def relations(e: Evidence) -> Section:
    """Orders and linear relations of numbers, pairs of texts, and shares of rare categories."""
    section = Section("relations", "Relations and rare categories")
    if e.train is None or len(e.train) < _LEAST or not len(e.samples):
        few = (
            "the training rows are not known: give them, too" if e.train is None else "there are too few training rows"
        )
        section.missing = few
        return section
    if not e.density.space.byte_count:  # of pixels there are far too many
        _of_numbers(e, e.train, section)
    texts = [e.texts(rows) for rows in (e.train, e.test, e.samples)]
    names = [name for name in texts[0] if name in texts[2]][:_MOST_TEXTS]
    if names:
        codes = {name: _coded([part[name] for part in texts]) for name in names}
        _combinations(codes, e, section)
        _rare(codes, section)
    if not section.findings:
        section.missing = "no relation and no rare category was found in the training rows"
    return section


def _of_numbers(e: Evidence, train: Rows, section: Section) -> None:
    """The finding on the relation of numbers that samples break most."""
    numbers, names = _numbers(e)
    known, test, samples = (numbers(rows) for rows in (train, e.test, e.samples))
    candidates = [*_orders(known, names), *linear_relations(known, names)]
    judged = []
    for words, breaks in candidates:
        share, real = float(breaks(samples).mean()), float(breaks(test).mean())
        noise = share_noise(share, len(samples), real, len(test), len(candidates))
        judged.append(_Judged(rate("relation", share - real, noise), words, share, real))
    judged.sort(key=lambda j: j.rank)
    section.figures["relations"] = [{"what": j.what, "samples": j.samples, "held_out": j.held_out} for j in judged]
    section.table += [
        [j.what, f"{100 * j.samples:.3g} %", f"of samples break it ({j.remark})"] for j in judged[:_LISTED]
    ]
    if judged:
        first = judged[0]
        why = f"{100 * first.samples:.3g} % of samples break {first.what} ({first.remark}){_unsure(first, e.test)}"
        section.add("relation", first.verdict, why)


def _numbers(e: Evidence) -> tuple[Callable[[Rows], Array], list[str]]:
    """-> rows as their varying columns of numbers (N, C), NaN where missing; the names of the columns.

    Means of blocks of an image are no columns.
    """
    own = set(e.names)
    features = e.feature_list
    chosen = [i for i in e.varying if not features[i].indicator and features[i].name in own][:_MOST_NUMBERS]
    gone = {f.column: i for i, f in enumerate(e.feature_list) if f.indicator}

    def numbers(rows: Rows) -> Array:
        matrix = e.features(rows)
        out = matrix[:, chosen].copy()
        for k, i in enumerate(chosen):
            if (indicator := gone.get(e.feature_list[i].column)) is not None:
                out[matrix[:, indicator] > 0, k] = np.nan
        return out

    return numbers, [e.feature_list[i].name for i in chosen]


def _orders(train: Array, names: list[str]) -> list[tuple[str, Breaks]]:
    """Pairs of columns of which one is never above the other, though both ranges would allow it."""
    candidates: list[tuple[str, Breaks]] = []
    for i, j in itertools.permutations(range(len(names)), 2):
        both = train[~np.isnan(train[:, [i, j]]).any(1)]
        if len(both) < _LEAST or (both[:, i] <= both[:, j]).mean() < _HOLDS:
            continue
        if auc(both[:, i], both[:, j])[0] < _CHANCE:
            candidates.append((f"{names[i]} <= {names[j]}", lambda x, i=i, j=j: x[:, i] > x[:, j]))
    return candidates


def linear_relations(train: Array, names: list[str]) -> list[tuple[str, Breaks]]:
    """Exact linear relations: directions in which the standardised rows have no spread to speak of."""
    whole = train[~np.isnan(train).any(1)]
    if len(whole) < max(_LEAST, 5 * len(names)) or len(names) < 2:
        return []
    centre, spread = whole.mean(0), whole.std(0)
    if not (spread > 0).all():
        return []
    z = (whole - centre) / spread
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    candidates: list[tuple[str, Breaks]] = []
    for k in np.flatnonzero(values < _EXACT**2):
        v = vectors[:, k]
        tolerance = 3 * float(np.quantile(abs(z @ v), _HOLDS)) + 1e-9

        def breaks(x: Array, v: Array = v, tolerance: float = tolerance) -> NDArray[np.bool_]:
            return abs(((x - centre) / spread) @ v) > tolerance  # False with a missing number

        shown = [names[i] for i in np.argsort(-abs(v)) if abs(v[i]) > max(_LEAST_WEIGHT, 10 * tolerance)]
        more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
        candidates.append((f"the linear relation of {', '.join(shown[:_LISTED])}{more}", breaks))
    return candidates


def _coded(parts: list[NDArray[np.object_]]) -> list[Codes]:
    """Texts of several tables (N_k,) -> codes (N_k,), the same for the same text; -1 for none."""
    places: dict[str, int] = {}
    return [np.array([-1 if t is None else places.setdefault(t, len(places)) for t in part], int) for part in parts]


def _unsure(judged: _Judged, rows: Sized) -> str:
    """The end of a sentence for the verdict "cannot tell", with the number of rows; else empty."""
    few = f", and {len(rows):,} held-out rows cannot tell whether that is chance"
    return few if judged.verdict == UNKNOWN else ""


def _combinations(codes: dict[str, list[Codes]], e: Evidence, section: Section) -> None:
    """The finding on the pair of columns in which samples have most pairs that no training row has."""
    judged, pairs = [], list(itertools.combinations(codes, 2))
    for a, b in pairs:
        (known_a, test_a, drawn_a), (known_b, test_b, drawn_b) = codes[a], codes[b]
        width = 2 + max(int(part.max(initial=0)) for part in codes[b])

        def unseen(x: Codes, y: Codes, known_a: Codes = known_a, known_b: Codes = known_b, width: int = width) -> float:
            is_new = ~np.isin(x * width + y, known_a * width + known_b)
            return float((np.isin(x, known_a) & np.isin(y, known_b) & is_new).mean())

        share, real = unseen(drawn_a, drawn_b), unseen(test_a, test_b)
        noise = share_noise(share, len(drawn_a), real, len(test_a), len(pairs))
        judged.append(_Judged(rate("combination", share - real, noise), f"{a} and {b}", share, real))
    if judged:
        worst = min(judged, key=lambda j: j.rank)
        section.figures["combination"] = {"columns": worst.what, "samples": worst.samples, "held_out": worst.held_out}
        remark = f"of samples pair {worst.what} as no training row does{e.of_known} ({worst.remark})"
        section.table.append(["unseen pairs", f"{100 * worst.samples:.3g} %", remark])
        section.add("combination", worst.verdict, f"{100 * worst.samples:.3g} % {remark}{_unsure(worst, e.test)}")


def _rare(codes: dict[str, list[Codes]], section: Section) -> None:
    """The finding on the rare category whose share is farthest off."""
    counted = []
    for name, (train, test, samples) in codes.items():
        real = np.concatenate([train, test])
        size = 1 + max(int(part.max(initial=0)) for part in (real, samples))
        counts, drawn = (np.bincount(part[part >= 0], minlength=size) for part in (real, samples))
        for k in np.flatnonzero((counts >= _EXPECTED) & (counts < _RARE * len(real))):
            counted.append((name, counts[k], drawn[k]))
    n, m = (sum(len(part) for part in next(iter(codes.values()))[i : i + 2]) for i in (0, 2))
    if not counted:
        return
    z, judged = normal_noise(len(counted), sides=2), []
    for name, count, drawn in counted:
        real, share, inverse = count / n, drawn / m, 1 / n + 1 / m
        off, larger = abs(share - real), max(real, share)
        noise = z * math.sqrt((count + drawn) / (n + m) * inverse) + 2 * inverse
        verdict = rate("rare", off / larger, noise / larger)
        judged.append(((BAD, DOUBTFUL, GOOD, UNKNOWN).index(verdict), -off / larger, verdict, name, real, share))
    section.figures["rare"] = {"categories": len(counted), "lost": sum(drawn == 0 for *_, drawn in counted)}
    _, _, verdict, name, real, share = min(judged)
    figures = f"{100 * share:.3g} % of samples, {100 * real:.3g} % of real rows"
    section.table.append(["rare categories", f"{len(counted)}", f"the farthest off is one of {name}: {figures}"])
    section.add("rare", verdict, f"a rare category of {name} has {figures}")
