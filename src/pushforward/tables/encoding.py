"""Rows of a table as what a density sees: their states, their numbers, and what they are conditional on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..density import Mixture
from ..flow import Ensemble, Flow
from ..io import _csv
from . import cells
from .arrow import Source
from .column import Column
from .mass import Embedder
from .relation import rest_of, whole_of
from .schema import Schema

_LOG_NORMAL = -0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Encoded:
    """N rows, encoded; M columns with states, C with numbers.

    Attributes:
        states: (N, M) int64, 0 in impossible rows.
        base: (N, C) float64, the numbers before noise, NaN where a cell holds none.
        width: (N, C) float64, the width of the cells over which noise spreads them, 0 for none.
        given: (N, G) float32, what the density is conditional on, None where it is not.
        log_mass: (N,) float64, log-mass of cells given their states; -inf for impossible rows.
        trouble: what is impossible, in words.
    """

    states: NDArray[np.int64]
    base: NDArray[np.float64]
    width: NDArray[np.float64]
    given: NDArray[np.float32] | None
    log_mass: NDArray[np.float64]
    trouble: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.states)

    def take(self, index: NDArray[np.integer[Any]]) -> Encoded:
        """The rows with these numbers, copied; `trouble` is not theirs."""
        given = None if self.given is None else self.given[index]
        return Encoded(self.states[index], self.base[index], self.width[index], given, self.log_mass[index])


def joined_rows(parts: Sequence[Encoded]) -> Encoded:
    """Rows of one layout, one below the other."""
    if len(parts) == 1:
        return parts[0]
    given = [p.given for p in parts if p.given is not None]
    states, base, width, log_mass = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("states", "base", "width", "log_mass")
    )
    return Encoded(states, base, width, np.concatenate(given) if given else None, log_mass)


class Layout:
    """Which columns are targets and given, and where their states and numbers go."""

    def __init__(self, schema: Schema, given: Sequence[str]) -> None:
        self.schema = schema
        unknown = [g for g in given if g not in schema.names]
        if unknown:
            raise ValueError(f"given column {unknown[0]!r} is none of the modelled ones: {', '.join(schema.names)}")
        self.targets: list[Column] = [c for c in schema.modelled if c.name not in given]
        # What is known is easier to learn from without bends (redshifts from magnitudes: by .13 nats).
        self.given: list[Column] = [c.straight() for c in schema.modelled if c.name in given]
        if not self.targets:
            raise ValueError("every column is given: none is left to model")
        coded = [c.coded for c in self.targets]
        self.sizes = tuple(c.states for c in coded if c.in_mass)
        self.numbers = [c for c in coded if c.flows]
        in_mass = [c.name for c in coded if c.in_mass]
        self.state_of = [in_mass.index(c.name) if c.in_mass else None for c in self.numbers]
        self.given_sizes = tuple(c.states for c in self.given if c.in_mass)
        self.given_numbers = sum(c.flows for c in self.given)
        # A value never seen, in a column of few values, has a little mass but is not sampled.
        self.possible = [[s > 0 or c.flows or not c.open for s in range(c.states)] for c in coded if c.in_mass]

    def encode(self, source: Source) -> Encoded:
        """The rows of a table, encoded.

        Raises:
            ValueError: a column is absent or of another kind, text among numbers, or infinities.
        """
        found = dict(zip(source.names, source.data.columns, strict=True))
        wanted = self.targets + self.given
        if not (self.schema.named and source.named) and len(source.names) == len(self.schema.columns):
            found = {c.name: found[n] for c, n in zip(self.schema.columns, source.names, strict=True)}
        absent = [c.name for c in wanted if c.name not in found]
        if absent:
            raise ValueError(
                f"{source.where} lacks the columns {', '.join(map(repr, absent[:10]))} of the model; it has "
                f"{', '.join(map(repr, source.names[:20]))}"
            )
        n = len(source)
        log_mass = np.zeros(n)
        states = np.zeros((n, len(self.sizes)), dtype=np.int64)
        base, width = np.empty((2, n, len(self.numbers)))
        trouble, m, c = [], 0, 0
        for target in self.targets:
            column, encoded = target.coded, _encode(target, found, source.text)
            log_mass += np.where(encoded.state < 0, -np.inf, encoded.log_mass)
            trouble += [encoded.trouble] if encoded.trouble else []
            if column.in_mass:
                states[:, m] = np.maximum(encoded.state, 0)
                m += 1
            if column.flows:
                base[:, c], width[:, c] = encoded.base, encoded.width
                c += 1
        given = self.encode_given(found, source.text, n) if self.given else None
        return Encoded(states, base, width, given, log_mass, tuple(trouble))

    def decode(
        self, states: NDArray[np.int64], numbers: NDArray[np.float64], given: Source | None, picks: np.random.Generator
    ) -> tuple[Any, NDArray[np.bool_]]:
        """The inverse of `encode`: an Arrow table of all modelled columns, in the order of the schema.

        -> the table; rows (N,) of which a sum lay beyond the bounds of its column.

        Args:
            states: (N, M).
            numbers: (N, C), as `Column.marginal` gives them.
            given: N rows of the given columns.
            picks: which of the rare categories that share a state.
        """
        found = {} if given is None else {c.name: given.data.column(c.name) for c in self.given}
        texts = dict.fromkeys(found, given is not None and given.text)
        of_states, of_numbers = iter(states.T), iter(numbers.T)
        broken = np.zeros(len(states), dtype=bool)
        for target in self.targets:
            column = target.coded
            state = next(of_states) if column.in_mass else np.zeros(len(states), dtype=np.int64)
            cell = cells.decode(column, state, next(of_numbers) if column.flows else None, picks)
            if target.relation is not None:
                cell, beyond = whole_of(target, cell, found, texts)
                broken |= beyond
            found[target.name] = cell
        return _csv.pyarrow().table({name: found[name] for name in self.schema.names}), broken

    def encode_given(self, found: dict[str, Any], text: bool, n: int) -> NDArray[np.float32]:
        """The given columns: states first, an unknown one as one past the last, then numbers, 0 where absent."""
        states, numbers = [np.zeros((n, 0))], [np.zeros((n, 0))]
        for column in self.given:
            encoded = cells.encode(column, found[column.name], text)
            if encoded.trouble:
                warnings.warn(f"given {encoded.trouble}: taken as unknown", stacklevel=5)
            if column.in_mass:
                states.append(np.where(encoded.state < 0, column.states, encoded.state)[:, None])
            if column.flows:
                y, _ = noisy_column(column, encoded.base, encoded.width, np.full(n, 0.5))
                numbers.append(np.clip(np.where(np.isnan(encoded.base), 0.0, y), -10, 10)[:, None])
        return np.concatenate(states + numbers, 1).astype(np.float32)

    def embedders(self, generator: torch.Generator | None = None) -> tuple[Embedder | None, Embedder | None]:
        """-> what embeds the given columns for the mass function, and states and given columns for the flow."""
        given = Embedder(self.given_sizes, self.given_numbers, generator=generator)
        both = Embedder(self.sizes + self.given_sizes, self.given_numbers, generator=generator)
        return given if given.features_in else None, both if both.features_in else None


def _encode(column: Column, found: dict[str, Any], text: bool) -> cells.Cells:
    """The cells of a target, or of the rest of its relation."""
    own = cells.encode(column, found[column.name], text)
    if column.relation is None:
        return own
    rest, missing = rest_of(column, found, text)
    encoded = cells.encode_numbers(column.relation.rest, rest, missing)
    state = np.where(own.state < 0, -1, encoded.state)
    lost, broken = (own.state >= 0) & missing, (own.state >= 0) & ~missing & (encoded.state < 0)
    trouble, told = own.trouble, column.relation.text(column.step or 1)
    if not trouble and broken.any():
        trouble = f"column {column.name!r}: {int(broken.sum()):,} that are not {told}, as all were"
    elif not trouble and lost.any():
        trouble = f"column {column.name!r}: {int(lost.sum()):,} without a part of {told}"
    return replace(encoded, state=state, trouble=trouble)


def with_embedding(flow: Flow, embed: Embedder | None) -> Flow:
    """Gives a flow that a recipe built for the embedded context the embedding of the raw one."""
    if embed is not None:
        flow.embed, flow.context_dim = embed, embed.features_in
    return flow


def one_or_several(flows: list[Flow]) -> Flow | Mixture | None:
    """The flow, the ensemble of the flows, or None."""
    return None if not flows else flows[0] if len(flows) == 1 else Ensemble(flows)


def noisy_column(
    column: Column, base: NDArray[np.float64], width: NDArray[np.float64], u: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numbers base (N,), NaN for none, cells of width (N,) and noise u (N,) -> y (N,), the log-density to add (N,)."""
    absent = np.isnan(base)
    w = base + width * u if column.noisy else base
    # The mass of a cell is the mean density within it, times its width.
    of_cell = np.log(np.where(width > 0, width, 1.0))
    if not absent.any():
        y, log_slope = column.marginal.forward(w)
        return y, log_slope + of_cell
    y, added = np.empty_like(base), np.empty_like(base)
    y[~absent], log_slope = column.marginal.forward(w[~absent])
    added[~absent] = log_slope + of_cell[~absent]
    filled = torch.special.ndtri(torch.from_numpy(u[absent])).numpy()
    y[absent], added[absent] = filled, 0.5 * filled * filled - _LOG_NORMAL
    return y, added
