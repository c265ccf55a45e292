"""Fitting a density to a table: the schema, then the mass function, then the flow, each by maximum likelihood."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..bijections import Chain
from ..density import Mixture
from ..flow import Flow, initialize
from ..io.old_tables import TableFile
from ..recipes import RECIPES
from ..training import Epoch, Fit, fit
from ..training.auto import choose, whitens
from ..training.data import checked_weights, held_out, normalised
from ..training.progress import reporter
from ..training.settings import check_settings
from ..training.unbounded import warn_of_unbounded
from .arrow import Source, as_source
from .density import TableDensity
from .drawing import Drawing, exceeds_memory, surveyed
from .encoding import Encoded, Layout, one_or_several, with_embedding
from .mass import MassFunction, StatesAsBase
from .noise import uniforms
from .schema import Schema, infer_schema
from .widening import widen

_MASS_SHARE = 0.25  # of a run that is given in seconds
_MANY_ROWS, _MASS_DECAY = 20_000, 1.0  # fewer rows: weights that decay learn less by heart (.03 to .06 nats a row)
_JITTER = 1e-3  # standard deviations, so that a column that the split left constant has a scale to start from


def fit_table(
    table: Any,
    *,
    kinds: Mapping[str, Any] | None = None,
    given: Sequence[str] = (),
    val: Any = None,
    weights: Any = None,
    schema: Schema | None = None,
    recipe: str = "auto",
    depth: int | None = None,
    width: int | None = None,
    members: int = 1,
    model: Mapping[str, Any] | None = None,
    whiten: bool | None = None,
    seed: int = 0,
    progress: str | Callable[[Epoch], None] = "auto",
    memory_rows: int | None = None,
    **training: Any,
) -> TableDensity:
    """Learns the density of the rows of a table, with columns of any kind; see `TableDensity` for what it means.

    Args:
        table: a pyarrow Table, a pandas or polars DataFrame, a `data.tables.Table`, a dict of columns or an array; or a
            file of `open_table`, which may be larger than memory: then up to 20,000 random rows validate, the schema
            comes from a random sample and the rows that it did not foresee (one pass or two over the file), and rows
            are drawn from a buffer that is filled by row groups in random order.
        kinds: overrides of the inferred kinds by column name, as {"age": "integer"}; see `infer_schema`.
        given: columns of which the others' density is conditional; they may be of any kind.
        val: a table of validation rows; None holds out `val_fraction` of the rows.
        weights: (N,), not negative: how much each row counts.
        schema: of `infer_schema`, for one that was inferred before; None infers it from the table.
        recipe: what builds the flow, by its name; "auto" leaves it to `choose`.
        depth: of the flow; None leaves it to `choose`.
        width: of the flow's networks; None as for depth.
        members: how many flows to train at once, whose densities are averaged: slower, and better of few rows.
        model: further arguments of the recipe.
        whiten: put a fixed linear map before the flow, so that the numbers start uncorrelated, and another for given
            ones; None does but for few rows of many columns.
        seed: of weights, shuffling, noise and the held-out rows.
        progress: as in `fit`; one line for the mass function, then one for the flow. Both show nats per row.
        memory_rows: rows up to which a file is read whole; None is up to about 67 million cells.
        training: every other argument of `train`, such as epochs, steps, seconds, batch or lr. Epochs and steps hold
            for either part, seconds for both together.

    Returns:
        A `TableDensity`, with a summary of its training. Ctrl-C ends the training early, with the best weights so far.

    Raises:
        ValueError: as `infer_schema` and `train`; fewer than 2 rows or 1 member; an unknown recipe or given column;
            validation rows that the schema makes impossible.

    Example:
        >>> rows = {"size": [0.5 + i / 97 for i in range(50)], "colour": ["red", "blue"] * 25}
        >>> density = fit_table(rows, steps=10, progress="none")
        >>> density.sample(3, generator=0).column_names
        ['size', 'colour']
    """
    began = time.perf_counter()
    if recipe != "auto" and recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; this pushforward knows auto, {', '.join(RECIPES)}")
    if members < 1:
        raise ValueError(f"members must be at least 1, got {members}")
    check_settings(training)
    file, count = None, None
    if isinstance(table, TableFile) and exceeds_memory(table, memory_rows):
        if weights is not None:
            raise ValueError("weights need a table in memory")
        fraction = training.pop("val_fraction", 0.1)
        file, table, val, schema, count = surveyed(table, val, fraction, kinds, schema, seed)
        training |= {"val_fraction": 0.0}
    source = as_source(table)
    schema = infer_schema(source, kinds) if schema is None else schema
    if len(source) < 2:
        raise ValueError(f"at least 2 rows are needed to fit a density, got {len(source)}")
    count = len(source) if count is None else count
    layout = Layout(schema, tuple(given))
    generator = torch.Generator().manual_seed(seed)
    embed_mass, embed_flow = layout.embedders(generator)
    mass = MassFunction(layout.sizes, embed_mass, seed=seed) if layout.sizes else None
    flows: list[Flow] = []
    batch = 512
    if layout.numbers:
        context = 0 if embed_flow is None else embed_flow.features_out
        choice = choose(
            count, len(layout.numbers), recipe=recipe, context_dim=context, seconds=training.get("seconds")
        )  # fmt: skip
        size = {"depth": depth, "width": width} | dict(model or {})
        for k in range(members):
            flow = choice.build(len(layout.numbers), context_dim=context, seed=seed + 1000 * k, **size)
            flows.append(with_embedding(flow, embed_flow if k == 0 else layout.embedders(generator)[1]))
        batch = choice.training["batch"]
    density = TableDensity(schema, given, mass, one_or_several(flows))
    of_rows = None if weights is None else checked_weights(torch.as_tensor(weights, dtype=torch.float32), len(source))
    rows, held = _split(density, source, val, of_rows, training.pop("val_fraction", 0.1), seed)
    if training.pop("check", True):
        _check_bounded(layout, rows.rows)
    if whitens(count, len(layout.numbers)) if whiten is None else whiten:
        density.whiten(rows.rows)
    drawing = None
    if file is not None:
        drawing = Drawing(density, file, seed)
        if training.get("epochs") is not None:  # of the whole table, while `train` sees no end of it
            training["batch"] = training.get("batch") or batch
            training["steps"] = math.ceil(training.pop("epochs") * count / training["batch"])
    with reporter(progress) as report:
        _train(density, rows, held, report, began, seed, training, drawing)
    if drawing is not None:
        density.training_summary = (density.training_summary or {}) | {"rows": count}
        if drawing.left_out:
            warnings.warn(f"{drawing.left_out:,} rows that do not fit the schema were left out", stacklevel=2)
    return density


@dataclass(frozen=True)
class _Rows:
    """Encoded rows as `train` draws them: each pass with fresh noise where a cell needs any."""

    density: TableDensity
    rows: Encoded
    weights: Tensor | None
    context: Tensor | None

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """All rows where n is their number, else n of them with replacement."""
        rows, context, weights = self.rows, self.context, self.weights
        if n != len(self):
            index = torch.randint(len(self), (n,), generator=generator)
            rows = rows.take(index.numpy())
            context = None if context is None else context[index]
            weights = None if weights is None else weights[index]
        u = torch.rand(rows.base.shape, generator=generator, dtype=torch.float64).clamp_(1e-9, 1 - 1e-9)
        y, _ = self.density.noisy(rows, u.numpy())
        return torch.from_numpy(y), context, weights


def _train(
    density: TableDensity, rows: _Rows, held: _Rows | None, report: Any, began: float, seed: int,
    settings: dict[str, Any], drawing: Drawing | None = None,
) -> None:  # fmt: skip
    """Trains both parts, on rows that are drawn where there is a drawing, of which `rows` is then a sample.

    Every figure that is reported is in nats per row of the table.
    """
    summary: dict[str, Any] = {"rows": len(rows), "val_rows": 0 if held is None else len(held)}
    seconds = settings.pop("seconds", None)
    checkpoint = settings.pop("checkpoint", None)
    offset, val_offset = (0.0 if r is None else -float(r.rows.log_mass.mean()) for r in (rows, held))
    mass, flow = density.mass, density.flow
    interrupted = False
    if mass is not None:
        mass.initialize(torch.from_numpy(rows.rows.states), rows.weights)
        if mass.needs_training:
            share = {"seconds": seconds * (_MASS_SHARE if flow is not None else 1)} if seconds is not None else {}
            if checkpoint is not None:
                share["checkpoint"] = f"{checkpoint}/mass"
            decay = {"weight_decay": _MASS_DECAY} if len(rows) < _MANY_ROWS else {}
            as_flow = Flow(Chain(), StatesAsBase(mass).shape, StatesAsBase(mass))
            x, val = (None if r is None else _states(r) for r in (rows, held))
            x = x if drawing is None else drawing.states
            record = _run(
                as_flow, x, val, report, 0.0, 0.0, decay | settings | share | {"seed": seed, "noise": 0.0}, rows.weights
            )
            summary["mass"] = record.summary
            interrupted = record.stopped == "interrupted"
        with torch.no_grad():
            offset -= _mean(_of_states(mass, rows), rows.weights)
            val_offset -= 0.0 if held is None else _mean(_of_states(mass, held), held.weights)
    if flow is not None:
        share = {"seconds": max(seconds - (time.perf_counter() - began), 0.1)} if seconds is not None else {}
        if checkpoint is not None:
            share["checkpoint"] = f"{checkpoint}/flow"
        first, context, _ = rows(min(len(rows), 2**16), torch.Generator().manual_seed(seed))
        jitter = _JITTER * torch.randn(first.shape, generator=torch.Generator().manual_seed(seed))
        for member in density.flows:
            initialize(member, first + jitter, context)
        y, added = density.noisy(rows.rows, uniforms(rows.rows.states, rows.rows.base, 0))
        offset -= _mean(torch.from_numpy(added), rows.weights)
        # Where no cell needs noise, the rows are the same in each pass.
        needed = np.isnan(rows.rows.base).any() or any(c.noisy for c in density.layout.numbers)
        fixed = drawing is None and not needed
        val = None
        if held is not None:
            y_val, added = density.noisy(held.rows, uniforms(held.rows.states, held.rows.base, 0))
            val_offset -= _mean(torch.from_numpy(added), held.weights)
            val = (torch.from_numpy(y_val), held.context, held.weights)
        x = torch.from_numpy(y) if fixed else rows if drawing is None else drawing.numbers
        if not interrupted:  # else the flow stays as it was initialised: of the numbers' means and spreads
            record = _run(
                flow, x, val, report, offset, val_offset, settings | share | {"seed": seed},
                rows.weights if fixed else None, rows.context if fixed else None,
            )  # fmt: skip
            summary["flow"] = record.summary
            # Members that were widened one by one had too heavy tails together (measured on photoz).
            gained = 0.0 if val is None or isinstance(flow, Mixture) else widen(flow, *val)
            if summary["flow"]["best_val_nll"] is not None:  # it is None where the run was interrupted early on
                summary["flow"]["best_val_nll"] -= gained
    best = val_offset if flow is None else summary.get("flow", {}).get("best_val_nll")
    summary |= {"best_val_nll": None if held is None else best, "seconds": time.perf_counter() - began}
    summary["stopped"] = summary.get("flow", summary.get("mass", {})).get("stopped", "done")
    density.training_summary = summary


def _run(
    flow: Flow | Mixture, x: Any, val: Any, report: Any, offset: float, val_offset: float, settings: dict[str, Any],
    weights: Tensor | None = None, context: Tensor | None = None,
) -> Fit:  # fmt: skip
    """One training, with figures moved by what the part does not see."""

    def moved(epoch: Epoch) -> Epoch:
        return epoch.shifted(offset, val_offset)

    def show(epoch: Epoch) -> None:
        report(moved(epoch))

    settings = settings | {"val_fraction": 0.0, "check": False, "progress": show}
    record = fit(flow, x, val, weights=weights, context=context, **settings)
    return Fit([moved(epoch) for epoch in record.epochs], record.stopped, flow)


def _split(
    density: TableDensity, source: Source, val: Any, weights: Tensor | None, fraction: float, seed: int
) -> tuple[_Rows, _Rows | None]:
    """-> training and validation rows, encoded."""
    if not 0 <= fraction < 1:
        raise ValueError(f"val_fraction must be from 0 to below 1, got {fraction!r}")
    rows = density.encode(source)
    _check_possible(rows, "the table")
    whole = _Rows(density, rows, weights, density.context(rows))
    if val is not None:
        other = density.encode(val)
        _check_possible(other, "the validation table")
        return whole, _Rows(density, other, None, density.context(other))
    size = held_out(len(rows), fraction)
    if size == 0:
        return whole, None
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).numpy()
    return _part(whole, np.sort(order[size:])), _part(whole, np.sort(order[:size]))


def _part(rows: _Rows, index: NDArray[np.int64]) -> _Rows:
    at = torch.from_numpy(index)
    weights = None if rows.weights is None else normalised(rows.weights[at])
    return _Rows(rows.density, rows.rows.take(index), weights, None if rows.context is None else rows.context[at])


def _check_possible(rows: Encoded, where: str) -> None:
    if rows.trouble:
        raise ValueError(f"{where} does not fit the schema: {'; '.join(rows.trouble[:3])}")


def _check_bounded(layout: Layout, rows: Encoded) -> None:
    """Warns of columns with a number in each cell and no lattice that others determine."""
    plain = [i for i, c in enumerate(layout.numbers) if not c.noisy and not np.isnan(rows.base[:, i]).any()]
    names = [layout.numbers[i].name for i in plain]
    warn_of_unbounded(rows.base[:, plain], names, "Leave them out: the others already say what they hold.")


def _states(rows: _Rows) -> Any:
    """(given, states) as one tensor, as `StatesAsBase` takes it."""
    states = torch.from_numpy(rows.rows.states).float()
    return states if rows.rows.given is None else torch.cat([torch.from_numpy(rows.rows.given), states], 1)


def _of_states(mass: MassFunction, rows: _Rows) -> Tensor:
    """log P(states | given) of each row (N,), by chunks."""
    x, base = _states(rows), StatesAsBase(mass)
    return torch.cat([base.log_prob(part) for part in x.split(2**14)])


def _mean(values: Tensor, weights: Tensor | None) -> float:
    return float(values.double().mean() if weights is None else (values.double() * weights).mean())
