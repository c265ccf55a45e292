"""The commands that show a model: `info` and `plot`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..density import Density
from ..io import models
from ..io.atomic import writing
from ..toys import TOYS
from .curves import histories
from .options import Reading
from .output import apart_from, listed, prepare_folder, say, say_answers
from .reading import opened, rows_of, some_of

_SAMPLES = 30_000  # that pictures are made of, and as many rows at most
_WORDS = {  # for what a training recorded; of all other names the underscores become spaces
    "epochs": "passes", "best_val_nll": "best validation, nats", "bits_per_dim": "best validation, bits per dimension",
    "skipped": "batches skipped", "stopped": "ended", "skipped_rows": "rows skipped",
    "train_rows": "rows to train and validate",
    "test_rows": "rows held out", "test_bits": "held out, bits per dimension", "test_se": "standard error of these",
    "test_log_density": "held out, log-density in nats", "pixels_bits": "independent pixels, bits per dimension",
    "gain": "ahead of the best simple density", "gain_se": "standard error of that",
    "sample_bits": "samples, bits per dimension",
}  # fmt: skip
_WORDS_OF_IMAGES = _WORDS | {"gain": "ahead of independent pixels"}
_NATS_OF_IMAGES = ("best_val_nll",)  # which bits_per_dim tells
_HIDDEN = ("quantiles", "curves", "answers", "why", "test_digest", "sketch")  # "why": of older files


def info(model: str) -> dict[str, Any]:
    """Shows what a model file holds."""
    header = models.read_header(model)
    is_images = header["kind"] == "images"
    training = header["training"] or {}
    figures = {"model": model, **header, "training": {k: v for k, v in training.items() if k not in _HIDDEN}}
    say("model", f"{model}, {Path(model).stat().st_size / 1e6:.2g} MB")
    say("kind", outline(header))
    figures["recipe"] = recipe = first_recipe(header)
    try:
        density: Density = models.load(model)
    except ValueError as error:
        if recipe is not None:
            raise
        say("", f"{error}")
    else:
        for i, line in enumerate(density.space.describe().splitlines()):
            say(("images" if is_images else "columns") if i == 0 else "", line)
        if density.space.given:
            say("given", listed(list(density.space.given)))
        figures["columns"] = list(density.space.names)
        figures["parameters"] = sum(p.numel() for p in density.parameters())
        dtype = next((str(p.dtype).removeprefix("torch.") for p in density.parameters()), "no dtype")
        say("parameters", f"{figures['parameters']:,} in {dtype}")
    for i, (name, value) in enumerate((recipe or {"arguments": {}})["arguments"].items()):
        say("recipe" if i == 0 else "", f"{name:<18} {value}")
    say("training", "" if training else "not recorded")
    words = _WORDS_OF_IMAGES if is_images else _WORDS
    for name, value in figures["training"].items():
        if is_images and name in _NATS_OF_IMAGES:
            continue
        say("", f"{words.get(name, name.replace('_', ' ')):<38} {_shown(value)}")
    say_answers(training.get("answers") or {})
    say("versions", ", ".join(f"{k} {v}" for k, v in (header.get("versions") or {}).items()))
    return figures


def outline(description: Any) -> str:
    """A description of a density of any kind, and of those inside, in a line.

    Example:
        >>> flow = {"kind": "flow", "settings": {"recipe": {"name": "real_nvp", "arguments": {"depth": 8}}}}
        >>> outline({"kind": "mixture", "settings": {"densities": [flow, flow]}})
        'mixture of 2 times real_nvp (8 depth)'
    """
    settings = description["settings"]
    parts = [outline(value) for value in settings.values() if _is_description(value)]
    for values in settings.values():
        if isinstance(values, list) and values and all(map(_is_description, values)):
            inside = [outline(value) for value in values]
            alike = len(inside) > 1 and len(set(inside)) == 1
            parts += [f"{len(inside)} times {inside[0]}"] if alike else inside
    recipe = settings.get("recipe")
    if isinstance(recipe, dict):
        sizes = [f"{recipe['arguments'][k]} {k}" for k in ("depth", "width") if recipe["arguments"].get(k) is not None]
        return f"{recipe['name']}{f' ({listed(sizes)})' if sizes else ''}"
    return f"{description['kind']}{f' of {listed(parts)}' if parts else ''}"


def first_recipe(description: dict[str, Any]) -> dict[str, Any] | None:
    """The recipe of the first flow inside a description of a density."""
    settings = description["settings"]
    if isinstance(settings.get("recipe"), dict):
        return settings["recipe"]
    inside = [part for value in settings.values() for part in (value if isinstance(value, list) else [value])]
    recipes = (first_recipe(part) for part in inside if _is_description(part))
    return next((recipe for recipe in recipes if recipe is not None), None)


def _is_description(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("settings"), dict) and "kind" in value


def plot(model: str, data: str | None, out: str, x: str | None, y: str | None, reading: Reading) -> dict[str, Any]:
    """Draws what fits the model, with the data where given."""
    from .. import plots

    if (x is None) != (y is None):
        raise ValueError("give --x and --y together")
    apart_from(data, out)
    folder = prepare_folder(out)
    density: Density = models.load(model)
    space = density.space
    if space.given and data is None:
        raise ValueError(f"{model} is a conditional model: give it rows to draw samples for, as --data FILE")
    table = None if data is None else some_of(opened(data, reading, density), _SAMPLES)
    rows = None if table is None else rows_of(density, table)
    context = table.select(space.given) if table is not None and space.given else None
    each = _SAMPLES if context is None else max(1, _SAMPLES // len(context))
    samples = space.flatten_samples(density.sample(each, context, generator=0))
    xy = None if x is None or y is None else [x, y]
    with plots.without_pyplot():
        pictures = []
        for name, picture in _pictures(density, samples, rows, xy):
            with writing(folder / name):
                pictures.append(str(plots.save_figure(picture, folder / name)))
    say("written", ", ".join(pictures))
    return {"out": out, "pictures": pictures}


def _pictures(density: Density, samples: Any, rows: Any, xy: list[str] | None) -> Iterator[tuple[str, Any]]:
    """The pictures that fit a density, with the names of their files."""
    from .. import plots

    space, training = density.space, density.training_summary or {}
    yield "marginals.png", plots.marginals(samples, rows, space=space)
    if len(space.names) > 1:
        yield "pairs.png", plots.pairs(samples, rows, space=space)
    if xy is not None:
        yield "plane.png", plots.plane(samples, rows, columns=xy, space=space)
    if len(space.names) <= 2 and _continuous(density, samples):
        points = space.features(samples if rows is None else rows)
        truth = TOYS[training["toy"]]() if training.get("toy") in TOYS else None
        known = {} if truth is None else {"bounds": truth.bounds, "truth": truth.log_prob}
        yield "density.png", plots.density(density, x=None if rows is None else points, columns=space.names, **known)
        if len(space.names) == 2 and plots.has_map(density):
            yield "four_panels.png", plots.four_panels(density, points[:5000])
            yield "warped_grid.png", plots.warped_grid(density)
    if training.get("curves"):
        yield "history.png", histories(training["curves"], training.get("entropy"))


def _continuous(density: Density, samples: Any) -> bool:
    """Whether rows are numbers that hardly ever come twice, so that they have a density that can be drawn."""
    space = density.space
    if space.given or any(feature.indicator for feature in space.feature_list):
        return False
    values = space.features(samples)
    return all(len(np.unique(column)) > len(values) / 2 for column in values.T)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
