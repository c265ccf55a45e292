"""What the commands of the command line do: each prints for people and returns its figures, JSON-able, for `--json`."""

from __future__ import annotations

import csv
import math
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import serialize
from ..data.tables import Table, check_suffix, read_table, write_table
from ..diagnostics import gaussian_log_prob
from ..flow import Flow, initialize
from ..models import choose
from ..training import fit as train_flow
from ..training.rows import needs_float64

LOG_DENSITY = "log_density"
_TEST_FRACTION = 0.1
_MIN_ROWS = 25  # after the test's tenth, enough for `train` to hold some out for validation


def fit(
    data: str, out: str, columns: str | None, recipe: str, seed: int, progress: str, model: dict[str, Any],
    training: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Trains a flow on a table, tests it on rows held out, and saves it."""
    if len([k for k in ("seconds", "epochs", "steps") if training[k] is not None]) > 1:
        raise ValueError("give at most one of --seconds, --epochs and --steps")
    prepare_file(out, ".safetensors")
    table = read_table(data)
    names = table.default_columns if columns is None else _split_names(columns)
    if not table.named:  # matched by position later on, so the order of the file is kept
        names.sort(key=lambda n: table.names.index(n) if n in table.names else -1)
    x = table.matrix(names)
    if len(x) < _MIN_ROWS:
        raise ValueError(
            f"{data} has {count(len(x), 'row')}; at least {_MIN_ROWS} are needed, so that some can be held out to "
            "notice overfitting"
        )
    _check_constant(x, names, data)
    test, rest = (x[rows] for rows in held_out(len(x)))
    _check_constant(rest, names, f"the training part of {data}")

    choice = choose(len(rest), x.shape[1], recipe=recipe, seconds=training["seconds"])
    flow = choice.build(x.shape[1], seed=seed, **model)
    if needs_float64(rest):
        flow = flow.double()
    initialize(flow, torch.from_numpy(rest))
    parameters = sum(p.numel() for p in flow.parameters())
    name, built = (flow.recipe or {})["name"], (flow.recipe or {})["arguments"]
    settings = f"{built['depth']} layers, networks of {built['hidden_layers']} x {built['width']}"
    say(
        "data",
        f"{data}: {count(len(x), 'row')}, {count(len(names), 'column')}: {', '.join(names[:8])}",
        len(names) > 8,
    )
    say("split", f"{len(rest):,} to train and validate, {len(test):,} to test")
    say("model", f"{name}, {settings}, {parameters:,} parameters, {str(flow._like().dtype).removeprefix('torch.')}")
    record = train_flow(flow, torch.from_numpy(rest), seed=seed, progress=progress, **training)
    summary = record.summary
    figures: dict[str, Any] = {
        "rows": len(x), "columns": names, "train_rows": len(rest), "test_rows": len(test), "parameters": parameters
    }  # fmt: skip
    figures |= {f"{'train_' if k == 'seconds' else ''}{k}": v for k, v in summary.items()}
    stopped = {"done": "", "early": ", stopped early: validation no longer improved"}
    ended = stopped.get(summary["stopped"], f", {summary['stopped']}: the best weights so far are kept")
    say("trained", f"{summary['steps']:,} steps, {summary['epochs']:.1f} passes, {summary['seconds']:.1f} s{ended}")
    figures |= _compare(flow, rest, test)
    schema = {"columns": names} if table.named else {"columns": names, "width": len(table.names)}
    kept = {k: v for k, v in figures.items() if k != "columns"} | {"data": Path(data).name}
    with writing(out):
        serialize.save(flow, out, schema=schema, training=kept)
    say("written", out)
    return figures | {"out": out}


def score(model: str, data: str, out: str) -> dict[str, Any]:
    """Writes the input's columns and `log_density`."""
    prepare_file(out)
    flow, columns, width = load_model(model)
    table = read_table(data)
    if LOG_DENSITY in table.names:
        raise ValueError(f"{data} already has a column {LOG_DENSITY!r}: rename or drop it first")
    x = table.model_matrix(columns, width)
    with torch.no_grad():
        log_density = flow.log_prob(x).numpy()
    with writing(out):
        write_table(table.with_column(LOG_DENSITY, log_density), out)
    mean, se = mean_and_se(torch.from_numpy(log_density))
    say("scored", f"{count(len(x), 'row')}: mean log-density {plus_minus(torch.from_numpy(log_density))} nats per row")
    say("written", out)
    return {"rows": len(x), "mean_log_density": mean, "se": se, "min": float(log_density.min()),
            "max": float(log_density.max()), "out": out}  # fmt: skip


def sample(model: str, count: int, out: str, seed: int | None) -> dict[str, Any]:
    """Writes draws, with the model's columns."""
    prepare_file(out)
    flow, columns, _ = load_model(model)
    seed = secrets.randbelow(2**32) if seed is None else seed
    x = flow.sample(count, generator=torch.Generator().manual_seed(seed)).numpy()
    with writing(out):
        write_table(Table(x, tuple(columns)), out)
    say("sampled", f"{count:,} {'row' if count == 1 else 'rows'} with seed {seed}")
    say("written", out)
    return {"rows": count, "columns": columns, "seed": seed, "out": out}


def info(model: str) -> dict[str, Any]:
    """Shows the header of a model file and counts its parameters."""
    header = serialize.read_header(model)
    figures = {"model": model, **header}
    say("model", model)
    if recipe := header.get("recipe"):
        flow = serialize.load(model)
        figures["parameters"] = sum(p.numel() for p in flow.parameters())
        say("recipe", recipe["name"])
        for name, value in recipe["arguments"].items():
            say("", f"{name:<18} {value}")
        say("parameters", f"{figures['parameters']:,} in {str(flow._like().dtype).removeprefix('torch.')}")
    else:
        say("recipe", "none: composed by hand, read it with pushforward.load(path, into=flow)")
    columns = (header.get("schema") or {}).get("columns")
    say("columns", ", ".join(map(str, columns)) if columns else "not named")
    say("training", "" if header.get("training") else "not recorded")
    for name, value in (header.get("training") or {}).items():
        say("", f"{name:<18} {f'{value:.6g}' if isinstance(value, float) else value}")
    say("versions", ", ".join(f"{k} {v}" for k, v in (header.get("versions") or {}).items()))
    return figures


def plot(model: str, data: str | None, out: str) -> dict[str, Any]:
    """Draws what fits the model's dimension, with the data where given."""
    from .. import plots

    folder = prepare_folder(out)
    flow, columns, width = load_model(model)
    x = None if data is None else read_table(data).model_matrix(columns, width)
    pictures: list[str] = []

    def keep(picture: Any, name: str) -> None:
        with writing(folder / name):
            plots.save_figure(picture, folder / name)
        pictures.append(str(folder / name))

    features = len(columns)
    if features <= 2:
        keep(plots.density(flow, x=x, columns=columns), "density.png")
    samples = flow.sample(5000, generator=torch.Generator().manual_seed(0))
    if features == 2:
        keep(plots.four_panels(flow, samples if x is None else x), "four_panels.png")
        keep(plots.warped_grid(flow), "warped_grid.png")
    if features > 2:
        keep(plots.pairs(samples, x, columns=columns), "pairs.png")
    say("written", ", ".join(pictures))
    return {"out": out, "pictures": pictures}


def say(label: str, text: str, more: bool = False) -> None:
    """One line for people, on stdout."""
    click.echo(f"{label:<11} {text}{' ...' if more else ''}".rstrip())


def count(n: int, noun: str) -> str:
    """A number with its noun."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def mean_and_se(values: Tensor) -> tuple[float, float]:
    """values (N,) -> their mean and its standard error, NaN for a single value."""
    values = values.double()
    spread = float(values.std()) if len(values) > 1 else math.nan
    return float(values.mean()), spread / math.sqrt(len(values))


def plus_minus(values: Tensor) -> str:
    """values (N,) -> their mean and its standard error, as text."""
    mean, se = mean_and_se(values)
    return f"{mean:.4f} +- {se:.4f}" if math.isfinite(se) else f"{mean:.4f}"


def prepare_file(out: str, suffix: str | None = None) -> None:
    """Makes sure, before any work, that a file can be written: makes its folder and tries it out.

    Raises:
        OSError: it cannot.
        ValueError: the suffix is none of a table, or not the one given.
    """
    path = Path(out)
    if suffix is None:
        check_suffix(path, "write")
    elif path.suffix != suffix:
        raise ValueError(f"cannot write {out}: expected a name ending in {suffix}")
    if path.exists() and not path.is_file():  # a device or a folder must not be replaced
        raise ValueError(f"{out} exists and is no file")
    prepare_folder(path.parent)


def prepare_folder(out: str | Path) -> Path:
    """Makes a folder and makes sure that files can be written there.

    Raises:
        OSError: they cannot.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    folder.mkdir(parents=True, exist_ok=True)
    try:  # a folder says little by its permissions: root, quotas, read-only disks
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Names the file in errors that do not, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def load_model(path: str) -> tuple[Flow, list[str], int | None]:
    """-> the flow, the names of its columns, the width of the nameless file that they were chosen from."""
    flow: Any = serialize.load(path)
    if len(flow.shape) != 1:
        raise ValueError(f"{path} is a model of shape {flow.shape}: tables need one of shape (D,)")
    if flow.context_dim:
        raise ValueError(f"{path} is a conditional model, which the command line cannot give a context yet")
    schema = flow.schema or {}
    columns = schema.get("columns", [f"x{i}" for i in range(flow.shape[0])])
    named = isinstance(columns, list) and all(isinstance(c, str) for c in columns)
    if not named or len(set(columns)) != flow.shape[0] or len(columns) != flow.shape[0]:
        raise ValueError(f"{path}: damaged header: expected the names of {flow.shape[0]} columns, got {columns!r}")
    return flow, columns, schema.get("width")


def _split_names(text: str) -> list[str]:
    """Comma-separated names; one with a comma in it is put in double quotes, as in a CSV."""
    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]
    if not names:
        raise ValueError(f"--columns must name at least one column, got {text!r}")
    return names


