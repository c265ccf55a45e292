"""The records of a training, and how they are shown on stderr: a live line (rich), some plain lines, or nothing."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ..density import Density
from ..flow import Flow

PLAIN_LINES = 20  # about how many lines a whole run prints
_SOON = 2.0  # seconds, an end so near is not announced
_NOTABLE = 0.1  # of the seconds given: the summary says why more were left over


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data (or a part of a long one) came to.

    Attributes:
        epoch: passes over the training rows so far.
        step: optimizer steps so far.
        seconds: wall-clock time so far.
        progress: the fraction of the whole run that is done, 0 to 1.
        train_nll: mean of the objective over the batches of this record: by default the negative log-density, nats per
            row in data units. Of a mixture, the mean of its members'.
        val_nll: the metric on the validation rows with the averaged weights, by default the same as above; None where
            it was not measured this time. Of a mixture, that of the whole.
        lr: the learning rate of the last step.
        skipped: batches skipped so far because their loss or gradient was not finite.
        stopped: on the last record, why the run ended: "done", "early" or "diverged"; else None.
        best_val_nll: the lowest validation so far, that before the first step included; None without validation.
        part: what is trained, where a model is trained in parts; "" where there are none.
        best_step: the step after which `best_val_nll` was measured, 0 before the first.
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
    best_val_nll: float | None = None
    part: str = ""
    best_step: int | None = None

    @property
    def seconds_left(self) -> float:
        """How long the rest of the run takes if it goes on as so far and does not end early; 0 on the last record."""
        return self.seconds * (1 / self.progress - 1) if self.progress > 0 and self.stopped is None else 0.0

    def shifted(self, train: float, val: float, part: str = "") -> Epoch:
        """With figures moved, in nats, by what a part of a model does not see."""
        val_nll, best = (None if v is None else v + val for v in (self.val_nll, self.best_val_nll))
        return replace(self, train_nll=self.train_nll + train, val_nll=val_nll, best_val_nll=best, part=part)


@dataclass
class Fit:
    """The record of a training.

    Attributes:
        epochs: the `Epoch` records, in order.
        stopped: why it ended: "done", "early" (validation no longer improved), "diverged" or "interrupted".
        density: what was trained, or the stack that it became; None in a record that was read from a file.
        unstacked: of a stack, the part of it that was trained.
        facts: what else the summary says: of the stack, members and time left over, where there is something to say.
    """

    epochs: list[Epoch] = field(default_factory=list)
    stopped: str = "done"
    density: Density | None = None
    unstacked: Density | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Fit({self.summary})"

    @property
    def flow(self) -> Flow | Any:
        """What was trained, for most a flow: the same as `density`, but of a stack a part, which alone is worse."""
        return self.density if self.unstacked is None else self.unstacked

    def note_time_left(self, seconds: float | None, used: float) -> None:
        """Says in the summary why time was left over of the seconds given, where much was."""
        self.facts.pop("time_left", None)
        if seconds is None or not self.epochs or self.stopped not in ("done", "early"):
            return
        if seconds - used > _NOTABLE * seconds:
            why = "validation no longer improved" if self.stopped == "early" else "more passes would overfit"
            self.facts["time_left"] = f"{seconds - used:.3g} of {seconds:g} s: {why}"

    @property
    def summary(self) -> dict[str, Any]:
        """JSON-able: steps, epochs, seconds, best_val_nll (nats per row; None without validation), skipped, stopped.

        Of a flow that was chosen also stack (weights by name), members (more than one, trained in time left over), and
        time_left (of the seconds given, and why), where there is something to say. Other figures are the first flow's,
        but for the seconds, which are those of all.
        """
        last = self.epochs[-1] if self.epochs else None
        return {
            "steps": last.step if last else 0,
            "epochs": last.epoch if last else 0.0,
            "seconds": last.seconds if last else 0.0,
            "best_val_nll": last.best_val_nll if last else None,
            "skipped": last.skipped if last else 0,
            "stopped": self.stopped,
        } | self.facts


@contextmanager
def reporter(
    style: str | Callable[[Epoch], None], dimensions: int | None = None
) -> Iterator[Callable[[Epoch], None]]:  # fmt: skip
    """Gives a function that shows an epoch; one that is given already stays as it is.

    Args:
        style: "auto", "rich", "plain", "none", or a function.
        dimensions: D, for bits per dimension in place of nats, as of images.

    Raises:
        ValueError: an unknown style, or "rich" without the package.
    """
    if callable(style):
        yield style
        return
    has_rich = importlib.util.find_spec("rich") is not None
    if style not in ("auto", "rich", "plain", "none"):
        raise ValueError(f"progress must be auto, rich, plain or none, got {style!r}")
    if style == "rich" and not has_rich:
        raise ValueError('progress="rich" needs the package rich: pip install "pushforward[data]"')
    if style == "auto":
        style = "rich" if has_rich and sys.stderr.isatty() else "plain"
    if style == "none":
        yield lambda epoch: None
    elif style == "plain":
        yield _plain(dimensions)
    else:
        with _rich(dimensions) as show:
            yield show


def describe(epoch: Epoch, val_nll: float | None, dimensions: int | None = None) -> str:
    """One line on an epoch, with the last validation NLL that was measured; in bits per dimension of D dimensions."""
    unit, name = (1.0, "nats") if dimensions is None else (1 / (dimensions * math.log(2)), "bits per dimension")
    train = "" if math.isnan(epoch.train_nll) else f"  train {unit * epoch.train_nll:.4f}"
    validation = "" if val_nll is None else f"  validation {unit * val_nll:.4f}"
    skipped = f"  skipped {epoch.skipped}" if epoch.skipped else ""
    left = f", at most {_duration(epoch.seconds_left)} left" if epoch.seconds_left >= _SOON else ""
    return (
        f"{epoch.part}{': ' if epoch.part else ''}pass {epoch.epoch:.1f}  step {epoch.step}{train}{validation} {name}  "
        f"lr {epoch.lr:.1e}  {epoch.seconds:.1f} s{left}{skipped}"
    )


def _duration(seconds: float) -> str:
    """Seconds in a unit that suits them.

    Example:
        >>> _duration(45.2), _duration(700), _duration(9000)
        ('45 s', '12 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class _LastValidation:
    """Describes epochs of one part of a training after another, with the last validation of that part."""

    def __init__(self, dimensions: int | None) -> None:
        self._dimensions, self._part, self._val_nll = dimensions, "", None

    def __call__(self, epoch: Epoch) -> str:
        if epoch.part != self._part:
            self._part, self._val_nll = epoch.part, None
        self._val_nll = self._val_nll if epoch.val_nll is None else epoch.val_nll
        return describe(epoch, self._val_nll, self._dimensions)


def _plain(dimensions: int | None) -> Callable[[Epoch], None]:
    shown, described = ("", -1), _LastValidation(dimensions)

    def show(epoch: Epoch) -> None:
        nonlocal shown
        text, here = described(epoch), (epoch.part, int(epoch.progress * PLAIN_LINES))
        if here[0] != shown[0] or here[1] > shown[1] or epoch.stopped:
            shown = here
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    return show


@contextmanager
def _rich(dimensions: int | None) -> Iterator[Callable[[Epoch], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=1.0)
        described = _LastValidation(dimensions)

        def show(epoch: Epoch) -> None:
            bar.update(task, completed=epoch.progress, description=described(epoch))

        yield show
