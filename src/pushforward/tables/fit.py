"""Fitting a density to a table: the schema, then the mass function, then the flow, each by maximum likelihood."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import as_seed
from ..bijections.whitening import whitens
from ..density import Density
from ..flow import Flow
from ..io.frames import read
from ..io.names import quoted
from ..io.tables import TableFile
from ..mixture import Mixture, averaged
from ..recipes import RECIPES
from ..training import Batch, Epoch, Fit, fit
from ..training.auto import MANY_ROWS, Choice, choose
from ..training.clock import Clock
from ..training.data import FIRST_ROWS, validation_count
from ..training.progress import reporter
from ..training.settings import check_members, check_training, passes_as_steps, with_defaults
from ..training.stack import STACK_FRACTION, Stack, is_stacked
from ..training.tails import MOST_ROWS, seconds_for_tails
from ..training.unbounded import warn_of_unbounded
from .columns.related import Dependent
from .density import TableDensity
from .drawing import Drawing, exceeds_memory, surveyed
from .hierarchy import hierarchy
from .inner import StatesThenNumbers, embedded, embedders
from .mass import MassFunction, interpolated
from .rows import StateRows, TrainingRows, split_rows
from .schema import Schema, infer_schema
from .space import Columns, EncodedRows
from .tails import calibrate_tails
from .widening import widen

_FRACTION = 0.1  # of the rows, held out where they are not stacked
_MASS_SHARE = 0.25  # of a run that is given in seconds
_MASS_DECAY = 1.0  # of the weights of the mass function, for fewer than `MANY_ROWS`
_HIDDEN = 0.5  # share of the states that what is conditional on them does not see, likewise
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
    stack: bool | None = None,
    model: Mapping[str, Any] | None = None,
    whiten: bool | None = None,
    seed: int = 0,
    progress: str | Callable[[Epoch], None] = "auto",
    memory_rows: int | None = None,
    **training: Any,
) -> TableDensity:
    """Learns the density of the rows of a table, with columns of any kind; see `TableDensity` for what it means.

    Args:
        table: a data frame, a pyarrow Table, a dict of columns, an array (N, D) or a `Frame`; or a file of
            `open_table`, which may be larger than memory: then up to 20,000 random rows validate, the schema comes from
            a random sample and the rows that it did not foresee (one pass or two over the file), and rows are drawn
            from a buffer that is filled by row groups in random order.
        kinds: overrides of the inferred kinds by column name, as {"age": "integer"}; see `infer_schema`.
        given: columns of which the others' density is conditional; they may be of any kind.
        val: a table of validation rows; None holds out `val_fraction` of the rows.
        weights: (N,), not negative: how much each row counts.
        schema: of `infer_schema`, for one that was inferred before; None infers it from the table.
        recipe: what builds the flow, by its name; "auto" leaves it to `choose`.
        depth: of the flow; None leaves it to `choose`.
        width: of the flow's networks; None as for depth.
        members: how many flows to train at once, whose densities are averaged: slower, and better of few rows.
        stack: mix simple densities (`pushforward.baselines`) with the flow, with the weights that the validation rows
            give them; None does for at most 5,000 rows in memory that have no weights, and then holds out a fifth of
            them where `val` and `val_fraction` are not given.
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
    clock = Clock(training.pop("seconds", None))
    if recipe != "auto" and recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; this pushforward knows auto, {', '.join(RECIPES)}")
    check_members(members)
    seed = as_seed(seed)
    check_training(training | {"seconds": clock.seconds})
    fraction = training.pop("val_fraction", None)
    file, count = None, 0
    if isinstance(table, TableFile) and exceeds_memory(table, memory_rows):
        if weights is not None:
            raise ValueError("weights need a table in memory")
        file, table, val, schema, count = surveyed(
            table, val, _FRACTION if fraction is None else fraction, kinds, schema, seed
        )
        fraction = 0.0
    frame = read(table)
    schema = infer_schema(frame, kinds) if schema is None else schema
    if len(frame) < 2:
        raise ValueError(f"at least 2 rows are needed to fit a density, got {len(frame)}")
    count = count or len(frame)
    stacked = is_stacked(stack, count, _no_stack(file, weights, val, count, fraction))
    if fraction is None:
        fraction = STACK_FRACTION if stacked and val is None else _FRACTION
    space = Columns(schema, given)
    if not (space.sizes or space.numbers):
        raise ValueError(f"there is nothing to learn: {_why_nothing(space)}")
    choice = _choice(space, count, recipe, clock.seconds) if space.numbers else None
    size = {"depth": depth, "width": width, "precondition": False} | dict(model or {})
    density = TableDensity(schema, given, _untrained(space, choice, members, seed, size))
    rows, val_rows = split_rows(density, frame, val, weights, fraction, seed)
    if training.pop("check", True):
        _check_bounded(space, rows.rows)
    if whitens(count, len(space.numbers)) if whiten is None else whiten:
        rows.inner.whiten(*rows.tensors())
    drawing = None if file is None else Drawing(space, rows.inner, file, seed)
    if drawing is not None:
        training = passes_as_steps(training, count, 512 if choice is None else choice.training["batch"])
    with reporter(progress) as report:
        run = _Training(density, rows, val_rows, report, clock, seed, drawing, choice)
        _train_and_mix(run, training, stacked)
    if file is None and weights is None:
        calibrate_tails(density, rows.rows, None if val_rows is None else val_rows.rows, seed, clock.until())
    density.measure_unsampled(space.contexts(frame) if given else None, seed)
    summary = {"seconds": clock.elapsed} | ({} if drawing is None else {"rows": count})
    density.training_summary = (density.training_summary or {}) | summary
    if drawing is not None and drawing.left_out:
        warnings.warn(f"{drawing.left_out:,} rows that do not fit the schema were left out", stacklevel=2)
    return density


