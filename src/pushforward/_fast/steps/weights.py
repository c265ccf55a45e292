"""The weights of densities in training: one flat buffer under AdamW, its average, and the best seen."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ...density import Density

if TYPE_CHECKING:
    from ...training.settings import TrainSettings

fused_adamw: Any = torch.ops.aten._fused_adamw_.default


class Learned(NamedTuple):
    """A parameter and its gradient: of one density in its own shape, of several with a leading axis of members."""

    value: Tensor
    gradient: Tensor


class FlatWeights:
    """Makes all trainable parameters of M densities views of one buffer (M, P): each part of a step is one operation.

    The parameters of the densities agree in order and size. What the layers of a flow have alike, such as the second
    matrix of each network, lies side by side, so that the gradients of all are one product. `release` must be called
    at the end: it gives every parameter its own memory again.

    Args:
        densities: M that differ in their weights alone.
        settings: complete ones.

    Attributes:
        flat: (M, P), the weights.
        gradient: (M, P), of each density's loss in them.
        lr_factors: (M), what each learning rate is multiplied by.
    """

    def __init__(self, densities: Sequence[Density], settings: TrainSettings) -> None:
        named = [_side_by_side(density) for density in densities]
        self.names = [name for name, _ in named[0]]
        self.parameters = [[p for _, p in parameters] for parameters in named]
        kinds = {(p.dtype, p.device) for parameters in self.parameters for p in parameters}
        if len(kinds) != 1:
            raise ValueError(
                f"the density must have trainable parameters of one dtype on one device, got {kinds or 'none'}"
            )
        self.flat = torch.stack([torch.cat([p.detach().reshape(-1) for p in ps]) for ps in self.parameters])
        self.gradient = torch.zeros_like(self.flat)
        self._places: dict[int, slice] = {}
        offset = 0
        for same in zip(*self.parameters, strict=True):
            part = self._places[id(same[0])] = slice(offset, offset + same[0].numel())
            offset = part.stop
            for k, p in enumerate(same):
                p.data, p.grad = self.flat[k, part].view(p.shape), self.gradient[k, part].view(p.shape)
        self.lr, self.adamw, self.max_norm = settings.lr or 0.0, settings.adamw, settings.max_norm
        self.average = self.flat.clone()
        self.best: Tensor | None = None
        self.moments = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.counts = torch.zeros(len(densities), device=self.flat.device)
        self.lr_factors = [1.0] * len(densities)  # each is halved by a rollback of its member
        self._of_adam = [
            tuple([t] for t in tensors)
            for tensors in zip(self.flat, self.gradient, *self.moments, self.counts, strict=True)
        ]
        self._good = (self.average.clone(), self.average.clone())

    def learned(self, parameter: Tensor) -> Learned:
        """Where all members have a parameter of the first."""
        part, shape = self._places[id(parameter)], parameter.shape
        value, gradient = (
            t[0, part].view(shape) if len(t) == 1 else t[:, part].unflatten(1, shape)
            for t in (self.flat, self.gradient)
        )
        return Learned(value, gradient)

    def are_side_by_side(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Whether parameters of the first flow lie in this order without a gap, so that `stacked` serves."""
        return all(
            self._places[id(a)].stop == self._places[id(b)].start and a.shape == b.shape
            for a, b in itertools.pairwise(parameters)
        )

    def stacked(self, parameters: Sequence[nn.Parameter]) -> Learned:
        """Parameters (*shape) of one flow, side by side, as one (L, *shape)."""
        whole, shape = (
            slice(self._places[id(parameters[0])].start, self._places[id(parameters[-1])].stop),
            parameters[0].shape,
        )
        return Learned(*(t[0, whole].view(len(parameters), *shape) for t in (self.flat, self.gradient)))

    @torch.no_grad()
    def step(self, losses: Tensor, lr_factor: float, ema_weight: float) -> Tensor:
        """One step of AdamW down the gradient; -> (M,), 1 where it or the loss was not finite and skipped, else 0.

        Args:
            losses: (M,).
            lr_factor: what the learning rate is multiplied by.
            ema_weight: the share of the new weights in their average; 0 leaves the average as it is.
        """
        squares = torch.stack([torch.dot(g, g) for g in self.gradient])  # half the time of vector_norm
        total = squares + losses
        bad = (total - total).ne_(0).float()  # infinite or not a number
        # The fused kernel divides by grad_scale as it reads the gradient: clipping costs no pass over memory.
        excess = (squares * (1 / self.max_norm**2)).clamp_(min=1.0).sqrt_().float()
        self.counts += 1 - bad
        beta1, beta2 = self.adamw["betas"]
        for state, own_factor, scale, skip in zip(
            self._of_adam, self.lr_factors, excess.unbind(), bad.unbind(), strict=True
        ):
            flat, gradient, first, second, steps = state
            # The kernel itself: under `torch.optim`, a step of 400,000 weights took .36 ms in place of .28.
            fused_adamw(
                flat, gradient, first, second, [], steps, lr=self.lr * lr_factor * own_factor, beta1=beta1, beta2=beta2,
                weight_decay=self.adamw["weight_decay"], eps=self.adamw["eps"], amsgrad=False, maximize=False,
                grad_scale=scale, found_inf=skip,
            )  # fmt: skip
        if ema_weight:
            self.average.lerp_(self.flat, ema_weight)
        return bad

    @contextmanager
    def averaged(self, best: bool = False) -> Iterator[None]:
        """Within, the densities have the averaged weights, or the best averages so far."""
        current = self.flat.clone()
        self.flat.copy_(self.best if best and self.best is not None else self.average)
        try:
            yield
        finally:
            self.flat.copy_(current)  # after `release`, no density reads it

    def keep_best(self, member: int) -> None:
        """The averaged weights of a member are the best so far."""
        if self.best is None:
            self.best = self.average.clone()
        self.best[member] = self.average[member]

    def keep_good(self, member: int) -> None:
        """The current weights of a member are sound; `rollback` returns to them."""
        for good, now in zip(self._good, (self.flat, self.average), strict=True):
            good[member] = now[member]

    def rollback(self, member: int) -> None:
        """Takes a member back to the last sound weights, with fresh moments and half the learning rate."""
        for good, now in zip(self._good, (self.flat, self.average), strict=True):
            now[member] = good[member]
        for t in (*self.moments, self.counts):
            t[member] = 0
        self.lr_factors[member] /= 2

    def reattach(self) -> None:
        """Makes the parameters views of the buffer again, after conversions such as `double` and `float`."""
        for k, parameters in enumerate(self.parameters):
            for p, part in zip(parameters, self._places.values(), strict=True):
                if p.data_ptr() != self.flat[k, part].data_ptr():
                    p.data, p.grad = self.flat[k, part].view(p.shape), self.gradient[k, part].view(p.shape)

    def release(self) -> None:
        """Leaves the densities with the best weights (the average if none was named), each in memory of its own."""
        self.flat.copy_(self.average if self.best is None else self.best)
        for k, parameters in enumerate(self.parameters):
            for p, part in zip(parameters, self._places.values(), strict=True):
                p.data, p.grad = self.flat[k, part].view(p.shape).to(p, copy=True), None

    def state(self, member: int) -> dict[str, Tensor]:
        """Everything that the next step of a member depends on, by `kind/parameter's name`."""
        return {
            f"{kind}/{name}": values[member, place].view(p.shape)
            for kind, values in self._kinds().items()
            for name, p, place in zip(self.names, self.parameters[0], self._places.values(), strict=True)
        } | {"rate": torch.tensor(self.lr_factors[member], dtype=torch.float64), "count": self.counts[member]}

    def restore(self, member: int, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        if self.best is None and f"best/{self.names[0]}" in state:
            self.best = self.average.clone()
        for kind, values in self._kinds().items():
            for name, place in zip(self.names, self._places.values(), strict=True):
                values[member, place] = state[f"{kind}/{name}"].reshape(-1).to(values)
        self.lr_factors[member], self.counts[member] = float(state["rate"]), state["count"]
        self.keep_good(member)

    def _kinds(self) -> dict[str, Tensor]:
        first, second = self.moments
        kinds = {"weights": self.flat, "average": self.average, "first_moment": first, "second_moment": second}
        return kinds if self.best is None else kinds | {"best": self.best}


def _side_by_side(density: Density) -> list[tuple[str, nn.Parameter]]:
    """What is trained and its names, sorted by the name without the layer's number, and by shape."""
    alike: dict[tuple[str, torch.Size], list[tuple[str, nn.Parameter]]] = {}
    for name, p in density.named_parameters():
        if p.requires_grad:
            alike.setdefault((re.sub(r"\d+", "", name, count=1), p.shape), []).append((name, p))
    return [parameter for parameters in alike.values() for parameter in parameters]
