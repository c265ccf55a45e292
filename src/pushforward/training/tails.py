"""Tails of a trained flow: draws leave the range of the rows as often as further rows would, and about as far.

Few rows say little of the tails of a flow, and what widens it for the sake of likelihood sends too many draws too
far. Of N values a further one exceeds the largest with probability 1 / (N + 1), on average. The fixed map before a flow
is bent beyond the outermost rows so that draws do so, too, where held-out rows lose little by it. It is a bijection
whatever its knots are, so that the density stays exact.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arguments import as_generator, like
from ..bijections import Chain, Precondition
from ..bijections.marginals import Knot, Knots, line
from ..density import Density
from ..flow import Flow
from .objective import Batch

Values = NDArray[np.float64]
Item = TypeVar("Item")
Bend = TypeVar("Bend")

MOST_ROWS = 20_000  # beyond which the rows tell a flow enough of its tails
_SHARE, _MOST_SECONDS = 0.1, 10.0  # of the seconds of a training, and how many at most
_DRAWN_OF_ROW, _LEAST_DRAWN, _MOST_DRAWN = 16, 2**12, 2**16
_TIMED = 512  # draws, to see how long they take
MOST_LOST = 0.02  # nats a row that draws of the right range may cost; fresh rows lose more than those that are seen
STRENGTHS = (1.0, 0.5, 0.25)  # of a bend: the next is tried where one costs more
LEAST_ROWS = 40
_OUTERMOST = 10  # rows on each side, beyond which the map is bent; more where draws crowd there
_CROWDED = 1.5
_LEAST, _LEAST_FAR = 0.05, 0.3  # of what distances are multiplied by, up to the last row and beyond it
_BETWEEN = 3  # knots between the first of the outermost rows and the last
_MIDDLE = (0.3, 0.7)  # quantiles between which the map stays as it is
_LEAST_HALF = 1e-3  # of the distance between them, where many rows are alike


@torch.no_grad()
def calibrate_tails(density: Density, rows: Batch, held_out: Batch, seed: int, until: float = math.inf) -> None:
    """Bends the `Precondition` that a flow begins with beyond the outermost of the rows; of other flows nothing.

    Args:
        density: a trained flow, or a mixture of flows, each of which is bent; goes into evaluation mode.
        rows: that it was trained on.
        held_out: rows that it was not trained on.
        seed: of draws.
        until: as in `as_many_as`.
    """
    for flow in density.eval().members:
        assert isinstance(flow, Flow)
        first, *others = flow.bijection if isinstance(flow.bijection, Chain) else [flow.bijection]
        if isinstance(first, Precondition):
            z = first(torch.cat([rows.x, held_out.x]))[0]
            drawn = _drawn(flow, Chain(*others), rows, seed, until)
            if drawn is not None:
                score = partial(flow.log_prob, held_out.x, held_out.context)
                bend_outermost(first, z, len(rows), drawn, score, until)


def bend_outermost(
    first: Precondition, z: Tensor, count: int, drawn: Tensor, score: Callable[[], Tensor], until: float = math.inf
) -> None:
    """Bends the last of the maps of a `Precondition` so that draws leave the rows as often as further rows would.

    Each channel is bent as much as held-out rows allow, which all together may lose little: bent for the training rows
    alone, for those held out that lie beyond them are the ones that can lose. The bends that stay are those of all.

    Args:
        first: before a trained flow. One that was bent before stays as it is.
        z: (N + V, C), what it makes of the rows, the training rows first.
        count: N, of these.
        drawn: (S, C), draws of what comes after it.
        score: -> the log-densities (V,) of the held-out rows by the maps as they then are.
        until: as in `as_many_as`.
    """
    if count < LEAST_ROWS or len(z) == count or not first.tails().are_lines().all():
        return
    rows, draws = (part.double().cpu().numpy() for part in (z, drawn))
    before = score()

    def bends(strength: float) -> tuple[dict[int, list[Knot]], dict[int, list[Knot]]]:
        return _knots(rows[:count], draws, strength), _knots(rows, draws, strength)

    def bend(channels: dict[int, list[Knot]]) -> None:
        columns = [channels.get(c, line(0.0, 1.0)) for c in range(z.shape[1])]
        first.bend_tails(Knots.of(columns, [(False, False)] * len(columns)))

    def is_harmless(channels: dict[int, list[Knot]]) -> bool:
        bend(channels)
        return mean_loss(before, score()) <= MOST_LOST

    bend(harmless_bends(bends, is_harmless, until))


def harmless_bends(
    bends: Callable[[float], tuple[dict[Item, Bend], dict[Item, Bend]]],
    is_harmless: Callable[[dict[Item, Bend]], bool],
    until: float,
) -> dict[Item, Bend]:
    """Bends of as many channels or columns as are harmless together, each as strong as it may be.

    Args:
        bends: of a strength, by the training rows and by all rows: the first are tried, the second stay.
        is_harmless: of bends by the training rows, with all others left out.
        until: as in `as_many_as`; no weaker bends are tried after it.
    """
    chosen: dict[Item, Bend] = {}
    tried: dict[Item, Bend] = {}  # the same ones, by the training rows
    for strength in STRENGTHS:
        for_rows, for_all = bends(strength)

        def are_harmless(some: list[Item], own: dict[Item, Bend] = for_rows, kept: dict[Item, Bend] = tried) -> bool:
            return is_harmless(kept | {item: own[item] for item in some})

        further = as_many_as([i for i in for_all if i in for_rows and i not in chosen], are_harmless, until)
        chosen = chosen | {item: for_all[item] for item in further}
        tried = tried | {item: for_rows[item] for item in further}
        if time.perf_counter() > until:
            break
    return chosen


def mean_loss(before: Tensor, after: Tensor) -> float:
    """What log-densities (N,) lost on average; NaN where one became NaN, which is no small loss."""
    return float(torch.where(before == after, 0.0, before - after).mean())


def as_many_as(candidates: Sequence[Item], is_harmless: Callable[[list[Item]], bool], until: float) -> list[Item]:
    """The candidates that are harmless together: all of them, or those that bisection finds.

    Args:
        candidates: in the order in which they are taken.
        is_harmless: of some of them together.
        until: when, by `time.perf_counter`, no more of them are tried than all together.
    """
    chosen: list[Item] = []
    parts = [list(candidates)] if candidates else []
    while parts and (len(parts[-1]) == len(candidates) or time.perf_counter() < until):
        part = parts.pop()
        if is_harmless(chosen + part):
            chosen += part
        elif len(part) > 1:
            half = len(part) // 2
            parts += [part[half:], part[:half]]
    return chosen


def seconds_for_tails(seconds: float | None) -> float:
    """What bending takes, at most, of the seconds that a training is given."""
    return 0.0 if seconds is None else min(_SHARE * seconds, _MOST_SECONDS)


def drawn_in_time(
    sample: Callable[..., Tensor], contexts: Tensor | None, count: int, until: float
) -> Tensor | None:  # fmt: skip
    """Draws from which tails are estimated, fewer where time is short; None where there is none for a quarter of them.

    Args:
        sample: as `Density.sample`.
        contexts: (N, ...), for which to draw in turn, or None.
        count: how many are wanted.
        until: when, by `time.perf_counter`, all is to be over: three quarters of the time is for them.
    """

    def draw(start: int, n: int) -> Tensor:
        if contexts is None:
            return sample(n)
        return sample(1, contexts[torch.arange(start, start + n, device=contexts.device) % len(contexts)])[0]

    if until == math.inf:
        return draw(0, count)
    began, few = time.perf_counter(), min(count, _TIMED)
    some = draw(0, few)
    now = time.perf_counter()
    rest = max(0, min(count - few, int(0.75 * (until - now) / (now - began) * few)))
    if few + rest < count / 4:
        return None
    return torch.cat([some, draw(few, rest)]) if rest else some


def draws_for(count: int) -> int:
    """The number of draws from which the tails of a density are estimated, for the rows that they are compared with."""
    return min(_MOST_DRAWN, max(_DRAWN_OF_ROW * count, _LEAST_DRAWN))


def _drawn(flow: Flow, rest: Chain, rows: Batch, seed: int, until: float) -> Tensor | None:
    """Draws (S, C) of a flow as its first layer maps them, for contexts of the rows in turn."""
    behind = Flow(rest, flow.shape, flow.base, flow.embed, context_dim=flow.context_dim)
    generator = as_generator(seed, like(flow).device)
    return drawn_in_time(partial(behind.sample, generator=generator), rows.context, draws_for(len(rows)), until)


def _knots(rows: Values, drawn: Values, strength: float) -> dict[int, list[Knot]]:
    """Bends of channels, the identity up to the outermost of rows (N, C), for draws (S, C) without bends."""
    columns = {}
    for channel, (own, others) in enumerate(zip(rows.T, drawn.T, strict=True)):
        lower, upper = np.quantile(own, _MIDDLE).tolist()
        half = max((upper - lower) / 2, _LEAST_HALF)
        knots: list[Knot] = [(y, y, 1.0) for y in ((lower + upper) / 2 - half, (lower + upper) / 2 + half)]
        for side in (1.0, -1.0):
            mirrored = np.sort(side * own)
            knots = one_side(
                knots, lambda y: (y, np.ones_like(y)), side, mirrored, np.sort(side * others), float(mirrored[-1]),
                1 / (len(own) + 1), strength, most=1.0,
            )  # fmt: skip
        columns[channel] = knots
    return columns


def one_side(
    knots: Sequence[Knot], at_levels: Callable[[Values], tuple[Values, Values]], side: float, own: Values,
    drawn: Values, edge: float, share: float, strength: float, most: float = 2.0,
) -> list[Knot]:  # fmt: skip
    """Knots with those beyond the outermost rows replaced, on the upper side; numbers are mirrored for the lower one.

    From `start` on, distances of draws are multiplied by `scale`, so that as many as wanted lie beyond `edge`; beyond
    that, by `far`, so that they lie as far beyond it, on average, as rows lie beyond `start`.

    Args:
        knots: (t, y, slope) of the map before, not mirrored.
        at_levels: where the map before has some values (K,), not mirrored: t (K,), and dy/dt there.
        side: 1 or -1, what numbers were multiplied by.
        own: (N,), numbers of the rows, in order.
        drawn: (S,), numbers of draws, in order.
        edge: the end of the data.
        share: of the draws that is to lie beyond it.
        strength: the power of `scale` and `far`.
        most: of `scale`; 1 where numbers are logarithms, which would be drawn out exponentially.
    """
    start = _start(own, drawn)
    beyond = float(np.quantile(drawn, 1 - share))
    if not (start < edge and start < beyond):
        return list(knots)
    scale = float(np.clip((edge - start) / (beyond - start), _LEAST, most)) ** strength
    last = min(start + (edge - start) / scale, float(drawn[-_OUTERMOST]))  # what comes to lie on the edge
    if not (own[-1] > start and drawn[-1] > last):  # ties: no row lies beyond the outermost ones
        return list(knots)
    far = float(np.clip(_mean_excess(own, start) / _mean_excess(drawn, last), _LEAST_FAR, 1.0)) ** strength
    levels = np.linspace(start, edge, _BETWEEN + 2)  # as the map before has them
    t, slopes = at_levels(side * levels)
    y = side * (start + (levels - start) / scale)
    factors = np.array([1.0] + [1 / scale] * _BETWEEN + [1 / far])
    kept = [knot for knot in knots if side * knot[1] < start - 1e-6 * (edge - start)]
    if not kept:  # the rows lie beyond all knots of a line
        return list(knots)
    new = list(zip(t.tolist(), y.tolist(), (slopes * factors).tolist(), strict=True))
    return kept + new if side > 0 else new[::-1] + kept


def _mean_excess(values: Values, level: float) -> float:
    """By how much those of values (N,) that exceed a level do so, on average."""
    return float((values[values > level] - level).mean())


def _start(own: Values, drawn: Values) -> float:
    """Beyond which number the map is bent: few of the rows (N,) lie there, and not many more of the draws (S,)."""
    count = min(_OUTERMOST, len(own) // 4)
    while True:
        start = float(own[-count])
        crowd = float((drawn > start).mean()) * len(own) / count
        if crowd < _CROWDED or 2 * count > len(own) // 4:
            return start
        count *= 2
