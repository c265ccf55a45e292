"""What the commands share: lines for people, warnings in short, places to write to, and a pipe whose reader left."""

from __future__ import annotations

import errno
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..io.names import shown


def echo(text: str, *, err: bool = False) -> None:
    """Prints; when the reader of the pipe has left, nothing more is shown and the work goes on."""
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        silence(sys.stderr if err else sys.stdout)


def silence(stream: Any) -> None:
    """Sends what a stream still holds, and all that follows, nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def say(label: str, text: str) -> None:
    """One line for people, on stdout."""
    echo(f"{label:<11} {shown(text)}".rstrip())


def warn(text: str) -> None:
    """One line on stderr, of what may be wrong."""
    echo(f"warning: {shown(text)}", err=True)


def say_answers(answers: dict[str, dict[str, str]]) -> None:
    """What a model is good for: each question, then verdict and reason, as a report has them."""
    for i, answer in enumerate(answers.values()):
        say("verdict" if i == 0 else "", answer["question"])
        say("", f"    {answer['verdict'].upper()}: {answer['why']}")
        if answer.get("advice"):
            say("", f"    Next: {answer['advice']}")


class ThrottledProgress:
    """Reports the step of a long task on stderr, at most once in some seconds: a short task prints nothing.

    Args:
        task: its name, printed before that of the step.
        seconds: at least, from one line to the next.
    """

    def __init__(self, task: str, seconds: float = 5.0) -> None:
        self.task, self.seconds, self.last = task, seconds, time.monotonic()

    def __call__(self, step: str) -> None:
        """Reports a step that begins."""
        if time.monotonic() - self.last >= self.seconds:
            self.last = time.monotonic()
            echo(f"{self.task}: {step} ...", err=True)


def count(n: int, noun: str) -> str:
    """A number with its noun."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def listed(items: list[str], most: int = 8) -> str:
    """Names, the first of many."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def plus_minus(mean: float, se: float) -> str:
    """A mean and its standard error, as text."""
    shown = f"{mean:.4f}" if abs(mean) < 1e6 else f"{mean:.6g}"
    return f"{shown} +- {se:.4f}" if math.isfinite(se) else shown


def finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Warnings meant for users become a line on stderr each, the same one once; those for developers are dropped."""
    seen: set[str] = set()

    def show(message: Any, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in seen:
            seen.add(text)
            warn(text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def prepare_file(out: str, suffixes: tuple[str, ...]) -> None:
    """Makes sure, before any work, that a file can be written: makes its folder and tries it out.

    Raises:
        OSError: it cannot.
        ValueError: the suffix is none of those given.
    """
    path = Path(out)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"cannot write {out}: expected a name ending in {', '.join(suffixes)}")
    if path.exists() and not path.is_file():  # a device or a folder must not be replaced
        raise ValueError(f"{out} exists and is no file")
    prepare_folder(path.parent)


def apart_from(data: str | None, out: str) -> None:
    """Checks that pictures are not written into the folder of the data, where later commands would read them as data.

    Raises:
        ValueError: `out` is that folder, or within it.
    """
    folder = None if data is None else Path(data)
    if folder is not None and folder.is_dir() and Path(out).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"--out {out} is in the folder of the data, {data}: choose another, as what is there is data")


def prepare_folder(out: str | Path) -> Path:
    """Makes a folder and makes sure that files can be written there.

    Raises:
        OSError: they cannot.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is no folder", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    try:  # a folder says little by its permissions: root, quotas, read-only disks
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
