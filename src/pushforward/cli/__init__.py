"""The command line. Nothing heavy is imported before a command runs: `pushforward --help` never waits for torch."""

from __future__ import annotations

import errno
import json
import math
import traceback
from collections.abc import Callable
from typing import Any

import click

TOYS = ("moons", "circles", "spirals", "pinwheel", "checkerboard", "gaussians", "rings", "banana")
RECIPES = ("auto", "real_nvp", "spline_flow", "triangular_spline_flow")
# The arguments of `real_nvp` and `train` by the same names (a test compares them). Of the model none has a default:
# what is not given is left to `choose`, as are the None of training.
MODEL_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "depth": (None, int, "Number of couplings."),
    "width": (None, int, "Hidden units of each network."),
    "hidden_layers": (None, int, "Hidden layers of each network."),
    "activation": (None, str, "Activation of the networks."),
    "residual": (None, bool, "Residual hidden layers."),
    "clamp": (None, float, "Bound of each affine coupling's log-scale."),
    "mixing": (None, click.Choice(["auto", "flip", "permute", "lu"]), "What mixes the columns between couplings."),
    "components": (None, int, "Gaussians in a learned mixture base, 0 for one normal."),
}
TRAIN_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "seconds": (None, float, "Length of the training, in seconds,"),
    "epochs": (None, int, "or in passes over the rows,"),
    "steps": (None, int, "or in optimiser steps (by default it follows the number of rows)."),
    "batch": (None, int, "Rows of a step."),
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


class _Failure(click.ClickException):
    def show(self, file: Any = None) -> None:
        click.echo(f"error: {self.message}", err=True)


class _Group(click.Group):
    """Turns the errors that a user can mend into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, ImportError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # click ends quietly when the reader of a pipe has left
            if ctx.meta.get("debug"):
                click.echo(traceback.format_exc(), err=True, nl=False)
            raise _Failure(_describe(error)) from error


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Flags of the group and of its commands are one flag."""
    ctx.meta[str(param.name)] = ctx.meta.get(str(param.name)) or value


def _general(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, text in (("debug", "Show tracebacks."), ("json", "End stdout with one JSON line of the figures.")):
        flag = click.option(f"--{name}", is_flag=True, expose_value=False, callback=_remember, help=text)
        command = flag(command)
    return command


def _from_table(table: dict[str, tuple[Any, Any, str]]) -> Callable[..., Any]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, (default, kind, text) in reversed(table.items()):
            flag = f"--{name.replace('_', '-')}"
            command = (
                click.option(flag, name, is_flag=True, default=default, help=text)
                if kind is bool
                else click.option(flag, name, type=kind, default=default, show_default=True, help=text)
            )(command)
        return command

    return decorate


_seed = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every random step.")
_progress = click.option(
    "--progress",
    type=click.Choice(["auto", "rich", "plain", "none"]),
    default="auto",
    show_default=True,
    help="How the training is shown, on stderr.",
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="pushforward", prog_name="pushforward")
@_general
def main() -> None:
    """Exact densities from samples, by normalizing flows.

    Tables are .csv, .parquet or .npy files. Output files are written whole or not at all, and replace existing ones.
    Densities are in nats, in the units of the data.
    """


@main.command()
@click.option("--toy", type=click.Choice(TOYS), default="moons", show_default=True, help="A density with known truth.")
@click.option("--seconds", type=float, help="Length of the training, in seconds  [default: 30]")
@click.option("--steps", type=int, help="Length of the training in optimiser steps instead.")
@click.option("--out", type=click.Path(), default="demo", show_default=True, help="Folder for pictures and model.")
@_seed
@_progress
@_general
def demo(**options: Any) -> None:
    """Watch Real NVP learn a toy density; compare it with the truth."""
    from . import on_toys

    _finish(on_toys.demo(**options))


@main.command()
@click.argument("data", type=click.Path())
@click.option("--out", type=click.Path(), required=True, help="The model file, *.safetensors.")
@click.option("--columns", help="Columns to model, as a,b,c; all of them by default.")
@click.option("--recipe", type=click.Choice(RECIPES), default="auto", show_default=True, help="Which flow.")
@_from_table(TRAIN_OPTIONS)
@_from_table(MODEL_OPTIONS)
@_seed
@_progress
@_general
def fit(**options: Any) -> None:
    """Learn the density of the rows of a table.

    A tenth of the rows is held out for a test. A Gaussian with full covariance is scored on the same rows. What is not
    given follows from the number of rows and columns.
    """
    from . import on_tables

    model = {name: options.pop(name) for name in MODEL_OPTIONS}
    training = {name: options.pop(name) for name in TRAIN_OPTIONS}
    _finish(on_tables.fit(**options, model=model, training=training))


@main.command()
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("--out", type=click.Path(), required=True, help="The table to write: DATA and log_density.")
@_general
def score(**options: Any) -> None:
    """Add each row's log-density under a model to a table."""
    from . import on_tables

    _finish(on_tables.score(**options))


@main.command()
@click.argument("model", type=click.Path())
@click.option("-n", "count", type=click.IntRange(1), default=1000, show_default=True, help="Number of rows.")
@click.option("--out", type=click.Path(), required=True, help="The table to write.")
@click.option("--seed", type=click.IntRange(0), help="Of the draws; a new one each time by default.")
@_general
def sample(**options: Any) -> None:
    """Draw new rows from a model."""
    from . import on_tables

    _finish(on_tables.sample(**options))


@main.command()
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("--train", type=click.Path(), help="The table that the model was fitted to.")
@click.option("--html", type=click.Path(), help="Write the report as a page with pictures, too.")
@click.option("--max-rows", type=click.IntRange(1), default=10_000, show_default=True, help="Rows of the costly tests.")
@_seed
@_general
def check(**options: Any) -> None:
    """Judge a model by rows that it was not fitted to.

    Likelihood beside simple densities, exactness, calibration, samples against rows, memorisation, tails: each with its
    figures and a verdict. If DATA is the very table of the fit, its held-out tenth is checked.
    """
    from . import on_check

    _finish(on_check.check(**options))


@main.command()
@click.argument("model", type=click.Path())
@_general
def info(**options: Any) -> None:
    """Show what a model file holds."""
    from . import on_tables

    _finish(on_tables.info(**options))


@main.command()
@click.argument("model", type=click.Path())
@click.option("--data", type=click.Path(), help="A table to show beside the model.")
@click.option("--out", type=click.Path(), required=True, help="Folder for the pictures.")
@_general
def plot(**options: Any) -> None:
    """Draw a model: its density, its map, its samples."""
    from . import on_tables

    _finish(on_tables.plot(**options))


def _finish(figures: dict[str, Any]) -> None:
    if click.get_current_context().meta.get("json"):
        click.echo(json.dumps(_finite(figures), allow_nan=False))


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = error.filename2 or error.filename
        return f"{where}: {error.strerror}" if where else error.strerror
    if isinstance(error, MemoryError):
        return "out of memory"
    return " ".join(str(error).split()) or type(error).__name__
