"""`fit`: a training to its end, and beside a flow that is to be chosen, simple densities and further members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import as_numbers
from ..density import Density
from ..flow import Flow
from ..mixture import Ensemble, averaged
from . import auto
from .clock import Clock
from .data import count_rows, draws, split_numbers, validation_count
from .dependence import dependent_columns
from .loop import train
from .objective import Batch
from .progress import Epoch, Fit, reporter
from .rows import as_rows, check_no_table
from .settings import check_members, check_training, plain_number, with_defaults
from .stack import STACK_FRACTION, Stack, is_stacked
from .tails import MOST_ROWS, calibrate_tails, seconds_for_tails

_FRACTION = 0.1  # of more rows, held out: they stop the flow
_MOST_MEMBERS = 8  # that time left over is spent on: each costs as much again in scoring
_WORTH = 0.75  # of the time of the first training, that must be left for a further member


def fit(
    density: Density | str,
    data: Any = None,
    val: Any = None,
    *,
    context: Any = None,
    weights: Any = None,
    members: int | None = None,
    stack: bool | None = None,
    progress: str | Callable[[Epoch], None] = "auto",
    **settings: Any,
) -> Fit:
    """Trains a density to the end, showing progress on stderr; Ctrl-C ends it early with the best weights so far.

    A flow that is to be chosen is then returned as it is, without simple densities beside it.

    Args:
        density: over tensors; or "auto", or the name of a recipe, for a flow that `choose` fits to the number of rows
            and columns and to `seconds`.
        data: the training rows (N, *shape), or a function that draws them; see `train`.
        val: validation rows, as in `train`.
        context: (N, ...), as in `train`.
        weights: (N,), as in `train`.
        members: of a flow that is chosen, how many to train at once, whose densities are averaged; None is one, and
            more where the training converged before the time was over.
        stack: of a flow that is chosen, mix simple densities (`pushforward.baselines`) with it, with the weights that
            the validation rows give them. None does for at most 5,000 rows in memory that have no weights, and then
            holds out a fifth of them where `val` and `val_fraction` are not given. The result is a `Mixture` with the
            flow as its first member, unless none of the simple densities is worth it.
        progress: "rich" a live line, "plain" some lines, "none" silence; "auto" takes rich on a terminal that has it.
            Or a function of your own, which is called with each `Epoch`.
        settings: every other argument of `train`, such as epochs, steps, seconds, batch or lr.

    Returns:
        A `Fit`: the epochs, why it stopped, a summary, and the density.

    Raises:
        ValueError: as `train` and `choose`; rows that are not (N, D), or a context that is not (N, K), for a flow that
            is to be chosen; members or stack for a density that is given, or a stack of rows that have weights, are
            drawn by a function or not held out.

    Example:
        >>> fit("auto", torch.randn(200, 2), steps=20, progress="none").flow.shape
        (2,)
        >>> from pushforward import real_nvp
        >>> flow = real_nvp(2, depth=2, width=8, seed=0)
        >>> fit(flow, torch.randn(200, 2), steps=20, progress="none").summary["steps"]
        20
    """
    if isinstance(density, str):
        check_training(settings)
        settings = {name: plain_number(value) for name, value in settings.items()}
        members = plain_number(members)
        if members is not None:
            check_members(members)
        rows = _Rows(*map(_detached, (data, val, context, weights)))
        return _Chosen(density, rows, members, settings, progress).fit(stack)
    if members is not None or stack is not None:
        raise ValueError("members and stack are for a flow that fit chooses by the name of a recipe")
    result = _train_to_end(density, _Rows(data, val, context, weights), settings, progress)
    result.note_time_left(settings.get("seconds"), result.epochs[-1].seconds if result.epochs else 0.0)
    return result


def _detached(value: Any) -> Any:
    """What numpy can read, too: tensors without gradients."""
    if isinstance(value, tuple):
        return tuple(map(_detached, value))
    return value.detach() if isinstance(value, Tensor) else value


@dataclass
class _Rows:
    """What `train` takes: rows, validation rows, contexts and weights."""

    data: Any
    val: Any = None
    context: Any = None
    weights: Any = None


def _train_to_end(density: Density, rows: _Rows, settings: dict[str, Any], progress: Any) -> Fit:
    """The whole training of a density."""
    result = Fit(density=density)
    epochs = train(density, rows.data, rows.val, context=rows.context, weights=rows.weights, **settings)
    with reporter(progress) as report:
        try:
            for epoch in epochs:
                result.epochs.append(epoch)
                result.stopped = epoch.stopped or result.stopped
                report(epoch)
        except KeyboardInterrupt:
            result.stopped = "interrupted"
        finally:
            epochs.close()
    return result


class _Chosen:
    """The flow that `choose` takes for some rows, and its training.

    Args:
        recipe: "auto" or a name.
        rows: to train on.
        members: how many flows, or None.
        settings: of `train`.
        progress: as of `fit`.
    """

    def __init__(
        self, recipe: str, rows: _Rows, members: int | None, settings: dict[str, Any], progress: Any
    ) -> None:  # fmt: skip
        self.clock, self.rows, self.members = Clock(settings.get("seconds")), rows, members
        self.settings, self.progress, self.seed = settings, progress, settings.get("seed", 0)
        self.features, self.context_dim = _widths(rows, self.seed)
        count = count_rows(rows.data)
        self.count = None if count == auto.UNLIMITED else count
        self.choice = auto.choose(
            self.count, self.features, recipe=recipe, context_dim=self.context_dim, seconds=self.clock.seconds,
            columns=self._dependent(),
        )  # fmt: skip

    def fit(self, stack: bool | None) -> Fit:
        """Trains the flow, further members in time left over, and mixes simple densities with them."""
        flows, problem = self._build(self.members or 1), self._no_stack()
        stacked = is_stacked(stack, self.count or 0, problem)
        parts = simple = None
        if stacked or (problem is None and (self.count or 0) <= MOST_ROWS):
            parts = self._split(flows[0], STACK_FRACTION if stacked else _FRACTION)
        if stacked and parts is not None:
            simple = Stack(*parts, self.seed, seconds=self.clock.seconds)
        reserved = 0.0 if simple is None else simple.mixing_seconds
        density = averaged(flows)
        for_tails = 0.0 if parts is None else seconds_for_tails(self.clock.seconds)
        result = self._train(density, reserved + for_tails)
        of_training = self.clock.elapsed
        if result.stopped != "interrupted":  # after it nothing is waited for: a second Ctrl-C would lose the flow
            self._calibrate(density, parts, reserved)
            if self.members is None and self.settings.get("checkpoint") is None:
                self._use_time(result, flows[0], reserved, parts, self.clock.elapsed - of_training)
        if simple is not None and result.stopped != "interrupted":
            simple.mix_into(result)
        result.note_time_left(self.clock.seconds, self.clock.elapsed)
        if result.facts:
            result.facts["seconds"] = self.clock.elapsed
        return result

    def _train(self, density: Density, reserved: float) -> Fit:
        """One training, in what is left of the time."""
        settings = dict(self.settings)
        if self.choice.arguments["columns"] is not None:  # `train` would take the rule for rows of all columns
            settings = with_defaults(settings, {k: v for k, v in self.choice.training.items() if k != "steps"})
        if (left := self.clock.left(reserved)) is not None:  # building and simple densities count
            settings["seconds"] = left
        return _train_to_end(density, self.rows, settings, self.progress)

    def _calibrate(self, density: Density, parts: tuple[Batch, Batch] | None, reserved: float) -> None:
        """Bends the tails of trained flows, where some rows are held out."""
        if parts is not None:
            calibrate_tails(density, *parts, self.seed, self.clock.until(reserved))

    def _use_time(
        self, result: Fit, flow: Flow, reserved: float, parts: tuple[Batch, Batch] | None, of_tails: float
    ) -> None:  # fmt: skip
        """Trains further members together if the first ended early enough, so that all are averaged.

        Args:
            result: of the first.
            flow: the first.
            reserved: seconds that are needed after the training.
            parts: the training rows and those held out, for tails; or None.
            of_tails: seconds that those of the first took.
        """
        left = self.clock.left(reserved)
        if left is None or result.stopped not in ("done", "early") or not result.epochs:
            return
        used = result.epochs[-1].seconds
        if left < _WORTH * used:
            return
        count = min(max(int(left / (used + of_tails)), 1), _MOST_MEMBERS - 1)
        more = self._build(count + 1)[1:]
        density = averaged(more)
        further = self._train(density, reserved + count * of_tails)
        if further.stopped in ("done", "early"):
            self._calibrate(density, parts, reserved)
            result.density = Ensemble([flow, *more]).eval()
            result.facts = {"members": count + 1}
        elif further.stopped == "interrupted":
            result.stopped = "interrupted"

    def _split(self, flow: Flow, usual: float) -> tuple[Batch, Batch]:
        """Rows to train on and to hold out, in float64, which are those of the training from then on.

        Args:
            flow: that is to be trained.
            usual: what part of them to hold out where nothing is said.
        """
        given = self.rows
        rows = _in_float64(as_rows(flow, given.data, given.context, dtype=torch.float64))
        if given.val is not None:
            val = given.val if isinstance(given.val, tuple) else (given.val,)
            val = _in_float64(as_rows(flow, *val, name="val", dtype=torch.float64))
        else:
            fraction, generator = self.settings.get("val_fraction", usual), torch.Generator().manual_seed(self.seed)
            train, holdout = (part.to(rows.x.device) for part in split_numbers(len(rows), fraction, generator))
            rows, val = rows[train], rows[holdout]
        self.rows = _Rows(rows.x, (val.x, val.context) if val.context is not None else val.x, rows.context)
        return rows, val

    def _no_stack(self) -> str | None:
        """Why simple densities cannot be fitted to the rows, or None."""
        val_fraction = self.settings.get("val_fraction", STACK_FRACTION)
        if draws(self.rows.data):
            return "they are drawn by a function"
        if self.rows.weights is not None or (isinstance(self.rows.val, tuple) and len(self.rows.val) > 2):
            return "they have weights"
        if self.rows.val is None and validation_count(self.count or 0, val_fraction) == 0:
            return "none are held out to find the weights"
        if self.rows.context is not None and np.ndim(self.rows.context) != 2:
            return "their context is no table (N, K)"
        return None

    def _build(self, count: int) -> list[Flow]:
        """The first of the flows, as many."""
        return self.choice.build_members(count, self.features, context_dim=self.context_dim, seed=self.seed)

    def _dependent(self) -> list[int] | None:
        """The columns that a flow must look at; None for all, as where they depend on a context."""
        if self.context_dim or draws(self.rows.data) or self.rows.weights is not None:
            return None
        like = self.rows.data if isinstance(self.rows.data, Tensor) else torch.empty(0)
        return dependent_columns(as_numbers(self.rows.data, "x", like, torch.float64))


def _in_float64(rows: Batch) -> Batch:
    return Batch(rows.x.double(), None if rows.context is None else rows.context.double())


def _widths(rows: _Rows, seed: int) -> tuple[int, int]:
    """Of rows (N, D) and contexts (N, K): D, K.

    Raises:
        ValueError: the rows have another shape.
    """
    example, context = rows.data, rows.context
    if draws(example):
        drawn: Any = example(2, torch.Generator().manual_seed(seed))
        example, context = drawn[:2] if isinstance(drawn, tuple) else (drawn, None)
    check_no_table(example)
    shape = np.shape(example)
    if len(shape) != 2:
        raise ValueError(f"expected rows of shape (N, D) to choose a flow for, got {tuple(shape)}")
    if context is not None and np.shape(context) == (shape[0],):
        raise ValueError(f"expected a context of shape (N, K), got ({shape[0]},): c[:, None] is one number a row")
    return shape[1], 0 if context is None else np.shape(context)[-1]
