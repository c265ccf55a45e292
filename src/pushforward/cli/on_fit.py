"""The `fit` command: from a table to the density of its rows, and what that is worth."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..checks import Section, check
from ..density import Density
from ..io import models
from ..io.atomic import writing
from ..io.database import is_query
from ..io.frames import Frame
from ..io.tables import TableFile
from ..recipes import IMAGE_RECIPES, RECIPES
from ..tables import Schema, drop_bad_rows, fit_table, infer_schema
from ..tables.drawing import foreseeing, schema_sample
from ..training import Epoch
from ..training.progress import reporter
from ..training.settings import check_settings
from .curves import thinned
from .on_model import first_recipe, outline
from .options import Reading
from .output import count, echo, finite, listed, prepare_file, say, say_answers, silence
from .reading import (
    SOME_ROWS,
    digest,
    loaded,
    opened,
    parted,
    quantiles_to_keep,
    rows_of,
    sketch,
    some_of,
    tell_skipped,
    without_bad_rows,
)

_ASKED = ("ranking", "probabilities")  # of the questions of `check`, which is as strict; that on samples takes longer
_MIN_ROWS = 25  # after the test's tenth, enough to hold some out for validation


def fit(
    data: str, out: str, columns: str | None, drop: str | None, given: str | None, kinds: str | None, recipe: str,
    members: int, stack: bool | None, reading: Reading, seed: int, progress: str, model: dict[str, Any],
    training: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Learns the density of a table's rows, tests it on rows held out, and saves it."""
    _check_arguments(recipe, model)
    check_settings(training)
    prepare_file(out, (".safetensors",))
    context = [] if given is None else split_names(given, "--given")
    table, schema, facts = _read(data, reading, columns, drop, kinds)
    for name in context:
        if name not in schema.names:
            known = listed(list(map(repr, schema.names)), 20)
            raise ValueError(f"--given: {data} has no column {name!r}; it has {known}")
    if context:
        say("given", listed(context))
    test, rest, _ = parted(table)
    facts |= {"train_rows": facts["rows"] - len(test), "test_rows": len(test)}
    say("split", f"{facts['train_rows']:,} rows to train and validate, {len(test):,} to test")
    if isinstance(rest, TableFile):
        say("", "of the former, which memory does not hold, a part at a time is read")
    curves: list[list[Epoch]] = []
    sizes = {name: model.pop(name, None) for name in ("depth", "width")}
    with reporter(progress) as report:
        density = fit_table(
            rest, schema=schema, given=context, recipe=recipe, seed=seed, progress=recorder(report, curves),
            members=members, stack=stack, model=model, **sizes, **training,
        )  # fmt: skip
    facts |= _training_facts(density)
    parts = ("states of cells alone", "whole rows") if len(curves) == 2 else ("",) * len(curves)
    shown = [thinned(curve) | {"of": part} for part, curve in zip(parts, curves, strict=True)]
    names, some = density.space.names, some_of(rest, SOME_ROWS)
    kept = {"curves": shown, "test_digest": digest(test.select(names)), "sketch": sketch(some.select(names))}
    _save(density, out, facts | kept)  # before the verdict: whatever happens to that, the training is not lost
    try:
        verdict, quantiles = _judge(density, test, some, seed)
    except KeyboardInterrupt:
        verdict, quantiles = {"stopped": "interrupted"}, []
        say("verdict", "interrupted before it was known; the model is kept")
    facts |= verdict
    say("", f"May I use its samples in place of the data? Ask pushforward check {out} {data}")
    _save(density, out, facts | kept | {"quantiles": quantiles})
    say("written", out)
    kinds_of = {column.name: column.kind for column in schema.columns}
    return facts | {"columns": schema.names, "given": context, "kinds": kinds_of, "out": out}


