"""The command line. Nothing heavy is imported before a command runs: `pushforward --help` never waits for torch."""

from __future__ import annotations

import errno
import json
import re
import traceback
from collections.abc import Callable
from typing import Any

import click

from ..io.names import shown
from . import options as opt
from .output import echo, finite, shown_warnings

TOYS = ("moons", "circles", "spirals", "pinwheel", "checkerboard", "gaussians", "rings", "banana")
INTERRUPTED = 130  # the exit code of a process that Ctrl-C ended


class _Failure(click.ClickException):
    def show(self, file: Any = None) -> None:
        echo(f"error: {shown(self.message)}", err=True)


class _Group(click.Group):
    """Turns the errors that a user can mend into one line and exit code 1, and Ctrl-C into one line and 130."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with shown_warnings():
                return super().invoke(ctx)
        except (KeyboardInterrupt, ValueError, OSError, ImportError, MemoryError) as error:
            if _caused_by_interrupt(error):
                echo("interrupted", err=True)
                ctx.exit(INTERRUPTED)
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # click ends quietly when the reader of a pipe has left
            if ctx.meta.get("debug"):
                echo(traceback.format_exc().rstrip(), err=True)
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            raise _Failure(_with_options(_describe(error), command)) from error


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Flags of the group and of its commands are one flag."""
    ctx.meta[str(param.name)] = ctx.meta.get(str(param.name)) or value


def _general(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, text in (("debug", "Show tracebacks."), ("json", "End stdout with one JSON line of the figures.")):
        flag = click.option(f"--{name}", is_flag=True, expose_value=False, callback=_remember, help=text)
        command = flag(command)
    return command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="pushforward", prog_name="pushforward")
@_general
def main() -> None:
    """Exact densities of tables and images, by normalizing flows.

    Tables are text (.csv, .tsv, ..., packed or not), Parquet files and folders or patterns of them, JSON lines, Arrow,
    .npy and .npz, DuckDB, SQLite and Excel files, or a query: "SELECT a, b FROM 'trips/*.parquet' WHERE a > 0". Output
    files are written whole or not at all, and replace existing ones.
    Log-densities are in nats per row, in the units of the data: a category, integer or rounded number counts with its
    probability, any other number with its probability density.
    """


@main.command()
@click.option("--toy", type=click.Choice(TOYS), default="moons", show_default=True, help="A density with known truth.")
@click.option("--seconds", type=float, help="Length of the training, in seconds  [default: 30]")
@click.option("--steps", type=int, help="Length of the training in optimiser steps instead.")
@click.option("--out", type=click.Path(), default="demo", show_default=True, help="Folder for pictures and model.")
@opt.seed
@opt.progress
@_general
def demo(**options: Any) -> None:
    """Watch Real NVP learn a toy density; compare it with the truth."""
    from . import on_toys

    _finish(on_toys.demo(**options))


@main.command()
@click.argument("data", type=click.Path())
@click.option("--out", type=click.Path(), required=True, help="The model file, *.safetensors.")
@opt.option_of("tables", "--kinds",
               help="What columns are where that was not seen right, as age=integer,price=positive.")  # fmt: skip
@opt.option_of("tables", "--given", help="Columns that the density of the others is conditional on, as a,b.")
@opt.option_of("tables", "--columns", help="Columns to model, as a,b,c; all of them by default.")
@opt.option_of("tables", "--drop", help="Columns to leave out, as a,b.")
@click.option("--recipe", type=click.Choice(opt.RECIPES + opt.IMAGE_RECIPES), default="auto", show_default=True,
              help="Kind of the flow; the last four are for images.")  # fmt: skip
@opt.option_of("tables", "--members", type=click.IntRange(1), default=1, show_default=True,
               help="Flows whose densities are averaged: slower, and better of few rows.")  # fmt: skip
@opt.option_of("tables", "--stack/--no-stack", default=None,
               help="Mix simple densities with the flow, as held-out rows weigh them  "
               "[default: where there are at most 5,000 rows]")  # fmt: skip
