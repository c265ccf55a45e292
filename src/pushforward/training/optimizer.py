"""How the weights of densities move in a training: AdamW or any optimizer of torch, their average, and the best seen.

Here the fast steps are switched in: without them, each density is one `TorchSteps`, written with ordinary torch.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from ..density import Density
from ..flow import Flow
from ..switch import PLAIN, is_unaltered
from .no_steps import NoSteps
from .objective import Batch, learn, negative_log_likelihood, one_number
from .settings import TrainSettings

fast: Any = None
if not PLAIN:
    from .._fast.steps import fused as fast

Learn = Callable[[Batch], Tensor]  # adds the gradients of the loss of a batch -> the loss (), without a graph


class Steps(Protocol):
    """The optimizer of one density, or of M that take their steps together.

    Attributes:
        lr_factors: what each density's learning rate is multiplied by: it is halved by each `rollback`.
        lr: the highest learning rate.
    """

    lr_factors: list[float]
    lr: float

    def losses(self, batch: Batch) -> Tensor:
        """-> (M,), and sets the gradients. The batch has a leading axis of M, unless M is 1."""
        ...

    def step(self, losses: Tensor, lr_factor: float, ema_weight: float) -> Tensor:
        """One step down the gradient; -> (M,), 1 where it or the loss was not finite and skipped, else 0.

        Args:
            losses: (M,).
            lr_factor: what the learning rate is multiplied by, 0 to 1.
            ema_weight: the share of the new weights in their average, 0 to 1; 0 leaves the average as it is.
        """
        ...

    def averaged(self, best: bool = False) -> Any:
        """A context within which the densities have the averaged weights, or the best averages so far."""
        ...

    def keep_best(self, member: int) -> None:
        """The averaged weights of a member are the best so far."""
        ...

    def keep_good(self, member: int) -> None:
        """The current weights of a member are sound; `rollback` returns to them."""
        ...

    def rollback(self, member: int) -> None:
        """Takes a member back to the last sound weights, with a fresh optimizer and half the learning rate."""
        ...

    def reattach(self) -> None:
        """Makes the parameters those of this optimizer again, after conversions such as `double` and `float`."""
        ...

    def release(self) -> None:
        """Leaves the densities with the best weights (the average if none was named), in memory of their own.

        After that it does not touch them.
        """
        ...

    def state(self, member: int) -> dict[str, Tensor]:
        """Everything that the next step of a member depends on, by `kind/parameter's name`."""
        ...

    def restore(self, member: int, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        ...


class TorchSteps:
    """The steps of one density by an optimizer of torch (see `Steps`).

    Args:
        density: with at least one trainable parameter.
        learn: adds the gradients of a batch.
        settings: complete ones.
    """

    def __init__(self, density: Density, learn: Learn, settings: TrainSettings) -> None:
        self.parameters = {name: p for name, p in density.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError("the density must have trainable parameters, got none")
        self._learn, self._make = learn, settings.optimizer or partial(torch.optim.AdamW, **settings.adamw)
        self.max_norm = settings.max_norm
        self.optimizer = self._make(list(self.parameters.values()))
        closure = inspect.signature(self.optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:  # LBFGS
            kind = type(self.optimizer).__name__
            raise ValueError(f"optimizer must step by one gradient, as Adam and SGD do; {kind}.step needs a closure")
        self.highest = [group["lr"] for group in self.optimizer.param_groups]
        self.lr, self.lr_factors = self.highest[0], [1.0]
        self.average = self._copy()
        self.best: dict[str, Tensor] | None = None
        self._good = self._copy(), self._copy()
        self._is_released = False

    def losses(self, batch: Batch) -> Tensor:
        """-> (1,), and sets the gradients."""
        self.optimizer.zero_grad()
        return self._learn(batch)[None]

    @torch.no_grad()
    def step(self, losses: Tensor, lr_factor: float, ema_weight: float) -> Tensor:
        """One step down the gradient; -> (1,)."""
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.max_norm)
        bad = not bool(torch.isfinite(norm + losses[0]))
        if not bad:
            for group, lr in zip(self.optimizer.param_groups, self.highest, strict=True):
                group["lr"] = lr * lr_factor * self.lr_factors[0]
            self.optimizer.step()
        if ema_weight:
            for name, p in self.parameters.items():
                self.average[name].lerp_(p, ema_weight)
        return losses.new_full((1,), float(bad))

    @contextmanager
    def averaged(self, best: bool = False) -> Iterator[None]:
        """Within, the density has the averaged weights, or the best averages so far."""
        current = self._copy()
        self._set(self.best if best and self.best is not None else self.average)
        try:
            yield
        finally:
            if not self._is_released:
                self._set(current)

    def keep_best(self, member: int = 0) -> None:
        """The averaged weights are the best so far."""
        self.best = {name: t.clone() for name, t in self.average.items()}

    def keep_good(self, member: int = 0) -> None:
        """The current weights are sound."""
        self._good = self._copy(), {name: t.clone() for name, t in self.average.items()}

    def rollback(self, member: int = 0) -> None:
        """Back to the last sound weights, with a fresh optimizer and half the learning rate."""
        weights, average = self._good
        self._set(weights)
        self.average = {name: t.clone() for name, t in average.items()}
        self.optimizer = self._make(list(self.parameters.values()))
        self.lr_factors[0] /= 2

    def release(self) -> None:
        """Leaves the density with the best weights, or the average if none was named."""
        self._set(self.average if self.best is None else self.best)
        self.optimizer.zero_grad()
        self._is_released = True

    def reattach(self) -> None:
        """Nothing: parameters are used where they are."""

    def state(self, member: int = 0) -> dict[str, Tensor]:
        """Everything that the next step depends on, by `kind/parameter's name`."""
        kinds = {"weights": self._copy(), "average": self.average, "best": self.best or {}}
        state = {f"{kind}/{name}": t for kind, tensors in kinds.items() for name, t in tensors.items()}
        for name, p in self.parameters.items():
            for key, value in self.optimizer.state[p].items():
                state[f"optimizer.{key}/{name}"] = torch.as_tensor(value)
        return state | {"rate": torch.tensor(self.lr_factors[0], dtype=torch.float64)}

    def restore(self, member: int, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        kinds: dict[str, dict[str, Tensor]] = {}
        for key, t in state.items():
            kind, _, name = key.partition("/")
            kinds.setdefault(kind, {})[name] = t
        device = next(iter(self.parameters.values())).device
        self._set(kinds["weights"])
        self.average = {name: t.clone().to(device) for name, t in kinds["average"].items()}
        self.best = {name: t.clone().to(device) for name, t in kinds["best"].items()} if "best" in kinds else None
        self.lr_factors = [float(state["rate"])]
        numbers = {id(p): i for i, p in enumerate(p for group in self.optimizer.param_groups for p in group["params"])}
        places = {name: numbers[id(p)] for name, p in self.parameters.items() if id(p) in numbers}
        groups = self.optimizer.state_dict()["param_groups"]
        of_parameter: dict[int, dict[str, Tensor]] = {}
        for kind, tensors in kinds.items():
            if kind.startswith("optimizer."):
                for name, t in tensors.items():
                    if name not in places:
                        raise ValueError(f"the checkpoint is of an optimizer that trains {name!r}, too")
                    of_parameter.setdefault(places[name], {})[kind.removeprefix("optimizer.")] = t
        self.optimizer.load_state_dict({"state": of_parameter, "param_groups": groups})
        self.keep_good()

    def _copy(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        for name, p in self.parameters.items():
            p.copy_(values[name])


_TRAINING: WeakValueDictionary[int, Members] = WeakValueDictionary()  # by the id of a parameter


class Members:
    """The members of a density in training, each by its own loss and with its own average and best weights.

    Members that differ in their weights alone take their steps together where there is a fast form; all others one
    after the other. Another training of the same parameters that was left without an end is ended first.

    Attributes:
        trained: the numbers of those that take steps.
    """

    def __init__(self, density: Density, settings: TrainSettings) -> None:
        parameters = [p for p in density.parameters() if p.requires_grad]
        for p in parameters:
            if (suspended := _TRAINING.get(id(p))) is not None:
                suspended.release()
            _TRAINING[id(p)] = self
        self.is_released, self._kinds = False, [(p, p.dtype, p.device) for p in parameters]
        self.groups = _steps(density.members, settings)
        sizes = [len(group.lr_factors) for group in self.groups]
        self._places = [(group, k) for group, size in zip(self.groups, sizes, strict=True) for k in range(size)]
        self.trained = [m for m, (group, _) in enumerate(self._places) if not isinstance(group, NoSteps)]
        self._parts = [slice(end - n, end) for n, end in zip(sizes, itertools.accumulate(sizes), strict=True)]
        self.optimizer_name = type(self.groups[0]).__name__  # whose state a checkpoint holds
        self._densities = list(density.members)
        # Buffers that go with the best weights of each member: batch normalisation changes some in training.
        self._buffers: list[dict[str, Tensor]] = [{} for _ in self._densities]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def lr(self) -> float:
        """The highest learning rate of any member, before the schedule."""
        return max(group.lr * max(group.lr_factors) for group in self.groups)

    def lr_factor(self, member: int) -> float:
        """What a member's learning rate is multiplied by, beside the schedule's factor."""
        group, k = self._places[member]
        return group.lr_factors[k]

    def losses(self, batch: Batch) -> Tensor:
        """Rows x (M, B, *shape) -> the loss of each member (M,), and sets the gradients."""
        batches = [batch[part.start] if part.stop - part.start == 1 else batch[part] for part in self._parts]
        return torch.cat([group.losses(rows) for group, rows in zip(self.groups, batches, strict=True)])

    def step(self, losses: Tensor, lr_factor: float, ema_weight: float) -> Tensor:
        """A step of each member, as of `Steps.step`."""
        parts = [losses[part] for part in self._parts]
        bad = [group.step(part, lr_factor, ema_weight) for group, part in zip(self.groups, parts, strict=True)]
        return torch.cat(bad)

    @contextmanager
    def averaged(self, best: bool = False) -> Iterator[None]:
        """Within, all members have their averaged weights, or the best averages so far with the buffers of then.

        Raises:
            RuntimeError: after the best: another training of the density began within, or it was moved or converted.
        """
        current = [{name: b.clone() for name, b in density.named_buffers()} for density in self._densities]
        with ExitStack() as stack:
            for group in self.groups:
                stack.enter_context(group.averaged(best))
            if not best:
                yield
                return
            self._set_buffers(self._buffers)
            try:
                yield
            finally:
                if not self.is_released:
                    self._set_buffers(current)
        self._check_and_reattach()

    def keep_best(self, member: int) -> None:
        """The averaged weights of a member are the best so far."""
        group, k = self._places[member]
        group.keep_best(k)
        self._buffers[member] = {name: b.clone() for name, b in self._densities[member].named_buffers()}

    def keep_good(self, member: int) -> None:
        """The current weights of a member are sound."""
        group, k = self._places[member]
        group.keep_good(k)

    def rollback(self, member: int) -> None:
        """Takes a member back to the last sound weights."""
        group, k = self._places[member]
        group.rollback(k)

    def _check_and_reattach(self) -> None:
        """Continues after the caller of `train` had the density.

        Raises:
            RuntimeError: another training of the density began meanwhile, or it was moved or converted.
        """
        if self.is_released:
            raise RuntimeError("this training is over: another one of the same density began since")
        for p, dtype, device in self._kinds:
            if (p.dtype, p.device) != (dtype, device):
                raise RuntimeError(f"the density was {dtype} on {device} when its training began, not {p.dtype} on "
                                   f"{p.device}")  # fmt: skip
        for group in self.groups:
            group.reattach()

    def release(self) -> None:
        """Leaves all members with their best weights; the second time does nothing."""
        if self.is_released:
            return
        for group in self.groups:
            group.release()
        self._set_buffers(self._buffers)
        self.is_released = True

    @torch.no_grad()
    def _set_buffers(self, values: list[dict[str, Tensor]]) -> None:
        for density, kept in zip(self._densities, values, strict=True):
            for name, buffer in density.named_buffers():
                if name in kept:
                    buffer.copy_(kept[name])

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by `member/kind/parameter's name`."""
        state = {f"{m}/{key}": t for m, (group, k) in enumerate(self._places) for key, t in group.state(k).items()}
        return state | {f"{m}/buffers/{key}": t for m, kept in enumerate(self._buffers) for key, t in kept.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        for m, (group, k) in enumerate(self._places):
            prefix = f"{m}/"
            own = {key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)}
            self._buffers[m] = {k.removeprefix("buffers/"): t for k, t in own.items() if k.startswith("buffers/")}
            group.restore(k, {key: t for key, t in own.items() if not key.startswith("buffers/")})


