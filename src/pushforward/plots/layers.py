"""The states between the layers of a flow, on the way from its latent plane to the data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from ..bijections import Autoregressive, Bijection, Chain, Coupling, MaskedCoupling, TriangularCoupling
from ..flow import Flow

_CONDITIONED_LAYERS = (Autoregressive, Coupling, MaskedCoupling, TriangularCoupling)
_SEEN = 0.03  # spreads that a layer moves points by, beside shifts and scales, for a panel of its own


class State(NamedTuple):
    """A state worth a picture: how many layers it is after, the points (N, 2) in it, and its name."""

    passed: int
    points: np.ndarray
    name: str


def inverses(flow: Flow, z: np.ndarray, context: Any) -> list[np.ndarray]:
    """What the layers make of z (N, 2) on its way to the data: after none of them, one, ..., all: each (N, 2)."""
    like = flow.base.sample(0)
    states = [torch.as_tensor(z, dtype=like.dtype, device=like.device)]
    if context is not None:
        context = torch.as_tensor(context, dtype=like.dtype, device=like.device).expand(len(z), -1)
        context = context if flow.embed is None else flow.embed(context)
    for layer in _layers(flow):
        states.append(layer.inverse(states[-1], context)[0])
    # Points that left the floats are not drawn: matplotlib skips NaN.
    return [torch.where(state.isfinite(), state, math.nan).cpu().double().numpy() for state in states]


def states_of(flow: Flow, z: torch.Tensor, context: Any, limit: int) -> list[State]:
    """The states of z (N, 2) on its way to the data that are worth a panel, at most `limit` of them, evenly spaced.

    Of a flow with couplings or autoregressive layers these are the states after each, joined to the shifts, scales and
    permutations that follow it; of others those after each layer that does more than shift and scale the axes.
    """
    arrays = inverses(flow, z.cpu().double().numpy(), context)
    last = len(arrays) - 1
    layers = _layers(flow)
    conditioned = [i for i, layer in enumerate(layers) if isinstance(layer, _CONDITIONED_LAYERS)]
    if conditioned:
        stops = [0, *conditioned[1:], last]
        what = "layer" if any(isinstance(layer, Autoregressive) for layer in layers) else "coupling"
        names = [f"after {what} {k} of {len(conditioned)}" for k in range(len(stops))]
    else:
        stops = _seen(arrays)
        names = [f"after layer {i} of {last}" for i in stops]
    step = max(1, math.ceil((len(stops) - 1) / (limit - 1)))
    shown = [*range(0, len(stops) - 1, step), len(stops) - 1]
    names[0], names[-1] = "z", "X = g(z)"
    return [State(stops[i], arrays[stops[i]], names[i]) for i in shown]


def _layers(flow: Flow) -> list[Bijection]:
    """In the order in which a latent passes them."""
    return list(_flat(flow.bijection))[::-1] or [flow.bijection]


def _flat(bijection: Bijection) -> Iterator[Bijection]:
    if isinstance(bijection, Chain):
        for i in range(len(bijection)):
            yield from _flat(bijection[i])
    else:
        yield bijection


def _seen(arrays: list[np.ndarray]) -> list[int]:
    """The states that differ from the one before by more than a shift and scale of the axes; both ends."""
    last = len(arrays) - 1
    kept, reference = [0], _normalised(arrays[0])
    for i in range(1, last + 1):
        normalised = _normalised(arrays[i])
        if np.quantile(abs(normalised - reference), 0.99) > _SEEN:
            kept.append(i)
            reference = normalised
        elif len(kept) > 1:
            kept[-1] = i
    return kept if kept[-1] == last else [*kept, last]


def _normalised(points: np.ndarray) -> np.ndarray:
    points = np.nan_to_num(points)
    middle = np.median(points, 0)
    return (points - middle) / (abs(points - middle).mean(0) + 1e-12)
