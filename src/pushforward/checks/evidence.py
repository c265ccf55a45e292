"""What the sections of a check share: rows, samples of the density, their log-densities, and two sets of real rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..density import Density, Feature
from ..hashing import GOLDEN, splitmix
from .stats import Array, placements

_COMPARED = 4000  # rows of each side of a comparison of two samples
_SAMPLES = 10_000  # at least
_DECIMALS = 4  # of a log-density in nats, beyond which it is rounding
_TIED = 0.5  # share of repeated values beyond which a column counts as quantised


@dataclass(frozen=True)
class Rows:
    """N rows of a space, and the context of each.

    Attributes:
        values: as the space reads them.
        context: (N, K) or (N, *context_dim), of a density that is conditional on numbers beside the rows; else None.
    """

    values: Any
    context: Tensor | None = None

    @property
    def flat_context(self) -> Tensor | None:
        """The context of each row as a vector (N, K)."""
        return None if self.context is None else self.context.flatten(1)

    @property
    def context_width(self) -> int:
        """K, of `flat_context`; 0 without a context."""
        return 0 if self.flat_context is None else self.flat_context.shape[1]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: NDArray[Any]) -> Rows:
        """Some of the rows, by their numbers."""
        return Rows(self.values[index], None if self.context is None else self.context[index])


@dataclass
class Evidence:
    """Rows with their log-densities, and samples, which are drawn when a section first asks for them.

    Attributes:
        density: what is checked.
        names: of the columns of its rows.
        test: held-out rows, at most `max_rows` of them, without those that are impossible.
        numbers: what the report calls each of all held-out rows by (N,).
        index: which of all held-out rows `test` holds.
        known: all rows the density was fitted to that are given; None where none are.
        train: at most twice `max_rows` of them.
        log_all: log-density of all held-out rows (N,).
        impossible: how many further held-out rows the space rules out.
        unseen: of all held-out rows, how many are impossible or hold a value that the training never saw.
        seed: of every random step.
    """

    density: Density
    names: list[str]
    test: Rows
    numbers: NDArray[Any]
    index: NDArray[Any]
    known: Rows | None
    train: Rows | None
    log_all: Array
    impossible: int
    unseen: int
    seed: int
    _scale: tuple[Array, Array] = field(init=False)

    def __post_init__(self) -> None:
        real = self.features(self.test if self.train is None else self.train)
        spread = real.std(0)
        spread[(real == real[0]).all(0)] = 0.0  # the mean of equal values can round to another one
        self._scale = real.mean(0), spread

    def rng(self, section: int) -> np.random.Generator:
        """The source of randomness of a section: another one for each, so that none depends on what ran before."""
        return np.random.default_rng([self.seed, section])

    @torch.no_grad()
    def log_prob(self, rows: Rows) -> Array:
        """Log-density of each row (N,), in nats."""
        return as_array(self.density.log_prob(rows.values, rows.context))

    @property
    def total(self) -> int:
        """The number of all rows, held out or not."""
        return len(self.log_all) + (0 if self.known is None else len(self.known))

    @cached_property
    def given_features(self) -> set[int]:
        """The features that are conditioned on and not modelled."""
        own, given = self.density.space.names, set(self.density.space.given)
        return {i for i, f in enumerate(self.feature_list) if f.column >= len(own) or own[f.column] in given}

    @cached_property
    def feature_list(self) -> list[Feature]:
        """What the columns of `features` are; those of the context come last."""
        names, width = self.names, self.test.context_width
        own = self.density.space.names
        features = self.density.space.feature_list
        renamed = [f._replace(name=names[f.column]) if f.name == own[f.column] else f for f in features]
        return [*renamed, *(Feature(f"given{i}", len(names) + i, False) for i in range(width))]

    def features(self, rows: Rows) -> Array:
        """Rows, and their contexts, as a matrix (N, F)."""
        matrix = self.density.space.features(rows.values)
        return matrix if rows.flat_context is None else np.hstack([matrix, as_array(rows.flat_context)])

    @cached_property
    def varying(self) -> list[int]:
        """The features that are not constant among the real rows."""
        return [i for i, spread in enumerate(self._scale[1]) if spread > 0]

    @cached_property
    def varying_features(self) -> list[Feature]:
        """What the columns of `standard` are."""
        return [self.feature_list[i] for i in self.varying]

    def standard(self, rows: Rows) -> Array:
        """The varying features (N, F'), in units of their spread among the real rows."""
        centre, spread = (part[self.varying] for part in self._scale)
        return (self.features(rows)[:, self.varying] - centre) / spread

    @cached_property
    def constant(self) -> list[str]:
        """Columns of numbers that are constant among the real rows, on which a continuous density has no bound.

        What is constant and no number, such as a category, has mass 1 under every density.
        """
        columns = self._numbers(self.test if self.train is None else self.train)
        return [name for name, values in columns if len(values) > 1 and (values == values[0]).all()]

    @cached_property
    def tied(self) -> list[str]:
        """Columns of numbers most of whose values repeat: a continuous density can grow without bound on them."""
        tied = []
        for name, values in self._numbers(self.test):
            counts = np.unique(values, return_counts=True)[1]
            if len(counts) > 1 and counts[counts > 1].sum() > _TIED * len(values):
                tied.append(name)
        return tied

    def _numbers(self, rows: Rows) -> list[tuple[str, Array]]:
        """The name of each column of numbers, and those that are there."""
        space = self.density.space
        numbers = as_array(space.encode(rows.values))[:, len(space.sizes) :].T
        called = dict(zip(space.names, self.names, strict=True))
        names = [called[name] for name in space.number_names]
        if len(names) != len(numbers):
            names = [f"number {i + 1}" for i in range(len(numbers))]
        return [(name, values[~np.isnan(values)]) for name, values in zip(names, numbers, strict=True)]

    @cached_property
    def log_test(self) -> Array:
        """Log-density of `test`."""
        return self.log_all[self.index]

    @cached_property
    def log_train(self) -> Array | None:
        """Log-density of `train`."""
        return None if self.train is None else self.log_prob(self.train)

    @cached_property
    @torch.no_grad()
    def _drawn(self) -> Rows:
        """Samples; of a conditional density one for each of n contexts, all of which come before any comes twice."""
        n, space = max(2 * len(self.test), _SAMPLES), self.density.space
        contexts = self.test.values if space.given else self.test.context
        if contexts is None:
            return Rows(space.flatten_samples(self.density.sample(n, generator=self.seed)))
        rng = np.random.default_rng(self.seed)
        order = np.concatenate([rng.permutation(len(contexts)) for _ in range(-(-n // len(contexts)))])[:n]
        drawn = space.flatten_samples(self.density.sample(1, contexts[order], generator=self.seed))
        return Rows(drawn, None if self.test.context is None else self.test.context[order])

    @cached_property
    def samples(self) -> Rows:
        """Draws of the density that are finite numbers, twice as many as `test` or 10,000 at least."""
        finite = np.isfinite(self.features(self._drawn)).all(1)
        return self._drawn if finite.all() else self._drawn[np.flatnonzero(finite)]

    @cached_property
    def lost(self) -> int:
        """How many draws are no finite numbers."""
        return len(self._drawn) - len(self.samples)

    @cached_property
    def log_samples(self) -> Array:
        """Log-density of `samples`."""
        return self.log_prob(self.samples) if len(self.samples) else np.empty(0)

    @cached_property
    def compared(self) -> tuple[Rows, Rows, Rows]:
        """As many held-out rows, other real rows (`other_is`) and samples."""
        rng = self.rng(8)
        if self.train is None:
            size = min(len(self.test) // 2, _COMPARED)
            order = rng.permutation(len(self.test))
            real = self.test[order[:size]], self.test[order[size : 2 * size]]
        else:
            size = min(len(self.test), len(self.train), _COMPARED)
            real = (
                self.test[rng.permutation(len(self.test))[:size]],
                self.train[rng.permutation(len(self.train))[:size]],
            )
        return *real, self.samples[np.arange(min(size, len(self.samples)))]

    @property
    def other_is(self) -> str:
        """Where the other real rows come from."""
        return "the other half of the held-out rows" if self.train is None else "training rows"

    @torch.no_grad()
    def keys(self, rows: Rows) -> NDArray[np.uint64]:
        """A hash of each row (N,), and of its context: the same for rows that are the same, alone."""
        key = np.zeros(len(rows), dtype=np.uint64)
        texts = [_hashed(column) for column in self.texts(rows).values()]
        numbers = np.ascontiguousarray(self.features(rows).T + 0.0).view(np.uint64)  # -0 is 0
        with np.errstate(over="ignore"):
            for column in (*numbers, *texts):
                key = splitmix(key + GOLDEN ^ column)
        return key

    @cached_property
    def known_keys(self) -> NDArray[np.uint64]:
        """Those of `known`."""
        return np.empty(0, np.uint64) if self.known is None else self.keys(self.known)

    @property
    def of_known(self) -> str:
        """Of how many training rows `train` are some, in words; "" where they are all."""
        if self.known is None or self.train is None or len(self.train) == len(self.known):
            return ""
        return f" (of {len(self.train):,} of {len(self.known):,} training rows)"

    def texts(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """The columns of words of N rows, by name (N,)."""
        return self.density.space.texts(rows.values)

    def level(self, log_density: Array) -> Array:
        """For each row (N,) the mass of the smallest region that holds it: the part of the samples that are denser.

        Among equally dense samples, as all of one cell are, it is a random part of them: uniform if the model is right.
        """
        # A row without a density lies beyond all others; what differs by rounding alone is equal.
        samples, values = (np.where(np.isnan(v), -np.inf, v.round(_DECIMALS)) for v in (self.log_samples, log_density))
        return 1 - placements(samples, values, self.rng(4).random(len(values)))


def gather(density: Density, names: list[str], test: Rows, train: Rows | None, **options: Any) -> Evidence:
    """Scores held-out rows and chooses those that are compared; options are `numbers`, `max_rows` and `seed`."""
    numbers, max_rows, seed = options["numbers"], options["max_rows"], options["seed"]
    rng = np.random.default_rng([seed, 0])
    with torch.no_grad():
        log_all = as_array(density.log_prob(test.values, test.context))
    unseen = int(np.count_nonzero(density.space.unseen(test.values)))
    lost = np.flatnonzero(~np.isfinite(log_all))
    impossible = lost[density.space.impossible(test[lost].values)] if 0 < len(lost) < len(test) else lost[:0]
    if len(impossible):
        possible = np.setdiff1d(np.arange(len(test)), impossible)
        test, numbers, log_all = test[possible], numbers[possible], log_all[possible]
    index = np.sort(rng.permutation(len(test))[:max_rows])
    known, train = train, None if train is None else train[np.sort(rng.permutation(len(train))[: 2 * max_rows])]
    return Evidence(density, names, test[index], numbers, index, known, train, log_all, len(impossible), unseen, seed)


def _hashed(texts: NDArray[Any]) -> NDArray[np.uint64]:
    """Texts (N,), None among them, as numbers."""
    values, at = np.unique(["" if t is None else f"={t}" for t in texts], return_inverse=True)
    digests = (hashlib.blake2b(value.encode(errors="surrogatepass"), digest_size=8).digest() for value in values)
    return np.frombuffer(b"".join(digests), np.uint64)[at]


def as_array(values: Tensor) -> Array:
    """A tensor as float64 numbers."""
    return values.detach().cpu().double().numpy()
