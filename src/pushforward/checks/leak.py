"""Leak: whether held-out rows are training rows, which makes all figures too good."""

from __future__ import annotations

import numpy as np

from .evidence import Evidence
from .report import Section
from .stats import BAD, DOUBTFUL, share_noise
from .thresholds import rate

_LEAST = 20
_SAME = 0.99  # share of the held-out rows that are training rows, from which they are likely the same


def leak(e: Evidence) -> Section:
    """Whether held-out rows are training rows more often than training rows come twice."""
    section = Section("leak", "Held-out rows")
    if e.known is None:
        section.missing = "the training rows are not known: give them, too"
        return section
    if min(len(e.test), len(e.known)) < _LEAST:
        section.missing = "there are too few rows to tell whether they are training rows"
        return section
    _, number, counts = np.unique(e.known_keys, return_inverse=True, return_counts=True)
    twice = float((counts[number] > 1).mean())
    leaked = float(np.isin(e.keys(e.test), e.known_keys).mean())
    section.figures |= {"test_rows_in_train": leaked, "train_rows_twice": twice}
    verdict = rate("leaked", leaked - twice, share_noise(leaked, len(e.test), twice, len(e.known)))
    share = f"{100 * leaked:.3g} %" if leaked else "none"
    why = f"{share} of the held-out rows are training rows"
    if twice:
        why += f"; {100 * twice:.3g} % of the training rows come twice or more"
    if verdict in (BAD, DOUBTFUL):
        why += ": all figures are too good"
        why += ", likely because the same rows are given as both" if leaked > _SAME else ""
    section.add("leaked", verdict, why)
    return section