def held_out(rows: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """-> numbers of the test rows, of all others. The same whatever the seed, so that models of a table compare."""
    held = round(_TEST_FRACTION * rows)
    order = np.random.default_rng(20160527).permutation(rows)
    return order[:held], order[held:]


def _check_constant(x: NDArray[np.float64], names: list[str], where: str) -> None:
    constant = [i for i in range(x.shape[1]) if x[:, i].min() == x[:, i].max()]
    if constant:
        shown = ", ".join(f"{names[i]!r} (always {x[0, i]:g})" for i in constant[:10])
        raise ValueError(
            f"{where}: constant column {shown}: its density would be unbounded; leave it out with --columns"
        )


def _compare(flow: Flow, rest: NDArray[np.float64], test: NDArray[np.float64]) -> dict[str, Any]:
    """Log-densities of the test rows under the flow and under a Gaussian, and their paired difference."""
    with torch.no_grad():
        ours = flow.log_prob(test).double()
    gaussian = gaussian_log_prob(rest, test)
    figures: dict[str, Any] = {}
    for name, values in (("test", ours), ("gaussian", gaussian), ("gain", ours - gaussian)):
        key = name if name == "gain" else f"{name}_log_density"
        figures[key], figures[f"{name}_se"] = mean_and_se(values)
    gain, se = figures["gain"], figures["gain_se"]
    figures["better_on"] = float((ours > gaussian).double().mean())
    clear = "" if abs(gain) > 2 * se else ", though within two standard errors"
    verdict = f"the {'flow' if gain > 0 else 'Gaussian'} is better{clear}"
    say("test", f"{plus_minus(ours)} nats per row, on {count(len(test), 'row')}; higher is better")
    say("Gaussian", f"{plus_minus(gaussian)}, full covariance, on the same rows")
    say(
        "difference",
        f"{plus_minus(ours - gaussian)}: {verdict} (the flow is higher on {figures['better_on']:.0%} of the rows)",
    )
    return figures
