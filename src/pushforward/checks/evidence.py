"""What the sections of a check share: rows, samples of the model, their log-densities, and two sets of real rows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .encode import Encoder
from .stats import Array, share_within
from .subject import Subject, take

_COMPARED = 4000  # rows of each side of a comparison of two samples
_TIED = 0.5  # share of repeated values beyond which a column counts as quantised


@dataclass
class Scored:
    """Rows and their log-densities.

    Attributes:
        subject: the density.
        test: held-out rows, at most `max_rows` of them.
        numbers: what the report calls each of all held-out rows by (N,).
        index: which of all held-out rows `test` holds.
        train: rows the density was fitted to, at most twice `max_rows` of them; None where they are not known.
        log_all: log-density of all held-out rows (N,).
        log_test: that of `test`.
        log_train: that of `train`.
        impossible: how many further held-out rows the model's schema rules out, as by a category that the training
            never saw; they are left out.
        encoder: rows to numbers.
        seed: of every random step.
        constant: columns of one value.
        tied: columns of numbers most of whose values repeat: a continuous density can grow without bound on them.
    """

    subject: Subject
    test: Any
    numbers: Any
    index: Any
    train: Any
    log_all: Array
    log_test: Array
    log_train: Array | None
    impossible: int
    encoder: Encoder
    seed: int
    constant: list[str]
    tied: list[str]

    def rng(self, section: int) -> np.random.Generator:
        """The source of randomness of a section: another one for each, so that none depends on what ran before."""
        return np.random.default_rng([self.seed, section])


@dataclass
class Evidence(Scored):
    """Rows, samples and log-densities.

    Attributes:
        samples: draws of the density, as many as twice `test` or 10,000 at least.
        log_samples: their log-densities.
        lost: draws that are no finite numbers, and were dropped.
        held, other, fake: as many held-out rows, other real rows and samples.
        other_is: where the other real rows come from.
    """

    samples: Any
    log_samples: Array
    lost: int
    held: Any
    other: Any
    fake: Any
    other_is: str

    def level(self, log_density: Array) -> Array:
        """For each row (N,) the mass of the smallest region that holds it: the part of the samples that are denser."""
        # A row without a density lies beyond all others.
        return 1 - share_within(np.nan_to_num(log_density, nan=-np.inf), np.nan_to_num(self.log_samples, nan=-np.inf))


def scored(subject: Subject, test: Any, train: Any, numbers: Any, max_rows: int, seed: int) -> Scored:
    """Scores rows; test and train are rows of the subject's kind."""
    rng = np.random.default_rng([seed, 0])
    log_all = subject.log_prob(test)
    lost = np.flatnonzero(~np.isfinite(log_all))
    impossible = lost[subject.impossible(take(test, lost))] if 0 < len(lost) < len(test) else lost[:0]
    if len(impossible):
        possible = np.setdiff1d(np.arange(len(test)), impossible)
        test, numbers, log_all = take(test, possible), numbers[possible], log_all[possible]
    index = np.sort(rng.permutation(len(test))[:max_rows])
    chosen = take(test, index)
    known = None if train is None else take(train, np.sort(rng.permutation(len(train))[: 2 * max_rows]))
    encoder = subject.encoder(chosen if known is None else known)
    return Scored(
        subject=subject,
        test=chosen,
        numbers=numbers,
        index=index,
        train=known,
        log_all=log_all,
        log_test=log_all[index],
        log_train=None if known is None else subject.log_prob(known),
        impossible=len(impossible),
        encoder=encoder,
        seed=seed,
        constant=_constant(subject, encoder),
        tied=_tied(subject, chosen),
    )


def gather(found: Scored) -> Evidence:
    """Draws samples beside rows that were scored."""
    subject, chosen, known, rng = found.subject, found.test, found.train, found.rng(8)
    samples = subject.sample(max(2 * len(chosen), 10_000), found.seed)
    drawn = len(samples)
    matrix = subject.matrix(samples)
    if matrix is not None:
        samples = matrix[np.isfinite(matrix).all(1)]
    if known is None:
        size = min(len(chosen) // 2, _COMPARED)
        order = rng.permutation(len(chosen))
        held, other = take(chosen, order[:size]), take(chosen, order[size : 2 * size])
        other_is = "the other half of the held-out rows"
    else:
        size = min(len(chosen), len(known), _COMPARED)
        held, other = (take(part, rng.permutation(len(part))[:size]) for part in (chosen, known))
        other_is = "training rows"
    return Evidence(
        **{f.name: getattr(found, f.name) for f in fields(found)},
        samples=samples,
        log_samples=subject.log_prob(samples) if len(samples) else np.empty(0),
        lost=drawn - len(samples),
        held=held,
        other=other,
        fake=take(samples, np.arange(min(size, len(samples)))),
        other_is=other_is,
    )


def _constant(subject: Subject, encoder: Encoder) -> list[str]:
    """The modelled columns of which all numbers are constant among the real rows."""
    modelled = len(subject.names) - subject.given
    varying = {encoder.owner[i] for i in encoder.varying}
    return [subject.names[i] for i in range(modelled) if i not in varying]


def _tied(subject: Subject, rows: Any) -> list[str]:
    matrix = subject.matrix(rows)
    if matrix is None or len(matrix) < 2:
        return []
    tied = []
    for name, values in zip(subject.names, matrix.T[: len(subject.names) - subject.given], strict=False):
        counts = np.unique(values, return_counts=True)[1]
        if len(counts) > 1 and counts[counts > 1].sum() > _TIED * len(values):
            tied.append(name)
    return tied
