"""Between rows and the latents of the only flow that a density is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..density import Density
from ..flow import Flow


def latents(density: Density, x: Any, context: Any) -> Tensor | None:
    """Rows in the latent space of a density, or of the only flow that it is made of; None where there is no such."""
    z = density.latent(x, context)
    if z is not None:
        return z
    flows = density.inner_flows(x, context)
    return flows[0].flow.f(flows[0].x, flows[0].context)[0] if len(flows) == 1 else None


def from_latents(flow: Flow | None, constants: Mapping[int, float], z: Tensor, context: Tensor | None) -> Tensor:
    """The inverse of `latents` for rows of numbers: z (N, D), context (N, K) -> x (N, D).

    Args:
        flow: of the columns that vary; None where none does.
        constants: {index: value} of the others, whose latents are what rows differ from the value by.
        z: latents.
        context: of the flow, or None.
    """
    x = z.clone()
    for column, value in constants.items():
        x[:, column] += value
    if flow is not None:
        varying = [i for i in range(z.shape[1]) if i not in constants]
        x[:, varying] = flow.g(z[:, varying], context)
    return x