def _why_nothing(space: Columns) -> str:
    """Why no target has states or numbers to learn."""
    for target in space.targets:
        if isinstance(target, Dependent):
            asked = {target.name: "real"}
            return f"column {target.name!r} is calculated ({target.formula}); kinds={asked} models it"
    return f"no column varies of {quoted([c.name for c in space.targets])}"


def _no_stack(file: Any, weights: Any, val: Any, count: int, fraction: float | None) -> str | None:
    """Why simple densities cannot be fitted to the rows, or None."""
    if file is not None:
        return "they are not in memory"
    if weights is not None:
        return "they have weights"
    if val is None and validation_count(count, STACK_FRACTION if fraction is None else fraction) == 0:
        return "none are held out to find the weights"
    return None


def _choice(space: Columns, count: int, recipe: str, seconds: float | None) -> Choice:
    """The flow of the numbers, and how to train it."""
    _, embed = embedders(space.sizes, space.given_sizes, space.given_numbers)
    context_dim = 0 if embed is None else embed.features_out
    states = bool(space.sizes or space.given_sizes)
    return choose(count, len(space.numbers), recipe=recipe, context_dim=context_dim, states=states, seconds=seconds)


def _train_and_mix(run: _Training, settings: dict[str, Any], stack: bool) -> None:
    """Trains both parts of the density, and mixes simple densities with them, fitted in a quarter of the time."""
    density, rows, val_rows, clock = run.density, run.rows, run.val_rows, run.clock
    inner, generator = rows.inner, torch.Generator().manual_seed(run.seed)
    has_tails = run.drawing is None and rows.weights is None and len(rows) <= MOST_ROWS
    for_tails = seconds_for_tails(clock.seconds) if has_tails else 0.0
    if val_rows is None or not (stack or has_tails):
        run.run(settings, for_tails)
        return
    x, context, _ = rows.tensors(generator)
    val, val_context, val_noise = val_rows.tensors(generator)
    simple = None
    if stack:
        simple = Stack(
            Batch(x, context), Batch(val, val_context), run.seed, val_noise=val_noise, sizes=density.space.sizes,
            context_sizes=density.space.given_sizes, seconds=clock.seconds,
        )  # fmt: skip
    mixing = 0.0 if simple is None else simple.mixing_seconds
    run.run(settings, mixing + for_tails)
    if has_tails:
        inner.calibrate_tails(x, context, val, val_context, val_noise, run.seed, clock.until(mixing + for_tails / 2))
    if simple is not None:
        density.inner, weights = simple.mixed_with(inner)
        density.training_summary = (density.training_summary or {}) | {"stack": weights}


