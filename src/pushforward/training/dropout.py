"""Dropout of what the conditioners of layers see, so that few rows are not learned by heart.

Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting". Durkan et al. 2019 (arXiv
1906.04032) drop hidden units of the conditioners of neural spline flows. For any one choice of what is dropped a
layer stays a bijection, with the log-determinant that it gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..bijections import Autoregressive, Coupling, GroupAutoregressive, TriangularCoupling
from ..bijections.coupling import LatticeCoupling

_WITH_NET = Autoregressive | Coupling | TriangularCoupling | LatticeCoupling  # one `net`: `MaskedCoupling` has two


@contextmanager
def dropping(density: nn.Module, share: float, generator: torch.Generator) -> Iterator[None]:
    """Within, conditioners in training mode see zeros in place of a random share of the channels that they are given.

    Unlike hidden units, what is left is not made larger: a channel that is dropped counts as one at its mean.

    Args:
        density: whose layers are meant: couplings and autoregressive ones.
        share: of these numbers, 0 to below 1; contexts stay.
        generator: of what is dropped, on the CPU.
    """

    def drop(net: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        given: Tensor = inputs[0]
        if not net.training:  # validation, in between
            return inputs
        is_kept = torch.rand(given.shape, generator=generator) >= share
        return (given * is_kept.to(given), *inputs[1:])

    with ExitStack() as stack:
        for net in _nets(density) if share else []:
            stack.callback(net.register_forward_pre_hook(drop).remove)
        yield


def _nets(density: nn.Module) -> list[nn.Module]:
    """The networks of couplings and autoregressive layers."""
    nets: list[Any] = []
    for layer in density.modules():
        nets += layer.nets if isinstance(layer, GroupAutoregressive) else []
        nets += [layer.net] if isinstance(layer, _WITH_NET) else []
    return [net for net in nets if isinstance(net, nn.Module)]
