"""Tails of a fitted table: samples leave the range of the data as often as further rows would, and about as far.

A flow of few rows is told little of its tails, and what widens it for the sake of likelihood sends too many samples too
far. Of N values a further one exceeds the largest with probability 1 / (N + 1), on average. The maps of single columns
are bent beyond the outermost rows so that samples do so, too. They are bijections whatever their knots are, so that the
density stays exact.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..density import Density
from ..training.tails import DRAWN, MOST_LOST, MOST_ROWS, STRENGTHS, one_side
from .columns import Kind
from .columns.marginal import MarginalTransform
from .columns.number import as_number
from .density import TableDensity
from .noise import uniforms
from .schema import Schema
from .space import Columns, EncodedRows

Values = NDArray[np.float64]
_LEAST_ROWS = 40
_TIED = 0.5  # of 1 / (N + 1), where several rows share the outermost cell: a further one is likely to lie there, too


@torch.no_grad()
def calibrate_tails(density: TableDensity, rows: EncodedRows, held_out: EncodedRows | None, seed: int) -> None:
    """Bends the maps of numbers of a fitted density beyond the outermost of the rows, where they are at most 20,000.

    Maps are bent as far as that makes neither part of the rows much less likely, bent for `rows` alone: the held-out
    rows that lie beyond the others can lose, and the outermost rows of columns that determine each other.

    Args:
        density: its schema is replaced.
        rows: encoded rows that it was trained on.
        held_out: encoded rows that it was not trained on; None bends every map at full strength.
        seed: of draws.
    """
    every = [rows] if held_out is None else [rows, held_out]
    if sum(map(len, every)) > MOST_ROWS:
        return
    whole = EncodedRows.joined(every)
    drawn = _drawn(density, whole, seed)
    bent: dict[str, Kind] = {}
    tried: dict[str, Kind] = {}  # the same columns, bent for the training rows
    for strength in STRENGTHS:
        further = _bent_columns(density.space, whole, drawn, strength)
        further = {name: kind for name, kind in further.items() if name not in bent}
        if not further:
            break
        if held_out is not None:
            for_rows = _bent_columns(density.space, rows, drawn, strength)
            tried = _harmless(density, tried, {n: for_rows[n] for n in further if n in for_rows}, every)
            further = {name: kind for name, kind in further.items() if name in tried}
        bent |= further
    density.space = _with_columns(density.space, bent)  # type: ignore[assignment]


def _harmless(
    density: TableDensity, tried: dict[str, Kind], further: dict[str, Kind], parts: list[EncodedRows]
) -> dict[str, Kind]:
    """Columns that are bent, and those of further ones that together cost the rows of each part little.

    These are all of them, or else one after the other as long as they do. Held-out rows tell what lies beyond the
    others; the training rows, more of which are outermost, whether bends tear columns apart that determine each other.
    The density stays as it is.
    """
    space, before = density.space, [density.log_prob_of(rows) for rows in parts]

    def is_harmless(bent: dict[str, Kind]) -> bool:
        density.space = _with_columns(space, bent)  # type: ignore[assignment]
        lost = [(old - density.log_prob_of(rows)).nan_to_num(0.0) for old, rows in zip(before, parts, strict=True)]
        return all(float(part.mean()) <= MOST_LOST for part in lost)

    try:
        if is_harmless(tried | further):
            return tried | further
        for name, kind in further.items():
            with_one = tried | {name: kind}
            tried = with_one if is_harmless(with_one) else tried
        return tried
    finally:
        density.space = space  # type: ignore[assignment]


def _with_columns(space: Columns, replaced: dict[str, Kind]) -> Columns:
    columns = tuple(replaced.get(column.name, column) for column in space.schema.columns)
    return Columns(Schema(columns, space.schema.named), space.given, TableDensity)


def _bent_columns(space: Columns, rows: EncodedRows, drawn: Values, strength: float) -> dict[str, Kind]:
    """The columns of numbers by name, with maps that are bent beyond the outermost of the rows.

    Args:
        space: of the density as it was fitted.
        rows: which the range of draws is to follow.
        drawn: draws of the inner density (S, M + C).
        strength: of the bends, from 0 (none) to 1 (samples leave the range of the rows as often as further rows would).
    """
    x = space.tensor(rows, uniforms(rows.states, rows.base, 0))[0].numpy()
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
        if is_bent and min(len(own), len(others)) >= _LEAST_ROWS:
            base, width = (array[with_number[0], column] for array in (rows.base, rows.width))
            bent[kind.name] = _bent(kind, own, others, base, width, strength)
        c += 1
    return bent


def _drawn(density: TableDensity, rows: EncodedRows, seed: int) -> Values:
    """Draws of the inner density (S, M + C), for contexts of the rows."""
    inner, context = cast(Density, density.inner), rows.context
    generator = torch.Generator(density.device).manual_seed(seed)
    if context is not None:
        context = context[torch.arange(DRAWN) % len(context)].to(density.device)
    drawn = inner.sample(DRAWN if context is None else 1, context, generator=generator)
    return drawn.reshape(DRAWN, drawn.shape[-1]).double().cpu().numpy()


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