@opt.of_images
@opt.of_reading
@opt.of_training
@opt.of_model
@opt.seed
@opt.progress
@_general
def fit(**options: Any) -> None:
    """Learn the density of the rows of a table, with columns of any kind; or that of images.

    What each column is gets inferred and shown. --kinds overrides it: real, integer, quantised:STEP, positive,
    bounded:LOW:HIGH, circular:PERIOD, date or date:%d/%m/%Y, category. A tenth of the rows is held out for a test, and
    simple densities are scored on the same rows. Ctrl-C ends the training early, and the best model so far is kept
    (exit code 130).

    Images of one size are a folder of PNG or JPEG, whose subfolders are classes, a .npy or .npz file of bytes, or an
    idx file as of MNIST. Their densities are told in bits per dimension.
    """
    from ..io.images import is_images

    data = options["data"]
    if is_images(data):
        from . import on_images as on

        options = opt.applicable(options, *opt.OF_IMAGES, here=f"{data} holds images")
    else:
        from . import on_fit as on

        options = opt.applicable(options, *opt.OF_TABLES, here=f"there are no images at {data}")
        options["reading"] = opt.reading(options)
    model = opt.taken(options, opt.MODEL_OPTIONS | opt.IMAGE_MODEL_OPTIONS)
    training = opt.taken(options, opt.TRAIN_OPTIONS)
    figures = on.fit(**options, model=model, training=training)
    _finish(figures)
    if figures["stopped"] == "interrupted":
        click.get_current_context().exit(INTERRUPTED)


@main.command()
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("--out", type=click.Path(), required=True, help="The table to write: DATA and log_density.")
@click.option("--outlier", is_flag=True, help="Add a column percentile, too: the part of the rows held out by fit, in "
              "percent, with a lower log-density, and half of those with the same. Rows near 0 are outliers. Of tables "
              "a column unseen, too: 1 for rows with what fit never saw. Images near 100 are simple, such as a black "
              "one, and may be foreign, too.")  # fmt: skip
@opt.option_of("images", "--given", help="Images: the class as one of which all are scored, of a model of each class.")
@opt.of_reading
@_general
def score(**options: Any) -> None:
    """Add each row's log-density under a model to a table.

    A row with what the model never saw, such as a new category, is scored by the share of such rows that are to be
    expected, so that one which is likely otherwise may be no outlier; it is counted and named. Of images, the table
    has the log-mass and the bits per dimension of each, given its class where that is a subfolder; of images without
    classes, a model of each class gives the mean over all, and the likeliest class.
    """
    is_of_images, options = _of_the_model(options)
    if is_of_images:
        from . import on_images

        _finish(on_images.score(**options))
    else:
        from . import on_rows

        _finish(on_rows.score(reading=opt.reading(options), **options))


@main.command()
@click.argument("model", type=click.Path())
@click.option("-n", "count", type=click.IntRange(1), help="Number of rows, or of rows for each of --given  "
              "[default: 1000, or 1; of images 64, with --given all as many of each class]")  # fmt: skip
@click.option("--given", type=click.Path(), help="A table of the columns that a conditional model is given; of images "
              "the name of a class, or all.")  # fmt: skip
