"""The options of `fit` that are arguments of the library: by the same names, and with its own defaults where not given.

Those of the training are read off `TrainSettings`; a test compares the others with the signatures of the recipes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from importlib import resources
from typing import Any, TypedDict

import click
from click.core import ParameterSource

RECIPES = ("auto", "real_nvp", "spline_flow", "triangular_spline_flow", "autoregressive_spline_flow")
IMAGE_RECIPES = ("real_nvp_image", "glow", "patch_flow", "multiscale_spline_flow")


def sizes(text: str) -> list[int]:
    """Whole numbers with commas between, such as 32,64."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"expected whole numbers with commas between, such as 32,64, got {text!r}") from None


# Of the recipes: name -> type, help.
MODEL_OPTIONS: dict[str, tuple[Any, str]] = {
    "depth": (int, "Number of layers."),
    "width": (int, "Hidden units of each network."),
    "hidden_layers": (int, "Hidden layers of each network."),
    "mixing": (str, "What mixes the columns between layers: auto, flip, permute, lu, ..."),
    "components": (int, "Gaussians in a learned mixture base, 0 for one normal."),
    "activation": (str, "Of the networks (real_nvp)."),
    "residual": (bool, "Residual hidden layers (real_nvp)."),
    "clamp": (float, "Bound of each coupling's log-scale (real_nvp)."),
    "bins": (int, "Pieces of a spline (spline flows)."),
    "bound": (float, "Where a spline ends, in spreads (spline flows)."),
}
# Of the recipes of images alone.
IMAGE_MODEL_OPTIONS: dict[str, tuple[Any, str]] = {
    "levels": (int, "Scales (real_nvp_image, glow)."),
    "widths": (
        sizes,
        "Channels of the networks of each scale, the finest first, as 32,64 (multiscale_spline_flow, patch_flow).",
    ),
    "depths": (sizes, "Layers of each scale, as 8,4 (patch_flow)."),
    "coarse_width": (int, "Hidden units of the network of the coarsest image (multiscale_spline_flow)."),
    "sigmoids": (int, "Of each pixel, that networks see (multiscale_spline_flow)."),
    "blocks": (int, "Residual blocks of each network (real_nvp_image)."),
    "checkerboards": (int, "Layers of each kind at a scale (real_nvp_image)."),
    "norm": (str, "What follows each layer: act or batch (real_nvp_image)."),
    "lattice": (str, "How checkerboards are seen: packed or full (real_nvp_image)."),
}
_TRAIN_OPTIONS_OF_IMAGES = ("channels_last",)
_NO_OPTIONS = ("check", "seed")  # of the settings of a training: the seed is an option of all commands
_TYPES = {"int": int, "float": float, "bool": bool, "str": str, "str | PathLike[str]": click.Path()}


def _train_options() -> dict[str, tuple[Any, Any, str]]:
    """The settings of a training that are no functions: name -> default, type, help.

    They are read off the source of `TrainSettings`: importing it would import torch, for which `--help` must not wait.
    """
    source = ast.parse((resources.files("pushforward") / "training" / "settings.py").read_text(encoding="utf-8"))
    settings = next(node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "TrainSettings")
    options = {}
    for field in settings.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.value, ast.Call):
            name, kind = ast.unparse(field.target), ast.unparse(field.annotation).removesuffix(" | None")
            if kind in _TYPES and name not in _NO_OPTIONS:
                default, about = (argument.value for argument in field.value.keywords)
                text = ast.literal_eval(about.args[1])  # type: ignore[attr-defined]
                options[name] = ast.literal_eval(default), _TYPES[kind], re.split(r"[.;] ", text)[0]
    return options


TRAIN_OPTIONS = _train_options()


class Reading(TypedDict):
    """How a table is read: see `open_table`."""

    delimiter: str | None
    header: bool | None
    encoding: str | None
    skip_bad_rows: bool


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
SOURCES = {
    "tables": "tables", "images": "images", "text": "tables that are read from a file", "files": "data that are read"
}  # fmt: skip
OF_TABLES, OF_IMAGES = ("tables", "text", "files"), ("images", "files")  # that commands may read


