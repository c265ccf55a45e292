"""The weights of a flow while it trains: one flat buffer under AdamW, its average, and the best seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from ..flow import Flow

AVERAGE_STEPS = 4  # the average takes in every fourth step: it needs no more, and each time is a pass over memory


class FlatWeights:
    """Makes all trainable parameters of a flow views of one buffer, so that each part of a step is one operation.

    `release` must be called at the end: it gives every parameter its own memory again.
    """

    def __init__(self, flow: Flow, *, weight_decay: float, ema: float, clip: float) -> None:
        self.parameters = [p for p in flow.parameters() if p.requires_grad]
        kinds = {(p.dtype, p.device) for p in self.parameters}
        if len(kinds) != 1:
            raise ValueError(
                f"the flow must have trainable parameters of one dtype on one device, got {kinds or 'none'}"
            )
        self.flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in self.parameters]))
        self.flat.grad = torch.zeros_like(self.flat)
        offset = 0
        for p in self.parameters:
            part = slice(offset, offset + p.numel())
            p.data, p.grad = self.flat.detach()[part].view(p.shape), self.flat.grad[part].view(p.shape)
            offset = part.stop
        self.optimizer = torch.optim.AdamW([self.flat], betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
        self.ema, self.clip = ema, clip
        self.average = self.flat.detach().clone()
        self.best: Tensor | None = None
        self._good = (self.average.clone(), self.average.clone())
        self.rate = 1.0  # halved by each rollback

    def backward(self, loss: Tensor) -> None:
        """Leaves the gradient of a scalar loss in the flat buffer, by autograd."""
        cast(Tensor, self.flat.grad).zero_()
        loss.backward()  # adds to the parameters' views of the flat gradient while it is still in cache

    def step(self, loss: Tensor, lr: float, count: int) -> Tensor:
        """One step of AdamW down the flat gradient; -> 1.0 where it or the loss was not finite and skipped, else 0.0.

        Args:
            loss: a scalar.
            lr: the learning rate.
            count: steps before this one; the average forgets the first weights quickly, within a tenth of the
                steps so far.
        """
        gradient = cast(Tensor, self.flat.grad)
        norm = gradient.norm()
        bad = (~torch.isfinite(norm + loss.detach())).to(torch.float32)
        # The fused kernel divides by grad_scale as it reads the gradient: clipping costs no pass over memory.
        self.optimizer.grad_scale = (norm / self.clip).clamp(min=1.0).float()  # type: ignore[attr-defined]
        self.optimizer.found_inf = bad  # type: ignore[attr-defined]  # the fused kernel skips its update where 1
        self.optimizer.param_groups[0]["lr"] = lr * self.rate
        self.optimizer.step()
        if count % AVERAGE_STEPS == 0:
            self.average.lerp_(self.flat.detach(), max(1 - self.ema**AVERAGE_STEPS, 9 / (count + 9)))
        return bad

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the flow has the averaged weights."""
        current = self.flat.detach().clone()
        self.flat.detach().copy_(self.average)
        try:
            yield
        finally:
            self.flat.detach().copy_(current)

    def keep_best(self) -> None:
        """The averaged weights are the best so far."""
        self.best = self.average.clone()

    def keep_good(self) -> None:
        """The current weights are sound; `rollback` returns to them."""
        self._good[0].copy_(self.flat.detach())
        self._good[1].copy_(self.average)

    def rollback(self) -> None:
        """Back to the last sound weights, with fresh moments and half the learning rate."""
        self.flat.detach().copy_(self._good[0])
        self.average.copy_(self._good[1])
        self.optimizer.state.clear()
        self.rate /= 2

    def release(self) -> None:
        """Leaves the flow with the best weights (the average if none was named), each in memory of its own."""
        self.flat.detach().copy_(self.average if self.best is None else self.best)
        for p in self.parameters:
            p.data, p.grad = p.data.clone(), None

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on."""
        moments = cast("dict[str, Tensor]", self.optimizer.state.get(self.flat, {}))
        return {
            "flat": self.flat.detach(),
            "average": self.average,
            **({} if self.best is None else {"best": self.best}),
            "rate": torch.tensor(self.rate, dtype=torch.float64),
            **{f"adam.{k}": v for k, v in moments.items()},
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.flat.detach().copy_(state["flat"])
        self.average.copy_(state["average"])
        self.best = state["best"].to(self.flat.device) if "best" in state else None
        self.rate = float(state["rate"])
        device = self.flat.device
        moments = {k.removeprefix("adam."): v.to(device) for k, v in state.items() if k.startswith("adam.")}
        if moments:
            self.optimizer.state[self.flat] = moments
        self.keep_good()
