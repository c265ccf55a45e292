"""The options of `fit` that are arguments of the library: by the same names, and with its own defaults where not given.

A test compares the names and defaults with the signatures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import click

RECIPES = ("auto", "real_nvp", "spline_flow", "triangular_spline_flow")
# Of the recipes: name -> type, help.
MODEL_OPTIONS: dict[str, tuple[Any, str]] = {
    "depth": (int, "Number of couplings."),
    "width": (int, "Hidden units of each network."),
    "hidden_layers": (int, "Hidden layers of each network."),
    "mixing": (str, "What mixes the columns between couplings: auto, flip, permute, lu, ..."),
    "components": (int, "Gaussians in a learned mixture base, 0 for one normal."),
    "activation": (str, "Of the networks (real_nvp)."),
    "residual": (bool, "Residual hidden layers (real_nvp)."),
    "clamp": (float, "Bound of each coupling's log-scale (real_nvp)."),
    "bins": (int, "Pieces of a spline (spline flows)."),
    "bound": (float, "Where a spline ends, in spreads (spline flows)."),
}
# Of the training: name -> default, type, help.
TRAIN_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "seconds": (None, float, "Length of the training, in seconds,"),
    "epochs": (None, int, "or in passes over the rows,"),
    "steps": (None, int, "or in optimiser steps (by default it follows the number of rows)."),
    "batch": (None, int, "Rows of a step."),
    "batch_growth": (None, int, "How many times larger the batch is at the end, a power of 2; not with --epochs."),
    "lr": (None, float, "Highest learning rate."),
    "weight_decay": (None, float, "Of AdamW."),
    "noise": (None, float, "Noise added to the rows, in standard deviations of each column."),
    "schedule": ("cosine", click.Choice(["cosine", "constant"]), "Of the learning rate."),
    "warmup": (0.03, float, "Part of the run over which the rate rises."),
    "ema": (0.995, float, "How much of the averaged weights a step keeps."),
    "clip": (2.0, float, "Largest gradient norm."),
    "patience": (0.5, float, "Part of the run without a better validation after which to stop."),
    "val_fraction": (0.1, float, "Part of the training rows held out for validation."),
    "checkpoint": (None, click.Path(), "Folder to keep the state in; a stopped training goes on from there."),
    "compile": (False, bool, "Run the model through torch.compile."),
}


class Reading(TypedDict):
    """How a table is read: see `open_table`."""

    delimiter: str | None
    header: bool | None
    skip_bad_rows: bool


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def of_model(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of the recipes."""
    for name, (kind, text) in reversed(MODEL_OPTIONS.items()):
        command = _option(name, kind, text)(command)
    return command


def of_training(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of the training."""
    for name, (default, kind, text) in reversed(TRAIN_OPTIONS.items()):
        shown = f"{text}  [default: {default}]" if default else text
        command = _option(name, kind, shown)(command)
    return command


def of_reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of a command that reads a table; `reading` takes them out again."""
    skip = "Leave out, and count, rows that are ragged or have text, infinities or no dates where those do not belong."
    command = click.option("--skip-bad-rows", is_flag=True, help=skip)(command)
    header = "Whether the first row of text names the columns  [default: detected]"
    command = click.option("--header/--no-header", default=None, help=header)(command)
    delimiter = 'Between cells of text: a character, or "whitespace"  [default: detected]'
    return click.option("--delimiter", help=delimiter)(command)


def reading(options: dict[str, Any]) -> Reading:
    """Takes the options of `of_reading` out of those of a command."""
    delimiter, header, skip = (options.pop(name) for name in ("delimiter", "header", "skip_bad_rows"))
    return {"delimiter": delimiter, "header": header, "skip_bad_rows": skip}


def seed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --seed."""
    option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every random step.")
    return option(command)


def progress(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --progress."""
    option = click.option(
        "--progress",
        type=click.Choice(["auto", "rich", "plain", "none"]),
        default="auto",
        show_default=True,
        help="How the training is shown, on stderr.",
    )
    return option(command)


def taken(options: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of a table out of those of a command, and gives those that were set."""
    found = {name: options.pop(name) for name in table}
    return {name: value for name, value in found.items() if value is not None and value is not False}


def _option(name: str, kind: Any, text: str) -> Decorator:
    flag = f"--{name.replace('_', '-')}"
    if kind is bool:
        return click.option(flag, name, is_flag=True, help=text)
    return click.option(flag, name, type=kind, help=text)
