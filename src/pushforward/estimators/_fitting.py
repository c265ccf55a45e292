"""How an estimator comes to its density, and what it knows then: the one place where its kind of density matters."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from sklearn.utils.validation import validate_data

from ..arguments import as_device
from ..density import Density, Vectors
from ..flow import Flow
from ..io.frames import Frame
from ..mixture import averaged
from ..tables import TableDensity, fit_table, infer_schema
from ..training import Batch, Fit, fit
from ..training.auto import Choice, choose, steps_for
from ..training.clock import Clock
from ..training.data import FIRST_ROWS
from ..training.dependence import dependent_columns
from ..training.rows import check_squares, needs_float64
from ..training.settings import LENGTHS, TrainSettings, check_members, check_settings, with_defaults
from ..training.stack import STACK_FRACTION, Stack, is_stacked
from ..training.tails import MOST_ROWS, calibrate_tails, seconds_for_tails
from ..training.unbounded import warn_of_unbounded
from ._columns import Cells, Columns, Numbers, as_frame, holds_numbers
from ._constants import ConstantColumns
from ._rows import WeightedRows, merged, read_weights, representative, seed_of, split, spread

if TYPE_CHECKING:
    from .density import FlowDensity

_ADVICE = "Leave them out, smooth the rows with noise=, or set kinds={}: mixed rows give single values a mass"


def typed(*tables: Any) -> list[Any]:
    """Tables with the frames among them typed, and all others as they are."""
    return [table if (frame := as_frame(table)) is None else frame for table in tables]


def is_mixed(estimator: FlowDensity, tables: Sequence[Any]) -> bool:
    """Whether rows are mixed: kinds are set, a frame holds anything but floats in every cell, or they were before."""
    if estimator.kinds is not None or (estimator.warm_start and getattr(estimator, "schema_", None) is not None):
        return True
    return any(isinstance(table, Frame) and not holds_numbers(table) for table in tables)


def fit_numbers(
    estimator: FlowDensity, X: Any, tables: Sequence[Any], sample_weight: Any, *, fresh: bool, **settings: Any  # noqa: N803
) -> None:  # fmt: skip
    """Trains an estimator on rows of numbers.

    Args:
        estimator: a `FlowDensity`.
        X: (N, D), a table as it came, by which scikit-learn knows its columns.
        tables: X and its context (N, K) or None, typed.
        sample_weight: (N,), or None.
        fresh: build new flows, and learn which columns there are and which are constant; else go on with the old ones.
        settings: of `train`, which go before those of the estimator.

    Raises:
        ValueError: the rows, their context or weights, or a parameter do not fit.
    """
    check_members(estimator.members)
    settings = settings_of(estimator) | settings
    table, context = tables
    columns, x = Numbers.of(table, "X", least=2 if fresh else 1)
    validate_data(estimator, X, reset=fresh, skip_check_array=True)
    weights = read_weights(sample_weight, len(x))
    if fresh:
        given, contexts = (None, None) if context is None else Numbers.of(context, "context")
    else:
        given, contexts = estimator._context, estimator._read_context(context)
    check_lengths(x, contexts)
    rows = merged(x, contexts, weights)
    if fresh:
        constant = np.flatnonzero(rows.x.min(0) == rows.x.max(0))
        constants = {int(i): float(rows.x[0, i]) for i in constant}
    else:
        columns, constants = cast(Numbers, estimator._x), estimator.constant_columns_
        _check_constants(estimator, rows)
    varying = [i for i in range(x.shape[1]) if i not in constants]
    rows = WeightedRows(rows.x[:, varying], rows.context, rows.weights)
    names = [columns.own_names[i] for i in varying]
    seed = seed_of(estimator.random_state)
    flows: list[Flow] = []
    inner = record = None
    if varying:
        choice = _choice(estimator, rows, fresh, settings.get("seconds"))
        flows = _flows(estimator, choice, rows, seed, fresh, names)
        record = _train(averaged(flows), choice, rows, names if fresh else None, seed, estimator, settings)
        inner = record.density
    adopt(estimator, inner, columns, given, flows=flows, constants=constants, record=record)


def fit_cells(estimator: FlowDensity, X: Any, tables: Sequence[Any], sample_weight: Any) -> None:  # noqa: N803
    """Trains an estimator on mixed rows, by `fit_table`.

    Raises:
        ValueError: as `fit_table`; a setting that mixed rows do not have; X and context share a name.
    """
    _check_settings(estimator)
    check_members(estimator.members)
    table, context = tables
    columns, joint = Cells.of(table, "X")
    given = None
    if context is not None:
        given, contexts = Cells.of(context, "context")
        joint = _joined(joint, contexts)
    if not len(joint):
        raise ValueError("the table has no rows")
    weights = read_weights(sample_weight, len(joint))
    if not weights.all():  # a weight of zero leaves the row out, its categories and its extremes too
        joint, weights = joint[np.flatnonzero(weights)], weights[weights > 0]
    is_array = not joint.named and all(column.numeric for column in joint.columns)
    rows = joint.to("numpy" if is_array else "pyarrow")
    schema = infer_schema(rows, estimator.kinds)
    given_names = [] if given is None else [n for n in given.names if n in schema.names]
    if given is not None and not given_names:
        raise ValueError("every column of the context was left out: it holds nothing to be conditional on")
    density = fit_table(
        rows, schema=schema, given=given_names, weights=None if np.ptp(weights) == 0 else weights,
        recipe=cast(str, estimator.recipe), depth=estimator.depth, width=estimator.width, members=estimator.members,
        stack=estimator.stack, seed=seed_of(estimator.random_state),
        progress="auto" if estimator.verbose else "none", **settings_of(estimator),
    )  # fmt: skip
    validate_data(estimator, X, reset=True, skip_check_array=True)
    adopt(estimator, density, columns, given)


def adopt(
    estimator: FlowDensity,
    density: Density | None,
    columns: Columns,
    context: Columns | None,
    *,
    flows: Sequence[Flow] | None = None,
    constants: dict[int, float] | None = None,
    record: Fit | None = None,
) -> None:
    """Gives an estimator what a fitted one has.

    Args:
        estimator: a `FlowDensity`.
        density: of the columns that vary; None where none does.
        columns: of X.
        context: the columns of the context, None without one.
        flows: what it is made of beside simple densities; None asks it.
        constants: {index: value} of the columns of numbers that are constant.
        record: of the training of flows.
    """
    table = None if density is None or has_numbers_alone(density) else cast(TableDensity, density)
    if flows is None:
        flows = [] if table is not None or density is None else _flows_in(density)
    estimator.table_, estimator.schema_ = table, None if table is None else table.schema
    estimator.flow_, estimator.flows_, estimator.fit_record_ = flows[0] if flows else None, list(flows), record
    estimator.constant_columns_ = constants or {}
    if constants:
        density = ConstantColumns(density, columns.names, constants, cast(Numbers, columns).dtype)
    estimator.density_ = cast(Density, density).eval()
    left_out = frozenset() if table is None else frozenset(c.name for c in table.schema.columns if not c.modelled)
    estimator._x, estimator._context = columns.without(left_out), None if context is None else context.without(left_out)
    estimator.n_context_features_in_ = 0 if context is None else len(context.names)
    estimator._latent_columns = len(columns.names) if table is None else _count_numbers(table)


def _flows_in(density: Density) -> list[Flow]:
    """The flows that a density of numbers is made of."""
    context_dim = next((width for member in density.members if (width := getattr(member, "context_dim", 0))), 0)
    x, context = torch.zeros(1, len(density.space.names)), torch.zeros(1, context_dim) if context_dim else None
    return [part.flow for part in density.inner_flows(x, context)]


def has_numbers_alone(density: Density) -> bool:
    """Whether its rows are D numbers, and not those of a table."""
    return isinstance(getattr(density, "space", None), Vectors)


def check_lengths(x: Any, context: Any) -> None:
    """Compares rows with their contexts.

    Raises:
        ValueError: they differ in number.
    """
    if context is not None and len(context) != len(x):
        raise ValueError(f"X has {len(x)} rows and context {len(context)}: they must have the same number")


def settings_of(estimator: FlowDensity) -> dict[str, Any]:
    """The settings of `train` that an estimator was given: not None, but for patience, where None has a meaning.

    Raises:
        ValueError: one is out of range, or `training` has a name that is no setting, or is a parameter of its own.
    """
    own, further = estimator.get_params(deep=False), dict(estimator.training or {})
    names = [setting.name for setting in fields(TrainSettings)]
    reserved = ("seed", "check", "checkpoint")  # of which the estimator takes care
    unknown = [name for name in further if name not in names or name in own or name in reserved]
    if unknown:
        raise ValueError(f"training takes settings of train that are no parameters of their own, got {unknown[0]!r}")
    given = {name: own[name] for name in names if name in own and (own[name] is not None or name == "patience")}
    check_settings(given | further)
    return given | further


def _choice(estimator: FlowDensity, rows: WeightedRows, fresh: bool, seconds: float | None) -> Choice:
    """Which flow for the rows, and how to train it; one that goes on looks at the columns that it looked at.

    Raises:
        ValueError: no such recipe.
    """
    context_dim = 0 if rows.context is None else rows.context.shape[1]
    if fresh:
        plain = rows.context is None and np.ptp(rows.weights) == 0
        columns = dependent_columns(torch.from_numpy(rows.x)) if plain else None
    else:
        columns = (estimator.flows_[0].recipe or {}).get("arguments", {}).get("columns")
    return choose(
        len(rows), rows.x.shape[1], recipe=estimator.recipe, context_dim=context_dim, seconds=seconds, columns=columns
    )  # fmt: skip


def _flows(
    estimator: FlowDensity, choice: Choice, rows: WeightedRows, seed: int, fresh: bool, names: Sequence[Any]
) -> list[Flow]:  # fmt: skip
    """New flows for the rows, or copies of the old ones, so that an interrupted training leaves those as they were.

    Raises:
        ValueError: no such recipe, one that does not take what was given, or another number of members than before.
    """
    members = cast(int, estimator.members)
    if not fresh:
        if len(estimator.flows_) != members:
            raise ValueError(f"members was {len(estimator.flows_)} when first fitted and is {members} now: fit afresh")
        return copy.deepcopy(estimator.flows_)
    context_dim = 0 if rows.context is None else rows.context.shape[1]
    size = {"depth": estimator.depth, "width": estimator.width}
    flows = choice.build_members(members, rows.x.shape[1], context_dim=context_dim, seed=seed, **size)
    for flow in flows:
        flow.space = Vectors([str(name) for name in names])
        flow.to(None if estimator.device is None else as_device(estimator.device))
    return flows


def _train(
    model: Density, choice: Choice, rows: WeightedRows, names: Sequence[Any] | None, seed: int,
    estimator: FlowDensity, given: dict[str, Any],
) -> Fit:  # fmt: skip
    """Trains a flow, or a mixture of them, on the rows, in float32 where that holds them, and leaves it in float64.

    Scores in float64 do not depend on which rows stand beside each other, to 1e-12 and not to 1e-5. Columns over which
    the density can grow without bound are named in a warning if there are names for them.
    """
    clock = Clock(given.get("seconds"))
    device = next(model.parameters()).device
    double = needs_float64(rows.x) or (rows.context is not None and needs_float64(rows.context))
    double = double and model.fixed_start() is None  # whose maps take float64, and bring rows to where float32 serves
    model.to(torch.float64 if double and device.type != "mps" else torch.float32)
    fraction, stacked = given.pop("val_fraction"), is_stacked(estimator.stack, len(rows), _no_stack(estimator, rows))
    check_squares(torch.from_numpy(rows.x), "X")
    train, val = split(rows, max(fraction, STACK_FRACTION) if stacked and fraction else fraction, seed)
    simple = Stack(_batch(train), _batch(val), seed, seconds=clock.seconds) if stacked and val is not None else None
    first = representative(rows, FIRST_ROWS, seed)
    for member in model.members:
        member.initialize(first.x, first.context)
    settings = with_defaults(given, choice.training | {"steps": None})
    if all(settings.get(name) is None for name in LENGTHS):
        settings["steps"] = steps_for(len(rows), settings["batch"])
    if names is not None and settings["noise"] == 0:
        warn_of_unbounded(rows.x, names, _ADVICE)
    bent = val if not np.ptp(rows.weights) and len(rows) <= MOST_ROWS and device.type != "mps" else None
    mixing = 0.0 if simple is None else simple.mixing_seconds
    for_tails = seconds_for_tails(clock.seconds) if bent is not None else 0.0
    settings["seconds"] = clock.left(mixing + for_tails)
    x, context, weights = spread(train).triple()
    record = fit(
        model, x, None if val is None else val.triple(), context=context, weights=weights, val_fraction=0.0, seed=seed,
        check=False, progress="auto" if estimator.verbose else "none", **settings,
    )  # fmt: skip
    if device.type != "mps":
        model.double()
    if bent is not None:
        calibrate_tails(model, _batch(train, device), _batch(bent, device), seed, clock.until(mixing))
    if simple is not None:
        simple.mix_into(record)
        record.facts["seconds"] = clock.elapsed
    record.note_time_left(clock.seconds, clock.elapsed)
    return record


def _no_stack(estimator: FlowDensity, rows: WeightedRows) -> str | None:
    """Why simple densities cannot be fitted to the rows, or None."""
    if np.ptp(rows.weights) > 0:
        return "they have weights, or some of them are repeated"
    if estimator.device is not None and as_device(estimator.device).type != "cpu":
        return f"simple densities are for the CPU, and the device is {estimator.device}"
    return None


def _batch(rows: WeightedRows, device: torch.device | None = None) -> Batch:
    context = None if rows.context is None else torch.from_numpy(rows.context).to(device)
    return Batch(torch.from_numpy(rows.x).to(device), context)


def _check_constants(estimator: FlowDensity, rows: WeightedRows) -> None:
    """Refuses rows that depart from columns that were constant.

    Raises:
        ValueError: some do.
    """
    if estimator.constant_columns_:
        departs = cast(ConstantColumns, estimator.density_).departs(torch.from_numpy(rows.x)).any(0).tolist()
        names = [estimator._x.own_names[i] for i, d in zip(estimator.constant_columns_, departs, strict=True) if d]
        if names:
            raise ValueError(f"columns {names} were constant when first fitted and vary now: fit afresh")


def _count_numbers(table: TableDensity) -> int:
    """How many of the modelled columns of a table have numbers."""
    return sum(c.coded.has_number for c in table.schema.modelled if c.name not in table.given)


def _joined(x: Frame, context: Frame) -> Frame:
    """X and its context as one table."""
    both = [n for n in context.names if n in x.names]
    if both:
        raise ValueError(f"X and context both have a column {both[0]!r}: rename one of them")
    check_lengths(x, context)
    return replace(x, columns=(*x.columns, *context.columns), named=True)


def _check_settings(estimator: FlowDensity) -> None:
    """Refuses what a training on mixed rows does not have."""
    device = None if estimator.device is None else as_device(estimator.device)
    for name, bad, instead in (
        ("warm_start", estimator.warm_start, "mixed rows are always fitted afresh: set warm_start=False"),
        ("recipe", callable(estimator.recipe), "for mixed rows it must be the name of a recipe"),
        ("device", device is not None and device.type != "cpu", "mixed rows are modelled on the CPU: leave it None"),
    ):
        if bad:
            raise ValueError(f"{name}={getattr(estimator, name)!r}: {instead}")