def _read(
    data: str, reading: Reading, columns: str | None, drop: str | None, kinds: str | None
) -> tuple[Frame | TableFile, Schema, dict[str, Any]]:
    """-> the table, as a file where memory does not hold it; what its columns are; facts about it."""
    file = opened(data, reading)
    asked = _asked_kinds(file, columns, drop, kinds)
    file = without_bad_rows(file, reading, kinds=asked)
    table = loaded(file)
    schema, rows = _schema(table, asked)
    facts = {"data": data if is_query(data) else Path(data).name, "skipped_rows": file.skipped.count}
    tell_skipped(file)
    say("data", f"{data}: {count(rows, 'row')}, {count(len(table.names), 'column')}")
    if rows < _MIN_ROWS:
        raise ValueError(
            f"{data} has {count(rows, 'row')}; at least {_MIN_ROWS} are needed, so that some can be held out to "
            "notice overfitting"
        )
    _show(schema, [name for name, kind in asked.items() if kind == "drop"])
    if rows < len(schema.names):
        echo(f"warning: fewer rows than columns ({rows:,} and {len(schema.names):,}): expect little", err=True)
    return table, schema, {"rows": rows, **facts}


def split_names(text: str, option: str) -> list[str]:
    """Comma-separated names; one with a comma in it is put in double quotes, as in a CSV.

    Raises:
        ValueError: there are none.
    """
    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]
    if not names:
        raise ValueError(f"{option} must name at least one column, got {text!r}")
    return names


def _check_arguments(recipe: str, model: dict[str, Any]) -> None:
    """Tells of options that a recipe does not take; "auto" takes those of all recipes."""
    if recipe in IMAGE_RECIPES:
        raise ValueError(f"--recipe {recipe} is for images; for tables there are auto, {', '.join(RECIPES)}")
    _check_values(recipe, model)
    chosen = {name: inspect.signature(RECIPES[name]).parameters for name in (RECIPES if recipe == "auto" else [recipe])}
    for option in model:
        if not all(option in known for known in chosen.values()):
            takers = [name for name in RECIPES if option in inspect.signature(RECIPES[name]).parameters]
            raise ValueError(
                f"--{option.replace('_', '-')} is an option of {' and '.join(takers)}, not of --recipe {recipe}"
            )


def _check_values(recipe: str, model: dict[str, Any]) -> None:
    """Tells of values that a recipe refuses before anything is read, by building the smallest flow with them."""
    for name in RECIPES if recipe == "auto" else [recipe]:
        known = inspect.signature(RECIPES[name]).parameters
        if all(option in known for option in model):
            small = {"depth": 1, "width": 1}
            RECIPES[name](2, **(small | {k: v for k, v in model.items() if k not in small or v < 1}))


def _asked_kinds(table: TableFile, columns: str | None, drop: str | None, kinds: str | None) -> dict[str, str]:
    """Column -> the kind that was asked for: "drop" for those that are not to be modelled."""
    asked = {}
    for pair in [] if kinds is None else split_names(kinds, "--kinds"):
        name, equals, kind = pair.rpartition("=")
        if not equals or not name or not kind:
            raise ValueError(f"--kinds must be column=kind pairs, as age=integer,price=positive, got {pair!r}")
        if asked.setdefault(name.strip(), kind.strip()) != kind.strip():
            raise ValueError(f"--kinds says two kinds of {name.strip()!r}: {asked[name.strip()]} and {kind.strip()}")
    wanted = table.default_columns if columns is None else split_names(columns, "--columns")
    left = [] if drop is None else split_names(drop, "--drop")
    for name in (*wanted, *left, *asked):
        if name not in table.names:
            raise ValueError(f"{table.path} has no column {name!r}; it has {listed(list(map(repr, table.names)), 20)}")
    return asked | {name: "drop" for name in table.names if name not in wanted or name in left}


def _schema(table: Frame | TableFile, asked: dict[str, str]) -> tuple[Schema, int]:
    """-> the schema of all rows; their number."""
    if isinstance(table, TableFile):
        return foreseeing(table, schema_sample(table), asked)
    try:
        return infer_schema(table, asked), len(table)
    except ValueError as error:
        bad = drop_bad_rows(table, kinds=asked)[1].count
        if not bad:
            raise
        raise ValueError(
            f"{error}. With --skip-bad-rows {count(bad, 'such row')} of {len(table):,} would be left out"
        ) from None


