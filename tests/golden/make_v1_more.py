"""Writes further golden files of format version 1: `python tests/golden/make_v1_more.py [NAME...]`.

It was run at commit 4fa8ced and reaches into the modules of that commit: it runs there only, and files that exist are
never rewritten. The files pin what `pushforward.save` wrote and what it scored then; `tests/test_golden.py` reads them.

Beside NAME.safetensors lies NAME.json:

- kind "flow" (ensembles too): x and context, numbers that float32 holds exactly, and log_prob, z and log_det of them;
  "into" names a composition of `tests/composed.py`.
- kind "table": rows, a Parquet file beside it; or csv, a text file, which is scored as `open_table` reads it; log_prob,
  draws_3 (log_prob with draws=3) and latent of them, and csv_log_prob where there are both files. "array" says that
  the columns are given as an array.

All of these are what the file scores once it was loaded, by one thread, in its own dtype. The same names under "double"
are from the model after `.double()`. "double_error" is what that model raised at 4fa8ced, where it did: its mass
function was given float32 for the columns that it is conditional on. The numbers of "double" are then from a mass
function that was given float64. "-inf" stands for an impossible row. In table densities `.double()` turned flow, mass
function and linear maps into float64, but the rows that the flow sees, and the given columns, were rounded to float32
before: the "double" numbers hold this rounding, and are reproducible to 1e-9 as long as it is done in the same place.
"estimator" are the scores of `FlowDensity.load(file)`. "tolerance" is absolute or relative to the value, whichever is
larger. NAME.info.json is what `pushforward info NAME.safetensors --json` printed (but for the path), NAME.header.json
the header text. `info` at 4fa8ced failed on what `fit_table` and `save` wrote ("Cannot specify ',' with 's'", for the
nested summary of the training), so tables have it only where the command line learned them.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import torch
from v1_flows import FLOWS, UNTRAINED, WITH_SCHEMA
from v1_rows import mixed, plain
from v1_tables import MASS_WIDTH, TABLES, Case, to_score

import pushforward as pf

FOLDER = Path(__file__).parent
COMMIT = "4fa8ced"
SHOWN = ("real_nvp_schema_v1", "ensemble_single_v1", "cli_mixed_v1", "cli_given_v1")
TOLERANCE = {"own": 1e-5, "double": 1e-9}
STIR = 0.05  # spread of what is added to each weight after training, so that scores depend on all of them


def main(names: list[str]) -> None:
    """Writes the files of these names, by default all that are absent."""
    sys.path.insert(0, str(FOLDER.parent))
    from composed import COMPOSED

    if importlib.util.find_spec("pushforward.tabular") is None:
        raise SystemExit(f"this is not the pushforward of commit {COMMIT}")
    torch.set_num_threads(1)
    makers: dict[str, Any] = {name: partial(flow, name, *made) for name, made in FLOWS.items()}
    makers |= {
        name: partial(flow, name, (build.__doc__ or "").rstrip("."), build, name) for name, build in COMPOSED.items()
    }
    makers |= {name: partial(table, name, case) for name, case in TABLES.items()}
    makers |= {
        "cli_mixed_v1": partial(command, "cli_mixed_v1", "town,grade,count,rain,flag,temperature"),
        "cli_given_v1": partial(command, "cli_given_v1", "grade,count,temperature,size", "--given", "grade,count"),
    }
    makers |= {"estimator_plain_v1": estimator_plain, "estimator_mixed_v1": estimator_mixed}
    for name in names or makers:
        if (FOLDER / f"{name}.safetensors").exists():
            print(f"{name} exists: golden files are never rewritten")
            continue
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            makers[name]()
        if name in SHOWN:
            show(name)


def path_of(name: str) -> Path:
    """Of the model file."""
    return FOLDER / f"{name}.safetensors"


@torch.no_grad()
def stir(model: torch.nn.Module) -> None:
    """Adds a little to each weight."""
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p += STIR * torch.randn(p.shape, generator=generator).to(p)


def flow(name: str, covers: str, build: Any, into: str | None = None) -> None:
    """A flow or an ensemble, trained a little."""
    model = build()
    dtype = next(p.dtype for p in model.parameters())
    generator = torch.Generator().manual_seed(1)
    shape, context_dim = model.shape, model.context_dim or 0
    x = (torch.randn(200, *shape, generator=generator) * 2 + 1).bfloat16().float()
    context = torch.randn(200, context_dim, generator=generator).bfloat16().float() if context_dim else None
    summary = None
    if name not in UNTRAINED:
        trained = model.float()  # bfloat16 is not trained
        summary = pf.fit(trained, x, context=context, steps=30, progress="none").summary
        stir(trained)
        model = trained.to(dtype)
    facts: dict[str, Any] = {}
    if name in WITH_SCHEMA:
        facts = {"schema": {"columns": [f"x{i}" for i in range(shape[0])], "more": {"π": [1, None, 2.5]}}}
        facts["training"] = summary
    pf.save(model, path_of(name), **facts)
    far = torch.tensor([[20.0], [-12.0], [0.0]]).expand(3, math.prod(shape)).reshape(3, *shape)
    x = torch.cat([x[:7], far])
    context = None if context is None else context[:10]
    target = None if into is None else build
    scored = flow_scores(name, target, x, context, double=False)
    recipe = model.recipe
    expected = {"kind": "flow", "covers": covers, "made_at": COMMIT, "recipe": recipe, "dtype": named(dtype)}
    expected |= {"into": into} if into else {}
    expected |= facts
    expected |= {"x": x.tolist(), "context": None if context is None else context.tolist(), **scored}
    expected["double"] = flow_scores(name, target, x, context, double=True)
    finish(name, expected, dtype)


@torch.no_grad()
def flow_scores(name: str, build: Any, x: Any, context: Any, *, double: bool) -> dict[str, Any]:
    """What the file scores, loaded."""
    model = pf.load(path_of(name), into=None if build is None else build())
    if build is not None and not double:
        model = model.to(torch.float32)
    model = model.double() if double else model
    scores = {"log_prob": listed(model.log_prob(x, context))}
    if isinstance(model, pf.Flow):
        z, log_det = model.f(x, context)
        scores |= {"z": listed(z), "log_det": listed(log_det)}
    return scores


def table(name: str, case: Case) -> None:
    """The density of a table."""
    learned, rows = case.rows(case.n, 0), to_score(case)
    schema = None
    with tempfile.TemporaryDirectory() as folder:
        source: Any = as_array(learned) if case.array else learned
        if case.csv:
            pyarrow.csv.write_csv(learned, f"{folder}/rows.csv")
            source = pf.data.tables.open_table(f"{folder}/rows.csv").read()  # type: ignore[attr-defined]
        if case.most is not None:
            schema = pf.infer_schema(source, case.kinds, max_categories=case.most)
        options: dict[str, Any] = {"recipe": "spline_flow", "depth": 2, "width": 8, "steps": 40} | dict(case.options)
        if options["recipe"] != "real_nvp":
            options["model"] = {"bins": 4}
        with narrow():
            density = pf.fit_table(source, kinds=case.kinds, schema=schema, progress="none", **options)
    stir(density)
    density = density.double() if case.double else density
    assert case.check(density), f"{name} does not cover what it is to cover:\n{density.schema.describe()}"
    pf.save(density, path_of(name))
    expected = table_expected(name, case.covers, rows, csv=case.csv, array=case.array)
    if name == "table_mixed_v1":
        at = FOLDER / f"{name}.csv"
        pyarrow.csv.write_csv(rows, at)
        from pushforward.data.tables import open_table

        expected["csv"] = at.name
        expected["csv_log_prob"] = listed(pf.load(path_of(name)).log_prob(open_table(at).read()))
    finish(name, expected, torch.float64 if case.double else torch.float32)


def table_expected(name: str, covers: str, rows: Any, *, csv: bool = False, array: bool = False) -> dict[str, Any]:
    """Writes the rows beside the model, and scores them as they are read back."""
    density = pf.load(path_of(name))
    expected: dict[str, Any] = {"kind": "table", "covers": covers, "made_at": COMMIT}
    if csv:
        from pushforward.data.tables import open_table

        at = FOLDER / f"{name}.csv"
        pyarrow.csv.write_csv(rows, at)
        expected["csv"], rows = at.name, open_table(at).read()
    else:
        at = FOLDER / f"{name}.parquet"
        pyarrow.parquet.write_table(rows, at)
        expected["rows"], rows = at.name, pyarrow.parquet.read_table(at)
        rows = as_array(rows) if array else rows
        expected |= {"array": True} if array else {}
    expected["dtype"] = named(density.whitening.dtype)
    expected["recipe"] = None if density.flow is None else density.flow.recipe
    try:
        expected |= table_scores(density, rows)
    except RuntimeError as error:  # as below, of a density that was saved in float64
        raise SystemExit(f"{name} cannot be scored as saved: {error}") from error
    density = pf.load(path_of(name)).double()
    try:
        expected["double"] = table_scores(density, rows)
    except RuntimeError as error:
        expected["double_error"] = str(error)
        with given_in_float64():
            expected["double"] = table_scores(density, rows)
    return expected


def table_scores(density: Any, rows: Any) -> dict[str, Any]:
    """What a density scores."""
    scores = {"log_prob": listed(density.log_prob(rows)), "draws_3": listed(density.log_prob(rows, draws=3))}
    if isinstance(density.flow, pf.Flow):
        scores["latent"] = listed(density.latent(rows))
    return scores


def narrow() -> Any:
    """Mass functions of few hidden units, which `fit_table` has no argument for."""
    from pushforward.tabular import fitting
    from pushforward.tabular.mass import MassFunction

    return mock.patch.object(fitting, "MassFunction", partial(MassFunction, width=MASS_WIDTH))


def given_in_float64() -> Any:
    """A mass function that can be scored after `.double()`: given columns reach its embedding in float64."""
    from pushforward.tabular.mass import Embedder

    plain_forward = Embedder.forward
    return mock.patch.object(Embedder, "forward", lambda self, h: plain_forward(self, h.to(self.whitening.dtype)))


def command(name: str, columns: str, *options: str) -> None:
    """A table that the command line learned, whose training summary has curves and quantiles."""
    from click.testing import CliRunner

    from pushforward import cli

    with tempfile.TemporaryDirectory() as folder, narrow():
        pyarrow.csv.write_csv(mixed(400, 0), f"{folder}/rows.csv")
        sizes = ["--steps", "30", "--depth", "2", "--width", "8", "--recipe", "spline_flow", "--bins", "4"]
        arguments = ["fit", f"{folder}/rows.csv", "--out", str(path_of(name)), "--columns", columns, *options]
        result = CliRunner().invoke(cli.main, [*arguments, *sizes, "--progress", "none"])
    assert result.exit_code == 0, result.output
    rows = mixed(200, 99).slice(0, 12).select(columns.split(","))
    finish(name, table_expected(name, f"the fit command: {' '.join(options) or 'mixed columns'}", rows, csv=True),
           torch.float32)  # fmt: skip


def estimator_plain() -> None:
    """A conditional estimator of numbers with a constant column."""
    import pandas as pd

    name, rng = "estimator_plain_v1", np.random.default_rng(0)
    frame = plain(300, 0).to_pandas().assign(always=3.0)[["x0", "always", "x2"]]
    context = pd.DataFrame({"k": frame["x0"] * 0.5 + rng.normal(size=300)})
    model = pf.FlowDensity(depth=2, width=8, steps=30, random_state=0).fit(frame, context=context)
    stir(model.flow_)
    model.save(path_of(name))
    x = np.asarray(frame[:8], dtype=np.float32).astype(np.float64)
    x[-1, 1] = 4.0  # not the constant
    given = np.asarray(context[:8], dtype=np.float32).astype(np.float64)
    tensors = torch.from_numpy(x[:, [0, 2]]), torch.from_numpy(given)
    expected = {
        "kind": "flow", "covers": "FlowDensity.save of numbers: context, a constant column, float64",
        "made_at": COMMIT, "recipe": model.flow_.recipe, "dtype": "float64", "x": tensors[0].tolist(),
        "context": tensors[1].tolist(), **flow_scores(name, None, *tensors, double=False),
        "double": flow_scores(name, None, *tensors, double=True),
    }  # fmt: skip
    loaded = pf.FlowDensity.load(path_of(name))
    frames = pd.DataFrame(x, columns=frame.columns), pd.DataFrame(given, columns=["k"])
    scores = loaded.score_samples(frames[0], context=frames[1])
    expected["estimator"] = {
        "columns": list(frame.columns), "x": x.tolist(), "context_columns": ["k"], "score_samples": listed(scores),
    }  # fmt: skip
    finish(name, expected, torch.float64)


def estimator_mixed() -> None:
    """An estimator of a mixed frame."""
    name, columns = "estimator_mixed_v1", ["grade", "count", "rain", "flag", "temperature"]
    frame = mixed(400, 0).select(columns).to_pandas()
    with narrow():
        model = pf.FlowDensity(depth=2, width=8, steps=30, random_state=0).fit(frame)
    stir(model.table_)
    model.save(path_of(name))
    rows = mixed(200, 99).select(columns).slice(0, 12)
    expected = table_expected(name, "FlowDensity.save of a mixed frame", rows)
    scores = pf.FlowDensity.load(path_of(name)).score_samples(pyarrow.parquet.read_table(FOLDER / expected["rows"]))
    expected["estimator"] = {"score_samples": listed(scores)}
    finish(name, expected, torch.float32)


def show(name: str) -> None:
    """What the command line tells of the file, and its header."""
    from click.testing import CliRunner
    from safetensors import safe_open

    from pushforward import cli

    result = CliRunner().invoke(cli.main, ["info", str(path_of(name)), "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    del figures["model"]
    path_of(name).with_suffix(".info.json").write_text(json.dumps(figures, indent=1) + "\n")
    with safe_open(path_of(name), framework="pt") as file:
        path_of(name).with_suffix(".header.json").write_text(file.metadata()["pushforward"] + "\n")


def finish(name: str, expected: dict[str, Any], dtype: torch.dtype) -> None:
    """Writes the expectations, and tells how far rounding moves them."""
    own = 1e-9 if dtype == torch.float64 else 5e-2 if dtype == torch.bfloat16 else TOLERANCE["own"]
    expected["tolerance"] = TOLERANCE | {"own": own}
    path_of(name).with_suffix(".json").write_text(json.dumps(expected, indent=1, allow_nan=False) + "\n")
    moved = {}
    for key, value in expected["double"].items():
        a, b = (np.array(v, dtype=np.float64) for v in (expected[key], value))
        with np.errstate(invalid="ignore"):
            far = np.where(a == b, 0.0, np.abs(a - b) / np.maximum(np.abs(b), 1))
        moved[key] = float(far.max(initial=0))
    print(f"{name}: {path_of(name).stat().st_size / 1e3:.0f} kB; float32 is off by",
          ", ".join(f"{k} {v:.1e}" for k, v in moved.items()),
          "; double fails" if "double_error" in expected else "")  # fmt: skip


def as_array(rows: Any) -> np.ndarray:
    """A table of numbers as an array."""
    return np.stack([c.to_numpy(zero_copy_only=False) for c in rows.combine_chunks().itercolumns()], 1)


def listed(values: Any) -> Any:
    """Numbers at full precision, JSON-able."""
    array = torch.as_tensor(values).double().numpy()
    assert not np.isnan(array).any()
    return np.where(np.isneginf(array), "-inf", array.astype(object)).tolist()


def named(dtype: torch.dtype) -> str:
    """Such as float32."""
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    main(sys.argv[1:])