class OptionOf(click.Option):
    """An option that applies to some sources alone: `applicable` refuses it elsewhere, so that none is ignored.

    Args:
        of: one of `SOURCES`.
    """

    def __init__(self, *names: Any, of: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.of = of


def option_of(of: str, *names: str, **settings: Any) -> Decorator:
    """Adds an option that applies to some sources alone."""
    return click.option(*names, cls=OptionOf, of=of, **settings)


def applicable(options: dict[str, Any], *sources: str, here: str) -> dict[str, Any]:
    """The options of the running command without those of other sources, of which none may be set.

    Args:
        options: all of the command.
        sources: that there are, of `SOURCES`.
        here: a clause on them, for the message.

    Raises:
        ValueError: one is set that does not apply.
    """
    context = click.get_current_context()
    others = [p for p in context.command.params if isinstance(p, OptionOf) and p.of not in sources]
    given = [p for p in others if context.get_parameter_source(str(p.name)) is not ParameterSource.DEFAULT]
    if given:
        names = [p.opts[0] for p in given if p.of == given[0].of]
        verb = "is an option" if len(names) == 1 else "are options"
        raise ValueError(f"{' and '.join(names)} {verb} for {SOURCES[given[0].of]}, and {here}")
    left_out = {p.name for p in others}
    return {name: value for name, value in options.items() if name not in left_out}


def of_model(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of the recipes."""
    for table, of in ((IMAGE_MODEL_OPTIONS, "images"), (MODEL_OPTIONS, None)):
        for name, (kind, text) in reversed(table.items()):
            command = _option(name, kind, text if of is None else f"Images: {text[0].lower()}{text[1:]}", of)(command)
    return command


def of_training(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of the training."""
    for name, (default, kind, text) in reversed(TRAIN_OPTIONS.items()):
        shown = f"{text[0].upper()}{text[1:]}.{f'  [default: {default}]' if default else ''}"
        command = _option(name, kind, shown, "images" if name in _TRAIN_OPTIONS_OF_IMAGES else None)(command)
    return command


def of_reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of a command that reads a table; `reading` takes them out again."""
    skip = (
        "Leave out, and count, rows that are ragged or have text, infinities or no dates where those do not belong; of "
        "images, corrupt files and those of another size or mode."
    )
    command = option_of("files", "--skip-bad-rows", is_flag=True, help=skip)(command)
    encoding = "Of text, such as utf-8 or latin-1  [default: detected]"
    command = option_of("text", "--encoding", help=encoding)(command)
    header = "Whether the first row of text names the columns  [default: detected]"
    command = option_of("text", "--header/--no-header", default=None, help=header)(command)
    delimiter = 'Between cells of text: a character, or "whitespace"  [default: detected]'
    return option_of("text", "--delimiter", help=delimiter)(command)


def reading(options: dict[str, Any]) -> Reading:
    """Takes the options of `of_reading` out of those of a command that reads a table, or may read none."""
    unset = Reading(delimiter=None, header=None, encoding=None, skip_bad_rows=False)
    return Reading(**{name: options.pop(name, value) for name, value in unset.items()})  # type: ignore[typeddict-item]


def of_images(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of `fit` that are for images."""
    mode = click.Choice(["L", "RGB"])
    command = option_of("images", "--mode", type=mode, help="Images: convert all to grey (L) or to colour.")(command)
    command = option_of("images", "--flips", is_flag=True, help="Images: learn their mirror images, too.")(command)
    noise = "Images: the noise of dequantization; variational is learned with the flow  [default: uniform]"
    kinds = click.Choice(["uniform", "variational"])
    command = option_of("images", "--dequantization", type=kinds, help=noise)(command)
    device = "Images: the device of torch to train on, such as cuda  [default: cpu]"
    command = option_of("images", "--device", help=device)(command)
    padding = "Images: put black pixels around those that cannot be halved often enough."
    command = option_of("images", "--pad", is_flag=True, help=padding)(command)
    by_class = "Images: a density of each class, which are subfolders or labels beside the images."
    return option_of("images", "--by-class", is_flag=True, help=by_class)(command)


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
    chosen = {name: options.pop(name, None) for name in table}
    return {name: value for name, value in chosen.items() if value is not None and value is not False}


def _option(name: str, kind: Any, text: str, of: str | None = None) -> Decorator:
    flag = f"--{name.replace('_', '-')}"
    settings: dict[str, Any] = {"help": text, **({"is_flag": True} if kind is bool else {"type": kind})}
    return click.option(flag, name, **settings) if of is None else option_of(of, flag, name, **settings)
