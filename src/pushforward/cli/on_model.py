"""The commands that show a model: `info` and `plot`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..flow import Flow
from ..io import models as serialize
from ..tables import TableDensity
from .models import FlowModel, TableModel, open_model
from .options import Reading
from .output import count, listed, prepare_folder, say, writing
from .reading import opened, some_of

_SAMPLES = 30_000  # that pictures are made of, and as many rows at most
_CATEGORIES = 6  # of a column among pairs
_MORE_CATEGORIES = 10  # of a column by itself
_HIDDEN = ("quantiles", "curves", "why")


def info(model: str) -> dict[str, Any]:
    """Shows what a model file holds."""
    header = serialize.read_header(model)
    training = header.get("training") or {}
    figures = {"model": model, **header, "training": {k: v for k, v in training.items() if k not in _HIDDEN}}
    say("model", f"{model}, {Path(model).stat().st_size / 1e6:.2g} MB")
    settings = header.get("settings") or {}
    parts = settings.get("densities") or (settings.get("flow") or {}).get("settings", {}).get("densities") or [header]
    inner = parts[0] if header.get("kind") != "table" else settings.get("flow") or {}
    recipe = ((inner.get("settings") or {}).get("densities") or [inner])[0].get("settings", {}).get("recipe")
    built: Any = None if recipe is None and header.get("kind") != "table" else serialize.load(model)
    if isinstance(built, TableDensity):
        for i, line in enumerate(built.schema.describe().splitlines()):
            say("schema" if i == 0 else "", line)
        if built.given:
            say("given", listed(list(built.given)))
        if built.mass is not None:
            say("masses", f"{count(len(built.mass.sizes), 'column')} with {sum(built.mass.sizes):,} states")
    else:
        columns = (header.get("about") or {}).get("columns")
        say("columns", listed(list(map(str, columns)), 40) if columns else "not named")
    if recipe:
        say("recipe", recipe["name"])
        for name, value in recipe["arguments"].items():
            say("", f"{name:<18} {value}")
    elif built is None:
        say("recipe", "none: composed by hand, read it with pushforward.load(path, into=flow)")
    if built is not None:
        figures["parameters"] = sum(p.numel() for p in built.parameters())
        dtype = next((str(p.dtype).removeprefix("torch.") for p in built.parameters()), "no dtype")
        say("parameters", f"{figures['parameters']:,} in {dtype}")
    say("training", "" if training else "not recorded")
    for name, value in figures["training"].items():
        say("", f"{name:<20} {_shown(value)}")
    if training.get("why"):
        say("verdict", f"{training.get('verdict')}: {training['why']}")
    say("versions", ", ".join(f"{k} {v}" for k, v in (header.get("versions") or {}).items()))
    return figures


def plot(model: str, data: str | None, out: str, x: str | None, y: str | None, reading: Reading) -> dict[str, Any]:
    """Draws what fits the model, with the data where given."""
    from .. import plots

    if (x is None) != (y is None):
        raise ValueError("give --x and --y together")
    folder = prepare_folder(out)
    it = open_model(model)
    rows = None if data is None else it.rows(some_of(opened(data, reading, schema=it.schema), _SAMPLES))
    pictures: list[str] = []

    def keep(picture: Any, name: str) -> None:
        with writing(folder / name):
            plots.save_figure(picture, folder / name)
        pictures.append(str(folder / name))

    if isinstance(it, TableModel):
        _of_table(it, rows, keep, (x, y))
    else:
        _of_flow(it, rows, keep, (x, y))
    if it.training.get("curves"):
        keep(_history(it.training["curves"]), "history.png")
    say("written", ", ".join(pictures))
    return {"out": out, "pictures": pictures}


def _of_flow(it: FlowModel, rows: Any, keep: Any, pair: tuple[str | None, str | None]) -> None:
    from .. import plots

    flow: Flow = it.flow
    features = len(it.columns)
    samples = next(it.sample(_SAMPLES, 0)).data
    if features <= 2:
        keep(plots.density(flow, x=rows, columns=it.columns), "density.png")
    if features == 2:
        keep(plots.four_panels(flow, samples[:5000] if rows is None else rows), "four_panels.png")
        keep(plots.warped_grid(flow), "warped_grid.png")
    if features > 2:
        keep(plots.pairs(samples, rows, columns=it.columns), "pairs.png")
    if pair[0] is not None:
        at = [_place(name, it.columns) for name in pair]
        names = [str(name) for name in pair]
        keep(plots.plane(samples[:, at], None if rows is None else rows[:, at], columns=names), "plane.png")


def _of_table(it: TableModel, rows: Any, keep: Any, pair: tuple[str | None, str | None]) -> None:
    from .. import plots

    schema = it.density.schema
    if it.given and rows is None:
        raise ValueError(f"{it.path} is a conditional model: give it rows to draw samples for, as --data FILE")
    if it.given:
        samples = it.density.sample(max(1, _SAMPLES // len(rows)), rows, seed=0)
    else:
        samples = it.density.sample(_SAMPLES, seed=0)
    tables = [samples] if rows is None else [rows, samples]
    columns = [c.at_most(_MORE_CATEGORIES) for c in plots.drawn(schema, tables)]
    if columns:
        keep(_figure(plots.marginals, columns), "marginals.png")
    columns = [c.at_most(_CATEGORIES) for c in columns]
    if len(columns) > 1:
        best = plots.informative(columns, 6)
        keep(_figure(plots.pairs, [columns[i] for i in best]), "pairs.png")
    if pair[0] is not None:
        found = plots.drawn(schema, tables, [str(name) for name in pair])
        for column in found:
            if column.labels:
                raise ValueError(f"column {column.name!r} has a few single values and no density to draw with --x, --y")
        keep(_figure(plots.plane, found, labelled=False), "plane.png")


def _figure(draw: Any, columns: list[Any], labelled: bool = True) -> Any:
    """A picture of columns, of the data (where there are two tables) and of samples."""
    parts = [np.stack([c.values[k] for c in columns], 1) for k in range(len(columns[0].values))]
    extra: dict[str, Any] = {"labels": {i: c.labels for i, c in enumerate(columns) if c.labels}} if labelled else {}
    dates = [i for i, c in enumerate(columns) if c.date]
    return draw(parts[-1], *parts[:-1], columns=[c.name for c in columns], dates=dates, **extra)


def _history(curves: list[dict[str, Any]]) -> Any:
    """The training curves, one beside the other."""
    from matplotlib.figure import Figure

    from .. import plots

    figure = Figure((0.6 + 5.4 * len(curves), 4.0), layout="constrained")
    for ax, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        points = zip(*(curve[k] for k in ("step", "seconds", "train_nll", "val_nll")), strict=True)
        epochs = [
            SimpleNamespace(step=step, seconds=seconds, train_nll=np.nan if train is None else train, val_nll=val)
            for step, seconds, train, val in points
        ]
        plots.history(epochs, ax=ax).set_title(curve.get("of", ""), fontsize=11, loc="left")
    return figure


def _place(name: Any, columns: list[str]) -> int:
    if name not in columns:
        raise ValueError(f"no column {name!r} to draw; there are {listed(list(map(repr, columns)), 20)}")
    return columns.index(name)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(f"{k} {v:,}" for k, v in value.items()) if isinstance(value, dict) else str(value)
