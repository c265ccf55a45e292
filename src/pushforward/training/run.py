"""The course of a training: how far it is, what went wrong, what validation said, and when to stop."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..flow import Flow
from .rows import Rows
from .weights import FlatWeights

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
        val_nll: the same on the validation rows with the averaged weights; None where it was not measured this time.
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
    """The counters of a run: how far it is, what went wrong, and what validation said."""

    flow: Flow
    held: FlatWeights
    val_rows: Rows | None
    batch: int
    steps: int | None
    seconds: float | None
    began: float
    step: int = 0
    passes: int = 0
    skipped: int = 0
    rollbacks: int = 0
    best_nll: float = math.inf
    best_progress: float = 0.0
    validated_step: int = 0
    stopped: str | None = None

    def __post_init__(self) -> None:
        device = self.held.flat.device
        self.bad = torch.zeros((), device=device)  # batches skipped in this process, counted on the device
        self.loss_sum = torch.zeros((), device=device)
        self.since_check = self.since_record = 0
        self.bad_at_check = self.bad_at_record = 0
        self.validation_seconds = 0.0

    def progress(self) -> float:
        """The part of the run that is done, in steps or in time; the latter leaves some for the last validation."""
        in_steps = 0.0 if self.steps is None else self.step / max(self.steps, 1)
        in_time = 0.0 if self.seconds is None else (self.elapsed() + self.validation_seconds) / self.seconds
        return min(max(in_steps, in_time), 1.0)

    def elapsed(self) -> float:
        """Wall-clock seconds, those before a resume included."""
        return time.perf_counter() - self.began

    def count(self, bad: Tensor, loss: Tensor) -> None:
        """Adds a step; the device is waited for every `CHECK_STEPS` only."""
        self.bad += bad[0]
        self.loss_sum += torch.where(bad[0] > 0, 0.0, loss)
        self.step += 1
        self.since_check += 1
        self.since_record += 1
        if self.since_check == CHECK_STEPS:
            self._check()

    def _check(self) -> None:
        """Keeps the weights if all went well since the last check; goes back if most batches were not finite."""
        total = int(self.bad)
        bad = total - self.bad_at_check
        self.bad_at_check, self.since_check = total, 0
        if bad > MAX_BAD:
            self.held.rollback(0)
            self.rollbacks += 1
            warnings.warn(
                f"{bad} of the last {CHECK_STEPS} batches had a loss or a gradient that is not finite: back to the "
                f"last good weights, with a factor of {self.held.rates[0]:g} on the learning rate",
                stacklevel=4,
            )
        elif bad == 0:
            self.held.keep_good(0)

    def validate(self) -> float:
        """-> mean NLL of the validation rows under the averaged weights, which are kept if they are the best."""
        assert self.val_rows is not None
        start = time.perf_counter()
        with self.held.averaged(), torch.no_grad():
            nll = float(self.val_rows.mean_nll(self.flow))
        self.validation_seconds = time.perf_counter() - start
        self.validated_step = self.step
        if nll < self.best_nll:
            self.best_nll, self.best_progress = nll, self.progress()
            self.held.keep_best(0)
        return nll

    def record(self, epoch: float, lr: float, patience: float | None) -> Epoch:
        """Closes a part of the run: checks it, validates where it is due, and decides whether to stop."""
        over = self.progress() >= 1
        val_nll = None
        if self.val_rows is not None:
            # Passes over few rows are short; validation takes at most about a tenth of the time.
            due = self.validated_step + max(50, 4 * len(self.val_rows) // self.batch)
            if over or self.step >= due:
                val_nll = self.validate()
        if over:
            self.stopped = "done"
        elif self.rollbacks > MAX_ROLLBACKS:
            self.stopped = "diverged"
        elif patience is not None and val_nll is not None and self.progress() - self.best_progress > patience:
            self.stopped = "early"
        total = int(self.bad)
        skipped = total - self.bad_at_record
        finite = self.since_record - skipped
        train_nll = float(self.loss_sum) / finite if finite else math.nan
        self.skipped += skipped
        self.bad_at_record, self.since_record = total, 0
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
