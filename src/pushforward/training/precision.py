"""Mixed precision of training: conditioners in bfloat16 and channels-last, all else as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain

import torch
from torch import Tensor, nn

from ..bijections.base import Conditioned
from ..density import Density
from .settings import TrainSettings


def conditioners(module: nn.Module) -> list[nn.Module]:
    """The networks that the maps within a density take their parameters from.

    These are the child modules of each bijection, and of any other `Conditioned` map, that are no maps themselves, also
    in a list of modules.

    Example:
        >>> from pushforward import real_nvp
        >>> [type(net).__name__ for net in conditioners(real_nvp(2, depth=1))]
        ['MLP']
    """
    nets: list[nn.Module] = []
    lists = (child if isinstance(child, nn.ModuleList) else [child] for child in module.children())
    for child in chain.from_iterable(lists):
        is_part = isinstance(child, Conditioned | nn.ParameterList)
        nets += [child] if isinstance(module, Conditioned) and not is_part else conditioners(child)
    return list(dict.fromkeys(nets))


@contextmanager
def mixed_precision(density: Density, settings: TrainSettings) -> Iterator[None]:
    """Within, conditioners in training mode multiply in another precision or memory format, and cast outputs back.

    Maps and log-determinants are computed from the outputs in the precision of the rows, so that each log-density is
    exact for the parameters that its conditioners gave.

    Args:
        density: whose conditioners are meant.
        settings: of which `precision` and `channels_last` are read.
    """
    is_changed = settings.precision != "float32" or settings.channels_last
    nets = conditioners(density) if is_changed else []
    own = [vars(net).get("forward") for net in nets]  # put in place of the class's
    for net in nets:
        net.forward = _changed(net, net.forward, settings)
    try:
        yield
    finally:
        for net, before in zip(nets, own, strict=True):
            del net.forward  # that of the class stands again
            if before is not None:
                net.forward = before


def _changed(net: nn.Module, forward: Callable[..., Tensor], settings: TrainSettings) -> Callable[..., Tensor]:
    """`forward`, called in another precision and memory format while the network is in training mode."""

    def changed(h: Tensor, *args: Tensor | None, **named: Tensor | None) -> Tensor:
        if not net.training:
            return forward(h, *args, **named)
        if settings.channels_last and h.ndim == 4:
            h = h.contiguous(memory_format=torch.channels_last)
        is_mixed = settings.precision == "bf16"
        with torch.autocast(h.device.type, torch.bfloat16) if is_mixed else nullcontext():
            out = forward(h, *args, **named)
        return out.to(h.dtype)

    return changed
