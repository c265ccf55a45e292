"""The weights of flows while they train: one flat buffer under AdamW, its average, and the best seen."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ...flow import Flow

fused_adamw: Any = torch.ops.aten._fused_adamw_.default
AVERAGE_STEPS = 4  # the average takes in every fourth step: it needs no more, and each time is a pass over memory


class Learned(NamedTuple):
    """A parameter and its gradient: of one flow in its own shape, of several with a leading axis of members."""

    value: Tensor
    gradient: Tensor


class FlatWeights:
    """Makes all trainable parameters of flows views of one buffer (M, P), so that each part of a step is one operation.

    The flows are of one shape: their parameters agree in order and size. What the layers of a flow have alike, such as
    the second matrix of each network, lies side by side, so that the gradients of all are one product. `release` must
    be called at the end: it gives every parameter its own memory again.
    """

    def __init__(self, flows: Sequence[Flow], *, weight_decay: float, ema: float, clip: float) -> None:
        self.parameters = [_side_by_side(flow) for flow in flows]
        kinds = {(p.dtype, p.device) for parameters in self.parameters for p in parameters}
        if len(kinds) != 1:
            raise ValueError(
                f"the flow must have trainable parameters of one dtype on one device, got {kinds or 'none'}"
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
        self.ema, self.clip, self.weight_decay = ema, clip, weight_decay
        self.average = self.flat.clone()
        self.best: Tensor | None = None
        self.moments = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.counts = torch.zeros(len(flows), device=self.flat.device)
        self.rates = [1.0] * len(flows)  # each is halved by a rollback of its member
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
        """Whether parameters of the first flow lie in this order without a gap, so that `all_learned` serves."""
        return all(
            self._places[id(a)].stop == self._places[id(b)].start and a.shape == b.shape
            for a, b in itertools.pairwise(parameters)
        )

    def all_learned(self, parameters: Sequence[nn.Parameter]) -> Learned:
        """Parameters (*shape) of one flow, side by side, as one (L, *shape)."""
        whole, shape = (
            slice(self._places[id(parameters[0])].start, self._places[id(parameters[-1])].stop),
            parameters[0].shape,
        )
        return Learned(*(t[0, whole].view(len(parameters), *shape) for t in (self.flat, self.gradient)))

    @torch.no_grad()
    def step(self, loss: Tensor, lr: float, count: int, size: float = 1.0) -> Tensor:
        """One step of AdamW down the gradient; -> (M,), 1 where it or the loss was not finite and skipped, else 0.

        Args:
            loss: (M,), or () of one flow.
            lr: the learning rate.
            count: steps before this one; the average forgets the first weights quickly, within a tenth of the
                steps so far.
            size: of the batch, in those of the start: the average forgets by rows.
        """
        squares = torch.stack([torch.dot(g, g) for g in self.gradient])  # half the time of vector_norm
        total = squares + loss
        bad = (total - total).ne_(0).float()  # infinite or not a number
        # The fused kernel divides by grad_scale as it reads the gradient: clipping costs no pass over memory.
        excess = (squares * (1 / self.clip**2)).clamp_(min=1.0).sqrt_().float()
        self.counts += 1 - bad
        for state, rate, scale, skip in zip(self._of_adam, self.rates, excess.unbind(), bad.unbind(), strict=True):
            flat, gradient, first, second, steps = state
            # The kernel itself: under `torch.optim`, a step of 400,000 weights took .36 ms in place of .28.
            fused_adamw(
                flat, gradient, first, second, [], steps, lr=lr * rate, beta1=0.9, beta2=0.98,
                weight_decay=self.weight_decay, eps=1e-8, amsgrad=False, maximize=False, grad_scale=scale,
                found_inf=skip,
            )  # fmt: skip
        if count % AVERAGE_STEPS == 0:
            self.average.lerp_(self.flat, max(1 - self.ema ** (AVERAGE_STEPS * size), 9 / (count + 9)))
        return bad

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the flows have the averaged weights."""
        current = self.flat.clone()
        self.flat.copy_(self.average)
        try:
            yield
        finally:
            self.flat.copy_(current)

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
        self.rates[member] /= 2

    def release(self) -> None:
        """Leaves the flows with the best weights (the average if none was named), each in memory of its own."""
        self.flat.copy_(self.average if self.best is None else self.best)
        for parameters in self.parameters:
            for p in parameters:
                p.data, p.grad = p.data.clone(), None

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on."""
        return {
            "flat": self.flat,
            "average": self.average,
            **({} if self.best is None else {"best": self.best}),
            "rates": torch.tensor(self.rates, dtype=torch.float64),
            "first_moments": self.moments[0],
            "second_moments": self.moments[1],
            "counts": self.counts,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        for name, value in self.state().items():
            if name not in ("best", "rates"):
                value.copy_(state[name])
        self.best = state["best"].to(self.flat.device) if "best" in state else None
        self.rates = cast("list[float]", state["rates"].tolist())
        for member in range(len(self.rates)):
            self.keep_good(member)


def _side_by_side(flow: Flow) -> list[nn.Parameter]:
    """What is trained, sorted by the name without the layer's number, and by shape."""
    alike: dict[tuple[str, torch.Size], list[nn.Parameter]] = {}
    for name, p in flow.named_parameters():
        if p.requires_grad:
            alike.setdefault((re.sub(r"\d+", "", name, count=1), p.shape), []).append(p)
    return [p for parameters in alike.values() for p in parameters]