def _untrained(
    space: Columns, choice: Choice | None, members: int, seed: int, size: Mapping[str, Any]
) -> StatesThenNumbers:
    """The mass function of the states and the flows of the numbers, with weights to start from."""
    generator = torch.Generator().manual_seed(seed)
    layout = (space.sizes, space.given_sizes, space.given_numbers)
    embed_mass, embed_flow = embedders(*layout, generator)
    mass = MassFunction(space.sizes, embed_mass, seed=seed) if space.sizes else None
    if choice is None:
        return StatesThenNumbers(mass, None)
    context = 0 if embed_flow is None else embed_flow.features_out
    # Without a `Precondition` of their own: `StatesThenNumbers` has one.
    flows = choice.build_members(members, len(space.numbers), context_dim=context, seed=seed, **size)
    for k, flow in enumerate(flows):
        embedded(flow, embed_flow if k == 0 else embedders(*layout, generator)[1])
    return StatesThenNumbers(mass, averaged(flows))


class _Training:
    """The training of both parts of an inner density; every figure that is reported is in nats per row of the table.

    Args:
        density: of the table.
        rows: to train on; of a drawing, a sample.
        val_rows: to validate on, or None.
        report: is called with each record.
        clock: of the whole fit.
        seed: of shuffling and noise.
        drawing: of rows that memory does not hold, or None.
        choice: of the flow, or None where there are no numbers.
    """

    def __init__(
        self, density: TableDensity, rows: TrainingRows, val_rows: TrainingRows | None,
        report: Callable[[Epoch], None], clock: Clock, seed: int, drawing: Drawing | None, choice: Choice | None,
    ) -> None:  # fmt: skip
        few = drawing is None and len(rows) < MANY_ROWS
        self.rows = replace(rows, hidden=_HIDDEN if few else 0.0)
        self.density, self.val_rows, self.report, self.clock = density, val_rows, report, clock
        self.seed, self.drawing, self.choice, self.inner = seed, drawing, choice, rows.inner
        # What a part does not see: the mass of cells given their states, then what the other part says.
        self.offset, self.val_offset = (
            0.0 if r is None else -r.mean(torch.from_numpy(r.rows.log_mass)) for r in (rows, val_rows)
        )  # fmt: skip
        self.summary: dict[str, Any] = {"rows": len(rows), "val_rows": 0 if val_rows is None else len(val_rows)}

    def run(self, settings: dict[str, Any], reserved: float) -> None:
        """Trains the mass function, then the flow, and writes the density's summary; some seconds are left over."""
        checkpoint = settings.pop("checkpoint", None)
        seconds = self.clock.left(reserved)
        interrupted = False
        if self.inner.mass is not None:
            share = None if seconds is None else seconds * (_MASS_SHARE if self.inner.flow is not None else 1)
            interrupted = self._train_mass(self.inner.mass, settings | _asked(share, checkpoint, "mass"))
        if self.inner.flow is not None:
            asked = _asked(self.clock.left(reserved), checkpoint, "flow")
            self._train_flow(self.inner.flow, settings | asked, interrupted)
        self.inner.settle()
        best = self.val_offset if self.inner.flow is None else self.summary.get("flow", {}).get("best_val_nll")
        self.summary |= {
            "best_val_nll": None if self.val_rows is None else best,
            "seconds": self.clock.elapsed,
            "stopped": self.summary.get("flow", self.summary.get("mass", {})).get("stopped", "done"),
        }
        self.density.training_summary = self.summary

    def _train_mass(self, mass: MassFunction, settings: dict[str, Any]) -> bool:
        """-> whether it was interrupted."""
        rows, val_rows, interrupted = self.rows, self.val_rows, False
        mass.set_order(*hierarchy(rows.rows.states, mass.sizes))
        mass.set_frequencies(torch.from_numpy(rows.rows.states), rows.weights, rows.rows.context)
        self.inner.shrink(rows.states, rows.rows.context)
        if mass.needs_training:
            decay = {"weight_decay": _MASS_DECAY} if len(rows) < MANY_ROWS else {}
            val = None if val_rows is None else (val_rows.states, val_rows.rows.context, val_rows.weights)
            settings = with_defaults(settings, decay | {"metric": interpolated}) | {"noise": 0.0}
            if self.drawing is not None:
                result = self._fit(mass, self.drawing.states, val, settings)
            else:
                result = self._fit(mass, StateRows(rows), val, settings)
            self.summary["mass"] = result.summary
            interrupted = result.stopped == "interrupted"
            if val is not None:
                mass.log_mix.copy_(mass.interpolation(*val)[0])
        with torch.no_grad():
            means = [
                0.0 if r is None else r.mean(self.inner.log_mass(r.states, r.rows.context)) for r in (rows, val_rows)
            ]
        self.offset -= means[0]
        self.val_offset -= means[1]
        return interrupted

    def _train_flow(self, flow: Flow | Mixture, settings: dict[str, Any], interrupted: bool) -> None:
        rows, val_rows = self.rows, self.val_rows
        generator = torch.Generator().manual_seed(self.seed)
        first, context, _ = rows(min(len(rows), FIRST_ROWS), generator)
        jitter = _JITTER * torch.randn(first.shape, generator=torch.Generator().manual_seed(self.seed))
        for member in self.inner.flows:
            member.initialize(first + jitter, context)
        z, context, added = rows.fixed()
        self.offset -= rows.mean(added)
        val = None
        if val_rows is not None:
            z_val, context_val, added = val_rows.fixed()
            self.val_offset -= val_rows.mean(added)
            val = (z_val, context_val, val_rows.weights)
        if interrupted:  # the flow stays as it was initialised: of the numbers' means and spreads
            return
        if self.drawing is not None:
            result = self._fit(flow, self.drawing.numbers, val, settings)
        elif rows.space.is_noisy(rows.rows) or (rows.hidden and context is not None):
            result = self._fit(flow, rows, val, with_defaults(settings, self._smoothing()))
        else:
            result = self._fit(flow, z, val, settings, context, rows.weights)
        self.summary["flow"] = result.summary
        # Members that were widened one by one would have too heavy tails together. What is reported stays that of
        # before: the rows that the widening is fitted to cannot say how well it does.
        if val is not None and isinstance(flow, Flow):
            widen(flow, *val)

    def _smoothing(self) -> dict[str, Any]:
        """What few rows of a table need, which `train` gives no function that draws."""
        assert self.choice is not None
        return {name: self.choice.training[name] for name in ("noise", "weight_decay", "dropout")}

    def _fit(
        self, part: Density, data: Any, val: Any, settings: dict[str, Any], context: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Fit:  # fmt: skip
        """One training, with figures moved by what the part does not see."""
        offset, val_offset, name = self.offset, self.val_offset, ""
        if self.inner.mass is not None and self.inner.flow is not None:
            name = "states of cells" if part is self.inner.mass else "whole rows"
        settings = {k: v for k, v in settings.items() if v is not None} | {
            "val_fraction": 0.0, "check": False, "seed": self.seed,
            "progress": lambda epoch: self.report(epoch.shifted(offset, val_offset, name)),
        }  # fmt: skip
        result = fit(part, data, val, context=context, weights=weights, **settings)
        return Fit([epoch.shifted(offset, val_offset) for epoch in result.epochs], result.stopped, part)


def _asked(seconds: float | None, checkpoint: Any, part: str) -> dict[str, Any]:
    """The time and the checkpoint of a part of the training."""
    asked: dict[str, Any] = {} if seconds is None else {"seconds": seconds}
    return asked if checkpoint is None else asked | {"checkpoint": f"{checkpoint}/{part}"}


def _check_bounded(space: Columns, rows: EncodedRows) -> None:
    """Warns of columns with a number in each cell and no lattice that others determine."""
    plain = [i for i, c in enumerate(space.numbers) if not c.is_dequantized and not np.isnan(rows.base[:, i]).any()]
    names = [space.numbers[i].name for i in plain]
    warn_of_unbounded(rows.base[:, plain], names, "Leave them out: the others already say what they hold.")
