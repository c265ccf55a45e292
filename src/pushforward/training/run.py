"""The course of a training: how far it is, what went wrong, what validation said, and when to stop."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..bijections import Chain
from ..density import Density
from .dropout import dropping
from .objective import Batch, evaluate
from .optimizer import Members
from .progress import Epoch
from .settings import TrainSettings

AVERAGE_STEPS = 4  # a long average takes in every fourth step: it needs no more, and each time is a pass over memory
LONG_AVERAGE = 0.9  # how much of it is kept in a step, at least
FIRST_STEPS = 20  # which all count: a run may end with them
CHECK_STEPS = 25  # how often non-finite batches are looked at: it costs a GPU its only synchronisation
MAX_BAD = 10  # of CHECK_STEPS: with more, it is the weights and not a few rows that are broken
MAX_ROLLBACKS = 5
EARLY_STEPS = 8  # the first validation
RECORD_STEPS = 500  # a pass longer than this is reported in parts


@dataclass
class Run:
    """The counters of a run: how far it is, what went wrong, and what validation said, for each member.

    Args:
        density: what is trained.
        members: its members and their optimizers.
        settings: complete ones: batch and growth are numbers.
        val_rows: validation rows, or None.
        pass_rows: rows of a whole pass, a multiple of the batch.
        began: when the run did, by `time.perf_counter`.
    """

    density: Density
    members: Members
    settings: TrainSettings
    val_rows: Batch | None
    pass_rows: int
    began: float
    step: int = 0
    passes: int = 0
    skipped: int = 0
    validated_step: int = 0
    best_val: float | None = None
    best_step: int = 0
    stopped: str | None = None
    rollbacks: list[int] = field(default_factory=list)
    best_nll: list[float] = field(default_factory=list)
    best_progress: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.members)
        self.rollbacks, self.best_nll, self.best_progress = [0] * count, [math.inf] * count, [0.0] * count
        # Batches skipped in this process, counted on the device.
        device = next(self.density.parameters()).device
        self.bad, self.loss_sum = (torch.zeros(count, device=device) for _ in range(2))
        self.since_check = self.since_record = self.seen = 0
        self.bad_at_check, self.bad_at_record = [0] * count, [0] * count
        self.validation_seconds = self.lr = 0.0
        self.last_losses: Tensor | None = None

    def progress(self) -> float:
        """The fraction of the run that is done, in steps or in time; the latter leaves some for the last validation."""
        steps, seconds = self.settings.steps, self.settings.seconds
        in_steps = 0.0 if steps is None else self.step / max(steps, 1)
        in_time = 0.0 if seconds is None else (self.elapsed() + self.validation_seconds) / seconds
        return min(max(in_steps, in_time), 1.0)

    def growth(self) -> int:
        """How many times larger the batch is by now: it doubles up to `batch_growth` times, and each part of the run
        lasts sqrt(2) times as long as the one before."""
        doublings = int(math.log2(self.settings.batch_growth or 1))
        whole = math.sqrt(2) ** (doublings + 1) - 1
        return 2 ** min(int(2 * math.log2(1 + self.progress() * whole)), doublings)

    def lr_factor(self) -> float:
        """What the learning rate is multiplied by: a rise, and then a cosine's fall or none."""
        progress, warmup = self.progress(), self.settings.warmup
        rise = min(1.0, (progress + 1e-3) / warmup) if warmup else 1.0
        return rise * (0.5 * (1 + math.cos(math.pi * progress)) if self.settings.schedule == "cosine" else 1.0)

    def ema_weight(self, size: float) -> float:
        """The share of the new weights in their average after this step, 0 to 1; 0 leaves the average as it is.

        Args:
            size: of the batch, in those of the start: the average forgets by rows. It forgets the first weights
                quickly, within a tenth of the steps so far.
        """
        is_long = self.settings.ema >= LONG_AVERAGE and self.step >= FIRST_STEPS
        steps = AVERAGE_STEPS if is_long else 1
        return 0.0 if self.step % steps else max(1 - self.settings.ema ** (steps * size), 9 / (self.step + 9))

    def elapsed(self) -> float:
        """Wall-clock seconds, those before a resume included."""
        return time.perf_counter() - self.began

    def is_due(self) -> bool:
        """Whether to make a record: after a pass, after `RECORD_STEPS` of a long one, and at the end."""
        return self.pass_is_over or self.since_record == RECORD_STEPS or self.progress() >= 1

    def validate_early(self) -> None:
        """Validates in the first steps, at each doubling, also within a pass: few rows are soon learned by heart.

        Not before as many rows were trained on as are validated, though.
        """
        if self.val_rows is not None and self.step == self._early_step() < self._late_step():
            self.validate()
            self.density.train()

    def _early_step(self) -> int:
        return max(EARLY_STEPS, self._val_steps(), 2 * self.validated_step)

    def _late_step(self) -> int:
        """When to validate next: passes over few rows are short, and validation takes about a tenth of the time."""
        return self.validated_step + max(50, 4 * self._val_steps())

    def _val_steps(self) -> int:
        """How many steps take as many rows as a validation."""
        return 0 if self.val_rows is None else len(self.val_rows) // (self.settings.batch or 1)

    @property
    def pass_is_over(self) -> bool:
        """Whether all rows of a pass were seen."""
        return self.seen == self.pass_rows

    def count(self, losses: Tensor, bad: Tensor, rows: int, lr_factor: float) -> None:
        """Adds a step, of losses and bad (M,), on so many rows; the device is waited for every `CHECK_STEPS` only."""
        self.bad += bad
        self.loss_sum += torch.where(bad > 0, 0.0, losses)
        self.last_losses, self.lr = losses, lr_factor * self.members.lr
        self.step += 1
        self.seen += rows
        self.since_check += 1
        self.since_record += 1
        if self.since_check == CHECK_STEPS:
            self._check()

    def _check(self) -> None:
        """Keeps the weights if all went well since the last check; goes back if most batches were not finite."""
        totals = self._bad_so_far()
        recent = [now - before for now, before in zip(totals, self.bad_at_check, strict=True)]
        steps = self.since_check
        self.bad_at_check, self.since_check = totals, 0
        for member, bad in enumerate(recent):
            if bad > MAX_BAD:
                self.members.rollback(member)
                self.rollbacks[member] += 1
                outside = self.last_losses is not None and float(self.last_losses[member]) == math.inf
                reason = "; the density is 0 at some rows: they fall outside the support of the base" if outside else ""
                warnings.warn(
                    f"{bad} of the last {steps} batches had a loss or a gradient that is not finite: back to the "
                    f"last good weights, with a factor of {self.members.lr_factor(member):g} on the learning rate"
                    f"{reason}",
                    stacklevel=4,
                )
            elif bad == 0:
                self.members.keep_good(member)

    def _bad_so_far(self) -> list[int]:
        return [int(bad) for bad in self.bad.tolist()]

    def validate(self) -> float | None:
        """-> the metric on the validation rows (None without) under the averaged weights; the best of each member are
        kept."""
        if self.val_rows is None:
            return None
        start = time.perf_counter()
        self.density.eval()
        with self.members.averaged():
            metric, is_objective = self.settings.metric or self.settings.objective, self.settings.metric is None
            value, of_members = evaluate(metric, self.density, self.val_rows, with_gradients=is_objective)
        self.validation_seconds = time.perf_counter() - start
        self.validated_step = self.step
        if self.best_val is None or value < self.best_val or math.isnan(self.best_val):
            self.best_val, self.best_step = value, self.step
        for member, of_member in enumerate(of_members):
            if of_member < self.best_nll[member]:
                self.best_nll[member], self.best_progress[member] = of_member, self.progress()
                self.members.keep_best(member)
        return value

    def record(self) -> Epoch:
        """Closes a part of the run: checks it, validates where it is due, and decides whether to stop."""
        self.passes += self.pass_is_over
        self.seen = 0 if self.pass_is_over else self.seen
        over = self.progress() >= 1
        if over:
            self._check()
        val_nll = None
        if self.val_rows is not None and (over or self.step >= self._late_step()):
            val_nll = self.validate()
        train_nll = self._train_nll()
        self.stopped = self._why_to_stop(over, val_nll is not None)
        return Epoch(
            self.passes + self.seen / self.pass_rows, self.step, self.elapsed(), self.progress(), train_nll, val_nll,
            self.lr, self.skipped, self.stopped, self.best_val,
            best_step=None if self.best_val is None else self.best_step,
        )  # fmt: skip

    def _train_nll(self) -> float:
        """The mean of the finite losses since the last record, over steps and members; counts what was skipped."""
        totals = self._bad_so_far()
        skipped = [now - before for now, before in zip(totals, self.bad_at_record, strict=True)]
        means = [
            total / (self.since_record - bad) if self.since_record > bad else math.nan
            for total, bad in zip(self.loss_sum.tolist(), skipped, strict=True)
        ]
        self.skipped += sum(skipped)
        self.bad_at_record, self.since_record = totals, 0
        self.loss_sum.zero_()
        return sum(means) / len(means)

    def _why_to_stop(self, over: bool, validated: bool) -> str | None:
        patience = self.settings.patience
        waited = self.progress() - max(self.best_progress)
        trained = self.members.trained
        if min(self.rollbacks[member] for member in trained) > MAX_ROLLBACKS:
            return "diverged"
        if over or (patience is not None and validated and waited > patience):
            no_step_was_taken = self.step > 0 and self.skipped == self.step * len(trained)
            return "diverged" if no_step_was_taken else "done" if over else "early"
        return None

    _KEPT = (
        "step", "passes", "skipped", "rollbacks", "best_val", "best_step", "best_nll", "best_progress",
        "validated_step",
    )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """JSON-able: what a resumed run needs beside the weights."""
        lasting = {"seconds": self.elapsed(), "progress": self.progress()}
        return lasting | {name: getattr(self, name) for name in self._KEPT}

    def resume(self, state: dict[str, Any] | None) -> None:
        """The inverse of `state`, of a run that may be of another length; None starts afresh."""
        if state is not None:
            state = {"best_step": 0} | state  # which older checkpoints lack
            self.began -= state["seconds"]
            for name in self._KEPT:
                setattr(self, name, state[name])
            if before := state.get("progress"):  # of the old length, which older checkpoints lack, too
                shorter = self.progress() / before
                self.best_progress = [shorter * best for best in self.best_progress]


@contextmanager
def stepping(density: Density, threads: int, settings: TrainSettings, generator: torch.Generator) -> Iterator[None]:
    """Within, the density is in training mode and torch has a number of threads; after, it is in evaluation mode.

    Args:
        density: that takes steps.
        threads: of torch.
        settings: whether, within, chains find the inputs of their layers again in the backward pass, and conditioners
            see all that they are given.
        generator: of what they do not see.
    """
    outer = torch.get_num_threads()
    chains = [m for m in density.modules() if isinstance(m, Chain) and not m.reversible] if settings.reversible else []
    torch.set_num_threads(threads)
    density.train()
    for chain in chains:
        chain.reversible = True
    try:
        with torch.enable_grad(), dropping(density, settings.dropout or 0.0, generator):
            yield
    finally:
        torch.set_num_threads(outer)
        density.eval()
        for chain in chains:
            del chain.reversible