def _learn(member: Density, settings: TrainSettings) -> Learn:
    """What learns a batch by the objective, with gradients of autograd, in as many parts as the settings say."""
    called: Any = torch.compile(member, dynamic=True) if settings.compile else member

    def loss(batch: Batch) -> Tensor:
        value = one_number(settings.objective(called, batch))
        # The likelihood of volume-preserving layers before a uniform base is the same for all parameters.
        if not value.requires_grad and settings.objective is not negative_log_likelihood:
            raise ValueError("the objective returned a number that depends on no trainable parameter")
        return value

    def learn_parts(batch: Batch) -> Tensor:
        size = math.ceil(len(batch) / settings.accumulate)
        if len(batch) <= size:
            return learn(loss(batch))
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        return torch.stack([learn(loss(part) * (len(part) / len(batch))) for part in parts]).sum()

    return learn_parts


def _steps(members: Sequence[Density], settings: TrainSettings) -> Sequence[Steps]:
    """The fast form where there is one, for all members together or one by one; else the plain one.

    Members without trainable parameters, as simple densities are, take no steps beside others that do.
    """
    is_trained = [any(p.requires_grad for p in member.parameters()) for member in members]
    if any(is_trained) and not all(is_trained):
        each = zip(members, is_trained, strict=True)
        return [_steps([m], settings)[0] if trained else NoSteps(m, settings) for m, trained in each]
    learners = [_learn(member, settings) for member in members]
    if fast and settings.optimizer is None:
        is_likelihood = settings.objective is negative_log_likelihood
        is_usual = is_likelihood and not (settings.compile or settings.reversible or settings.dropout)
        is_usual = is_usual and all(is_unaltered(m, Flow if isinstance(m, Flow) else type(m)) for m in members)
        by_hand = is_usual and settings.precision == "float32"
        groups = fast.fused(members, learners, settings, by_hand=by_hand, recordable=is_usual)
        if groups is not None:
            return groups
    return [TorchSteps(member, learn, settings) for member, learn in zip(members, learners, strict=True)]
