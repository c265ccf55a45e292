"""The training loop: `train` is a generator of epochs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import fields, replace
from functools import partial
from os import PathLike
from types import CellType
from typing import Any

import torch

from ..density import Density
from ..fixed_start import FixedStart
from . import auto
from .checkpoint import Checkpoint
from .data import behind, count_rows, digest, draws, endless, enough_for_noise, split, with_noise
from .objective import Batch, Objective, negative_log_likelihood
from .optimizer import Members
from .precision import mixed_precision
from .progress import Epoch
from .rows import row_shape
from .run import Run, stepping
from .settings import TrainSettings, described
from .threads import threads_for
from .unbounded import warn_of_unbounded

_TOO_LATE = "the time was over before the first step: the flow is not trained"


def train(
    density: Density,
    data: Any = None,
    val: Any = None,
    *,
    context: Any = None,
    weights: Any = None,
    objective: Objective = negative_log_likelihood,
    metric: Objective | None = None,
    optimizer: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer] | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    batch: int | None = None,
    batch_growth: int | None = None,
    accumulate: int = 1,
    lr: float | None = None,
    weight_decay: float | None = None,
    noise: float | None = None,
    dropout: float | None = None,
    schedule: str = "cosine",
    warmup: float = 0.03,
    ema: float = 0.995,
    clip: float | None = 2.0,
    patience: float | None = 0.5,
    val_fraction: float = 0.1,
    checkpoint: str | PathLike[str] | None = None,
    check: bool = True,
    seed: int = 0,
    reversible: bool = False,
    precision: str = "float32",
    channels_last: bool = False,
    compile: bool = False,
) -> Generator[Epoch, None, None]:
    """Trains a density, one `Epoch` at a time; however it ends, the density keeps its best weights.

    The optimizer takes a step down the gradient of the objective for each batch, with warm-up, a cosine decay of the
    rate to zero over the run, and clipping. The average of the weights (EMA) is what is validated and kept. A batch
    whose loss or gradient is not finite is skipped and counted; when most are, the last good weights come back with
    half the rate, with a warning.

    Args:
        density: over tensors; its data-dependent layers are initialised from the data unless they were before. The
            members of a `Mixture` take their steps side by side, each on batches of its own and with best weights of
            its own; the weights of the mixture stay as they are.
        data: the training rows (N, *shape), in data units; or a function (n, generator) that returns n fresh rows,
            (rows, contexts) or (rows, contexts, weights), and is called for each pass. If it has a length, that many
            rows are a pass; if it has `same_when_resumed`, JSON-able values by name, a checkpoint of a run with others
            is refused. None where the objective draws for itself: then give the length in steps or seconds.
        val: validation rows (M, *shape), (rows, contexts) or (rows, contexts, weights); None holds out `val_fraction`
            of the data.
        context: (N, ...), for a conditional density.
        weights: (N,), not negative: how much each row counts.
        {settings}

    Within the loop, and when it is left early, the density has the best weights so far.

    Yields:
        An `Epoch` after each pass over the data, and every 500 steps of longer passes.

    Raises:
        ValueError: rows that are not finite (row and column are named), of the wrong width, fewer than 2 or with a
            constant column; a table, which `fit_table` fits; a setting out of range; a checkpoint of another run.
        RuntimeError: between two epochs the density was moved or converted, or another training of it began.
    """
    began = time.perf_counter()
    settings = _complete(TrainSettings.of(locals()), density, data)
    size = settings.batch or 1
    start = _fixed_start(density, settings)
    dtype = None if start is None else torch.float64
    rows, val_rows, first = split(density, data, val, context, weights, val_fraction, size, settings.seed, dtype)
    density.eval()
    if first is not None:
        density.initialize(first.x, first.context)
        if check and settings.noise == 0 and first.x.ndim == 2:  # noise gives each value a width
            warn_of_unbounded(first.x.double().cpu().numpy())
        rows = enough_for_noise(rows, settings.noise or 0.0)
    trained, offset, val_offset = density if start is None else start.rest.eval(), 0.0, 0.0
    size = min(size, len(rows))
    settings = _with_length(settings, size, len(rows), count_rows(data))
    members = Members(trained, settings)
    try:
        generator = torch.Generator().manual_seed(settings.seed + 1)
        lasting = first if count_rows(data) != auto.UNLIMITED else None, val_rows if val is not None else None
        saved = _checkpoint(checkpoint, settings, members.optimizer_name, len(rows), lasting, data)
        counters = None if saved is None else saved.read(density, members, generator)
        if first is not None:
            if start is not None:  # which a checkpoint holds
                rows, val_rows, first, offset, val_offset = behind(start, rows, val_rows, first)
            rows = with_noise(rows, first, settings.noise or 0.0)
        run = Run(trained, members, settings, val_rows, len(rows) // size * size, began)
        run.resume(counters)
        if run.step == 0:
            run.validate()
        threads = threads_for(trained, settings.objective, first, size)
        batches = endless(rows, size, generator, len(members), run.growth)
        while run.stopped is None:
            with stepping(trained, threads, settings, generator), mixed_precision(trained, settings):
                while not run.is_due():
                    part = next(batches)
                    losses = members.losses(part)
                    lr_factor = run.lr_factor()
                    bad = members.step(losses, lr_factor, run.ema_weight(part.x.shape[1] / size))
                    run.count(losses, bad, part.x.shape[1], lr_factor)
                    run.validate_early()
                epoch = run.record()
            if run.step == 0:
                warnings.warn(f"{_TOO_LATE}; give more seconds", stacklevel=2)
            elif saved is not None and run.seen == 0:  # after a whole pass
                saved.write(density, members, generator, run.state())
            with members.averaged(best=True):  # whoever leaves the loop here has them, and who goes on loses nothing
                yield epoch.shifted(offset, val_offset)
    finally:
        members.release()


if train.__doc__:  # not under python -OO
    train.__doc__ = train.__doc__.replace("{settings}", described())


def _complete(given: TrainSettings, density: Density, data: Any) -> TrainSettings:
    """Takes from the rule what was left open."""
    if torch.is_inference_mode_enabled():
        raise ValueError("training needs gradients: leave torch.inference_mode() first")
    if not isinstance(density, Density):
        raise ValueError(f"the first argument must be a density, the second its rows; got {type(density).__name__}")
    if data is None and given.objective is negative_log_likelihood:
        raise ValueError("data must be rows or a function that draws them; None is for an objective that needs none")
    if data is None and given.steps is None and given.seconds is None:
        raise ValueError("without data, give the length of the training in steps or seconds")
    member = density.members[0]
    recipe = (getattr(member, "recipe", None) or {}).get("name")
    shape = row_shape(member)
    table = len(shape) == 1 and not draws(data)
    return auto.complete(given, recipe, count_rows(data), shape, table)


def _fixed_start(density: Density, settings: TrainSettings) -> FixedStart | None:
    """The maps that come before all that is trained, where the objective is one of the density alone."""
    is_likelihood = settings.objective is negative_log_likelihood and settings.metric in (None, negative_log_likelihood)
    return density.fixed_start() if is_likelihood and not settings.compile else None


def _with_length(settings: TrainSettings, batch: int, rows: int, given_rows: int) -> TrainSettings:
    """The length in steps; with one in seconds, the steps after which it ends earlier."""
    steps = settings.steps
    if settings.epochs is not None:
        steps = settings.epochs * (rows // batch)
    elif settings.seconds is not None:
        steps = auto.most_steps(given_rows, batch)
    elif steps is None:
        steps = auto.steps_for(given_rows, batch)
    return replace(settings, batch=batch, steps=steps)


def _checkpoint(
    folder: str | PathLike[str] | None, settings: TrainSettings, optimizer_name: str, rows: int,
    lasting: Sequence[Batch | None], data: Any,
) -> Checkpoint | None:  # fmt: skip
    """With what its run must have in common with the one that goes on; `lasting` are rows that do not change."""
    if folder is None:
        return None
    same = (setting.name for setting in fields(settings) if setting.metadata["same_when_resumed"])
    parts = [part for part in lasting if part is not None]
    setup = {name: getattr(settings, name) for name in same} | {
        "rows": rows, "data": digest(*parts) if parts else None,
        "optimizer": optimizer_name if settings.optimizer is None else _identity(settings.optimizer),
        "objective": _identity(settings.objective), **getattr(data, "same_when_resumed", {}),
    }  # fmt: skip
    if settings.metric is not None:  # a checkpoint of before that name is of a run without one
        setup["metric"] = _identity(settings.metric)
    return Checkpoint(folder, setup)


def _identity(function: Any, seen: set[int] | None = None) -> str:
    """What tells an objective from others: its name, where it stands, and the values bound to it.

    Args:
        function: an objective, an optimizer, or a value bound to one.
        seen: the ids of functions whose bound values were told: a function may refer to itself.
    """
    seen = set() if seen is None else seen
    if isinstance(function, partial):
        args = [_identity(value, seen) for value in function.args]
        keywords = {name: _identity(value, seen) for name, value in function.keywords.items()}
        return f"{_identity(function.func, seen)}{args}{keywords}"
    if not callable(function):
        own = type(function).__repr__ is not object.__repr__
        return repr(function) if own else f"{type(function).__module__}.{type(function).__qualname__}"
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    line = f":{code.co_firstlineno}" if code is not None and "<" in name else ""
    is_new = id(function) not in seen
    seen.add(id(function))
    bound = [_of_cell(cell, seen) for cell in cells] if is_new and cells else ""
    return f"{name}{line}{bound}"


def _of_cell(cell: CellType, seen: set[int]) -> str:
    """The identity of a value that a function takes from around it; "" where there is none yet."""
    try:
        value = cell.cell_contents
    except ValueError:
        return ""
    return _identity(value, seen)