@opt.option_of("images", "--temperature", type=float, help="Images: below 1 more typical and less varied ones.")
@click.option("--out", type=click.Path(), required=True, help="The table to write; of images a .png for a grid, "
              "a folder, or a .npy.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), help="Of the draws; a new one each time by default.")
@opt.of_reading
@_general
def sample(**options: Any) -> None:
    """Draw new rows, or images, from a model."""
    is_of_images, options = _of_the_model(options)
    if is_of_images:
        from . import on_images

        _finish(on_images.sample(**opt.applicable(options, "images", here="sample reads no images")))
    else:
        from . import on_rows

        if options["given"] is None:
            options = opt.applicable(options, "tables", here="none is read without --given")
        _finish(on_rows.sample(reading=opt.reading(options), **options))


@main.command()
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("--train", type=click.Path(), help="The table that the model was fitted to.")
@click.option("--html", type=click.Path(), help="Write the report as a page with pictures, too.")
@click.option("--max-rows", type=click.IntRange(1), default=10_000, show_default=True, help="Rows of the costly tests.")
@opt.option_of("images", "--given", help="Images: the class as one of which all are taken, of a model of each class.")
@opt.of_reading
@opt.seed
@_general
def check(**options: Any) -> None:
    """Judge a model by rows that it was not fitted to.

    Answers three questions, each good, doubtful, bad or cannot tell, with the reason: may I rank rows by how likely
    they are, may I use its probabilities, may I use its samples in place of the data. Below stands the evidence. If
    DATA is the very table of the fit, its held-out tenth is checked. Of images with more than 1,024 bytes see score,
    plot.
    """
    is_of_images, options = _of_the_model(options)
    if is_of_images:
        from . import on_images

        _finish(on_images.check(**options))
    else:
        from . import on_check

        _finish(on_check.check(reading=opt.reading(options), **options))


@main.command()
@click.argument("model", type=click.Path())
@_general
def info(**options: Any) -> None:
    """Show what a model file holds."""
    from . import on_model

    _finish(on_model.info(**options))


@main.command()
@click.argument("model", type=click.Path())
@click.option("--data", type=click.Path(), help="A table to show beside the model.")
@click.option("--out", type=click.Path(), required=True, help="Folder for the pictures.")
@opt.option_of("tables", "--x", help="A column of numbers, to draw its density together with that of --y.")
@opt.option_of("tables", "--y", help="The other column.")
@opt.of_reading
@_general
def plot(**options: Any) -> None:
    """Draw a model: samples against data, its density, its training; of images interpolations, too."""
    is_of_images, options = _of_the_model(options)
    if options["data"] is None:
        options = opt.applicable(options, "images" if is_of_images else "tables", here="none are read without --data")
    if is_of_images:
        from . import on_image_plots

        _finish(on_image_plots.plot(**options))
    else:
        from . import on_model

        _finish(on_model.plot(reading=opt.reading(options), **options))


def _of_the_model(options: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """-> whether the model of a command is one of images; the options that apply to it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no model file, one of no images is given some, or an option is set that does not apply.
    """
    from ..io.images import is_images
    from .reading import is_of_images

    model, data = options["model"], options.get("data")
    if is_of_images(model):
        return True, opt.applicable(options, *opt.OF_IMAGES, here=f"{model} is a model of images")
    if data is not None and is_images(data):
        raise ValueError(f"{data} holds images, and {model} is no model of images")
    return False, opt.applicable(options, *opt.OF_TABLES, here=f"{model} is no model of images")


def _finish(figures: dict[str, Any]) -> None:
    if click.get_current_context().meta.get("json"):
        echo(json.dumps(finite(figures), allow_nan=False))


def _caused_by_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused an error: a package that is interrupted during its import may raise an ImportError."""
    if error is None or isinstance(error, KeyboardInterrupt):
        return error is not None
    return _caused_by_interrupt(error.__cause__) or _caused_by_interrupt(error.__context__)


def _with_options(text: str, command: click.Command | None) -> str:
    """A message of a function with its arguments as options of the command: mode=L as --mode L, pad=True as --pad."""
    options = {p.name: p.opts[-1] for p in command.params if isinstance(p, click.Option)} if command else {}

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in options:
            return match[0]
        return options[name] + ("" if value in ("", "True") else f" {value}")

    return re.sub(r"\b([a-z_]+)=(\w*)(?![\w'\"(\[])", option, text)  # no lists, tuples and strings


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = error.filename2 or error.filename
        return f"{where}: {error.strerror}" if where else error.strerror
    if isinstance(error, MemoryError):
        return "out of memory"
    return " ".join(str(error).split()) or type(error).__name__
