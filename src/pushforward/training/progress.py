"""What a training shows on stderr: a live line (rich), some plain lines, or nothing."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run import Epoch

PLAIN_LINES = 20  # about how many lines a whole run prints


@contextmanager
def reporter(style: str | Callable[[Epoch], None]) -> Iterator[Callable[[Epoch], None]]:
    """Gives a function that shows an epoch; one that is given already stays as it is.

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
        yield _plain()
    else:
        with _rich() as show:
            yield show


def describe(epoch: Epoch, val_nll: float | None) -> str:
    """One line on an epoch, with the last validation NLL that was measured."""
    train = "" if math.isnan(epoch.train_nll) else f"  train {epoch.train_nll:.4f}"
    validation = "" if val_nll is None else f"  validation {val_nll:.4f}"
    skipped = f"  skipped {epoch.skipped}" if epoch.skipped else ""
    return (
        f"pass {epoch.epoch:.1f}  step {epoch.step}{train}{validation} nats  "
        f"lr {epoch.lr:.1e}  {epoch.seconds:.1f} s{skipped}"
    )


def _plain() -> Callable[[Epoch], None]:
    shown, last_val = -1, None

    def show(epoch: Epoch) -> None:
        nonlocal shown, last_val
        last_val = last_val if epoch.val_nll is None else epoch.val_nll
        part = int(epoch.progress * PLAIN_LINES)
        if part > shown or epoch.stopped:
            shown = part
            sys.stderr.write(describe(epoch, last_val) + "\n")
            sys.stderr.flush()

    return show


@contextmanager
def _rich() -> Iterator[Callable[[Epoch], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=1.0)
        last_val = None

        def show(epoch: Epoch) -> None:
            nonlocal last_val
            last_val = last_val if epoch.val_nll is None else epoch.val_nll
            bar.update(task, completed=epoch.progress, description=describe(epoch, last_val))

        yield show
