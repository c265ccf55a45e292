"""Tails of a fitted table: samples leave the range of the data as often as further rows would, and about as far.

As `training.tails` bends the first layer of a flow, the maps of single columns are bent beyond the outermost rows.
"""

from __future__ import annotations

import math
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..density import Density
from ..training.tails import (
    LEAST_ROWS,
    MOST_LOST,
    MOST_ROWS,
    drawn_in_time,
    draws_for,
    harmless_bends,
    mean_loss,
    one_side,
)
from .columns import Kind
from .columns.marginal import MarginalTransform
from .columns.number import as_number
from .density import TableDensity
from .schema import Schema
from .space import Columns, EncodedRows, Known

Values = NDArray[np.float64]
_TIED = 0.5  # of 1 / (N + 1), where several rows share the outermost cell: a further one is likely to lie there, too


@torch.no_grad()
def calibrate_tails(
    density: TableDensity, rows: EncodedRows, held_out: EncodedRows | None, seed: int, until: float = math.inf
) -> None:
    """Bends the maps of numbers of a fitted density beyond the outermost of the rows, where they are at most 20,000.

    Maps are bent as far as that makes neither part of the rows much less likely, bent for `rows` alone: held-out rows
    tell what lies beyond the others; the training rows, more of which are outermost, whether bends tear columns apart
    that determine each other.

    Args:
        density: its schema is replaced.
        rows: encoded rows that it was trained on.
        held_out: encoded rows that it was not trained on; None bends every map at full strength.
        seed: of draws.
        until: when, by `time.perf_counter`, no more bends are tried than all at full strength; none where there is no
            time to draw.
    """
    parts = [rows] if held_out is None else [rows, held_out]
    if sum(map(len, parts)) > MOST_ROWS:
        return
    space, whole = density.space, EncodedRows.joined(parts)
    drawn, known = _drawn(density, whole, seed, until), [Known() for _ in parts]
    before = [density.log_prob_of(part, known=own) for part, own in zip(parts, known, strict=True)]
    if drawn is None:
        return

    def bends(strength: float) -> tuple[dict[str, Kind], dict[str, Kind]]:
        for_rows, for_all = (_bent_columns(space, part, drawn, strength) for part in (rows, whole))
        return for_rows, for_all

    def bend(columns: dict[str, Kind]) -> None:
        replaced = tuple(columns.get(column.name, column) for column in space.schema.columns)
        density.space = Columns(Schema(replaced, space.schema.named), space.given, TableDensity)  # type: ignore[assignment]

    def is_harmless(columns: dict[str, Kind]) -> bool:
        if held_out is None:
            return True
        bend(columns)
        after = (density.log_prob_of(part, known=own) for part, own in zip(parts, known, strict=True))
        return all(mean_loss(old, new) <= MOST_LOST for old, new in zip(before, after, strict=True))

    bend(harmless_bends(bends, is_harmless, until))


def _bent_columns(space: Columns, rows: EncodedRows, drawn: Values, strength: float) -> dict[str, Kind]:
    """The columns of numbers by name, with maps that are bent beyond the outermost of the rows.

    Args:
        space: of the density as it was fitted.
        rows: which the range of draws is to follow.
        drawn: draws of the inner density (S, M + C).
        strength: of the bends, from 0 (none) to 1 (samples leave the range of the rows as often as further rows would).
    """
    x = space.tensor(rows, rows.noise())[0].numpy()
    bent: dict[str, Kind] = {}
    m, c = 0, len(space.sizes)
    for target in space.targets:
        kind = target.coded
        with_number = [np.ones(len(part), bool) for part in (x, drawn)]
        if kind.is_discrete:
            with_number = [part[:, m] < kind.num_numbered_states for part in (x, drawn)]
            m += 1
        if not kind.has_number:
            continue
        own, others = (part[some, c] for part, some in zip((x, drawn), with_number, strict=True))
        column = c - len(space.sizes)
        is_bent = kind is target and not as_number(kind).is_circular
        if is_bent and min(len(own), len(others)) >= LEAST_ROWS:
            base, width = (array[with_number[0], column] for array in (rows.base, rows.width))
            bent[kind.name] = _bent(kind, own, others, base, width, strength)
        c += 1
    return bent


def _drawn(density: TableDensity, rows: EncodedRows, seed: int, until: float) -> Values | None:
    """Draws of the inner density (S, M + C), for contexts of the rows in turn."""
    inner, context = cast(Density, density.inner), rows.context
    context = None if context is None else context.to(density.device)
    generator = torch.Generator(density.device).manual_seed(seed)
    drawn = drawn_in_time(partial(inner.sample, generator=generator), context, draws_for(len(rows)), until)
    return None if drawn is None else drawn.double().cpu().numpy()


def _bent(kind: Kind, own: Values, drawn: Values, base: Values, width: Values, strength: float) -> Kind:
    """A kind whose map is bent on both sides: numbers of rows (N,) and of draws (S,) as it maps them, cells (N,)."""
    map = kind.marginal
    knots, inside = list(map.knots), MarginalTransform(None, None, map.knots, map.heavy)

    def at_levels(y: Values) -> tuple[Values, Values]:
        t = inside.inverse(y)
        return t, np.exp(inside.forward(t)[1])

    for side in (1.0, -1.0):
        outermost = (base + width).max() if side > 0 else base.min()
        ties = int((base == (base.max() if side > 0 else base.min())).sum())
        edge = _edge(map, float(outermost))
        share = (1.0 if ties == 1 else _TIED) / (len(own) + 1)
        if edge is not None:
            knots = one_side(
                knots, at_levels, side, np.sort(side * own), np.sort(side * drawn), side * edge, share, strength
            )
    return as_number(kind).with_map(tuple(knots), map.heavy)


def _edge(map: MarginalTransform, w: float) -> float | None:
    """Where the end of the data is mapped to; None where it is a bound."""
    if w in (map.low, map.high):
        return None
    return float(map.forward(np.array([w]))[0][0])
