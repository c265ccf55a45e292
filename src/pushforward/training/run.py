"""The course of a training: how far it is, what went wrong, what validation said, and when to stop."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .._fast.steps.weights import FlatWeights
from ..flow import Flow
from .data import Rows

CHECK_STEPS = 25  # how often non-finite batches are looked at: it costs a GPU its only synchronisation
MAX_BAD = 10  # of CHECK_STEPS: with more, it is the weights and not a few rows that are broken
MAX_ROLLBACKS = 5
RECORD_STEPS = 500  # a pass longer than this is reported in parts


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data (or a part of a long one) came to.

    Attributes:
        epoch: passes over the training rows so far.
        step: optimiser steps so far.
        seconds: wall-clock time so far.
        progress: the part of the whole run that is done, 0 to 1.
        train_nll: mean negative log-density of the batches of this record, nats per row in data units.
            Of an ensemble, the mean of the members'.
        val_nll: the same on the validation rows with the averaged weights; None where it was not measured this time.
            Of an ensemble, that of the mixture.
        lr: the learning rate of the last step.
        skipped: batches skipped so far because their loss or gradient was not finite.
        stopped: on the last record, why the run ended: "done", "early" or "diverged"; else None.
    """

    epoch: float
    step: int
    seconds: float
    progress: float
    train_nll: float
    val_nll: float | None
    lr: float
    skipped: int
    stopped: str | None = None


@dataclass
class Run:
    """The counters of a run: how far it is, what went wrong, and what validation said, for each member."""

    flows: Sequence[Flow]
    held: FlatWeights
    val_rows: Rows | None
    batch: int
    steps: int | None
    seconds: float | None
    began: float
    growth: int = 1
    step: int = 0
    passes: int = 0
    skipped: int = 0
    validated_step: int = 0
    stopped: str | None = None
    rollbacks: list[int] = field(default_factory=list)
    best_nll: list[float] = field(default_factory=list)
    best_progress: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.flows)
        self.rollbacks, self.best_nll, self.best_progress = [0] * count, [math.inf] * count, [0.0] * count
        # Batches skipped in this process, counted on the device.
        self.bad, self.loss_sum = (torch.zeros(count, device=self.held.flat.device) for _ in range(2))
        self.since_check = self.since_record = 0
        self.bad_at_check, self.bad_at_record = [0] * count, [0] * count
        self.validation_seconds = 0.0

    def progress(self) -> float:
        """The part of the run that is done, in steps or in time; the latter leaves some for the last validation."""
        in_steps = 0.0 if self.steps is None else self.step / max(self.steps, 1)
        in_time = 0.0 if self.seconds is None else (self.elapsed() + self.validation_seconds) / self.seconds
        return min(max(in_steps, in_time), 1.0)

    def grown(self) -> int:
        """How many times larger the batch is by now: it doubles up to `growth` times, and each part of the run lasts
        sqrt(2) times as long as the one before."""
        doublings = int(math.log2(self.growth))
        whole = math.sqrt(2) ** (doublings + 1) - 1
        return 2 ** min(int(2 * math.log2(1 + self.progress() * whole)), doublings)

    def elapsed(self) -> float:
        """Wall-clock seconds, those before a resume included."""
        return time.perf_counter() - self.began

    def count(self, bad: Tensor, loss: Tensor) -> None:
        """Adds a step, of bad (M,) and loss (M,); the device is waited for every `CHECK_STEPS` only."""
        self.bad += bad
        self.loss_sum += torch.where(bad > 0, 0.0, loss)
        self.step += 1
        self.since_check += 1
        self.since_record += 1
        if self.since_check == CHECK_STEPS:
            self._check()

    def _check(self) -> None:
        """Keeps the weights if all went well since the last check; goes back if most batches were not finite."""
        totals = self._bad_so_far()
        found = [now - before for now, before in zip(totals, self.bad_at_check, strict=True)]
        looked_at = self.since_check
        self.bad_at_check, self.since_check = totals, 0
        for member, bad in enumerate(found):
            if bad > MAX_BAD:
                self.held.rollback(member)
                self.rollbacks[member] += 1
                warnings.warn(
                    f"{bad} of the last {looked_at} batches had a loss or a gradient that is not finite: back to the "
                    f"last good weights, with a factor of {self.held.rates[member]:g} on the learning rate",
                    stacklevel=4,
                )
            elif bad == 0:
                self.held.keep_good(member)

    def _bad_so_far(self) -> list[int]:
        return [int(bad) for bad in self.bad.tolist()]

    def validate(self) -> float:
        """-> mean NLL of the validation rows under the averaged weights; the best of each member are kept."""
        assert self.val_rows is not None
        start = time.perf_counter()
        with self.held.averaged(), torch.no_grad():
            log_probs = torch.stack([flow.log_prob(self.val_rows.x, self.val_rows.context) for flow in self.flows])
            nll = float(self.val_rows.mean_nll(log_probs.logsumexp(0) - math.log(len(log_probs))))
            of_members = self.val_rows.mean_nll(log_probs).tolist()
        self.validation_seconds = time.perf_counter() - start
        self.validated_step = self.step
        for member, of_member in enumerate(of_members):
            if of_member < self.best_nll[member]:
                self.best_nll[member], self.best_progress[member] = of_member, self.progress()
                self.held.keep_best(member)
        return nll

    def record(self, epoch: float, lr: float, patience: float | None) -> Epoch:
        """Closes a part of the run: checks it, validates where it is due, and decides whether to stop."""
        over = self.progress() >= 1
        if over:
            self._check()
        val_nll = None
        if self.val_rows is not None:
            # Passes over few rows are short; validation takes at most about a tenth of the time.
            due = self.validated_step + max(50, 4 * len(self.val_rows) // self.batch)
            if over or self.step >= due:
                val_nll = self.validate()
        if over:
            self.stopped = "done"
        elif min(self.rollbacks) > MAX_ROLLBACKS:
            self.stopped = "diverged"
        elif patience is not None and val_nll is not None and self.progress() - max(self.best_progress) > patience:
            self.stopped = "early"
        totals = self._bad_so_far()
        skipped = [now - before for now, before in zip(totals, self.bad_at_record, strict=True)]
        means = [
            total / (self.since_record - bad) if self.since_record > bad else math.nan
            for total, bad in zip(self.loss_sum.tolist(), skipped, strict=True)
        ]
        train_nll = sum(means) / len(means)
        self.skipped += sum(skipped)
        self.bad_at_record, self.since_record = totals, 0
        self.loss_sum.zero_()
        done = self.progress()
        return Epoch(epoch, self.step, self.elapsed(), done, train_nll, val_nll, lr, self.skipped, self.stopped)

    _KEPT = ("step", "passes", "skipped", "rollbacks", "best_nll", "best_progress", "validated_step")

    def state(self) -> dict[str, Any]:
        """JSON-able: what a resumed run needs beside the weights."""
        return {"seconds": self.elapsed()} | {name: getattr(self, name) for name in self._KEPT}

    def resume(self, state: dict[str, Any] | None) -> None:
        """The inverse of `state`; None starts afresh."""
        if state is not None:
            self.began -= state["seconds"]
            for name in self._KEPT:
                setattr(self, name, state[name])