def _show(schema: Schema, left_out: list[str]) -> None:
    """The schema, without the columns that were not asked for."""
    shown = Schema(tuple(c for c in schema.columns if c.name not in left_out), schema.named)
    for i, line in enumerate(shown.describe().splitlines()):
        say("schema" if i == 0 else "", line)
    if left_out:
        say("", f"not asked for: {listed(left_out)}")


def recorder(report: Callable[[Epoch], None], curves: list[list[Epoch]]) -> Callable[[Epoch], None]:
    """Shows epochs and keeps them, those of each training by themselves."""

    def show(epoch: Epoch) -> None:
        if not curves or epoch.step <= curves[-1][-1].step:
            curves.append([])
        curves[-1].append(epoch)
        try:
            report(epoch)
        except BrokenPipeError:
            import sys

            silence(sys.stderr)

    return show


def _training_facts(density: Density) -> dict[str, Any]:
    """Tells how the training went; its figures."""
    summary = density.training_summary or {}
    description = models.describe(density)
    parameters = sum(p.numel() for p in density.parameters())
    say("model", f"{outline(description)}; {parameters:,} parameters")
    stopped = summary.get("stopped", "done")
    ended = {"done": "", "early": ", stopped early: validation no longer improved"}
    why = ended.get(stopped, f", {stopped}: the best model so far is kept")
    if stopped == "interrupted" and first_recipe(description) is not None and "flow" not in summary:
        why = ", interrupted before the flow was trained: of the numbers the model knows little more than their spread"
    steps = {part: facts["steps"] for part, facts in summary.items() if isinstance(facts, dict) and "steps" in facts}
    shown = " and ".join(f"{n:,} steps of the {'masses' if part == 'mass' else part}" for part, n in steps.items())
    say("trained", f"{shown or 'counted'}, {summary['seconds']:.1f} s{why}")
    weights = summary.get("stack", {})
    if len(weights) > 1:
        say("mixed", ", ".join(f"{name} {weight:.0%}" for name, weight in weights.items()))
    return {
        "parameters": parameters, "steps": steps, "train_seconds": summary["seconds"], "stopped": stopped,
        "best_val_nll": summary["best_val_nll"], "stack": weights,
    }  # fmt: skip


def _judge(density: Density, test: Frame, train: Frame, seed: int) -> tuple[dict[str, Any], list[float]]:
    """Tells the likelihood of held-out rows, and what the model is good for; figures, quantiles of log-densities."""
    rows, fitted = rows_of(density, test), rows_of(density, train)
    report = check(density, rows, fitted, questions=_ASKED, seed=seed)
    _tell(report["likelihood"])
    say_answers(report.to_json()["answers"])
    figures = report["likelihood"].figures
    result = {"test_log_density": figures["mean"], "test_se": figures["se"], "test_median": figures["median"]}
    for name, baseline in figures["baselines"].items():
        result |= {f"{name}_log_density": baseline["mean"], f"{name}_se": baseline["se"]}
    if figures["baselines"]:
        best = min(figures["baselines"].values(), key=lambda b: b["gain"])
        result |= {"gain": best["gain"], "gain_se": best["gain_se"]}
    return result | {"answers": report.to_json()["answers"]}, quantiles_to_keep(report.log_density)


def _tell(section: Section) -> None:
    width = max(len(row[0]) for row in section.table)
    figure = max(len(row[1]) for row in section.table)
    for i, row in enumerate(section.table):
        say("held out" if i == 0 else "", f"{row[0]:<{width}}  {row[1]:<{figure}}  {row[2]}")


def _save(density: Density, out: str, training: dict[str, Any]) -> None:
    with writing(out):
        models.save(density, out, training=finite(training))
