"""Training: `train` is a generator of epochs, `fit` exhausts it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Iterable
from dataclasses import fields, replace
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch

from ..density import Density
from ..flow import Flow
from . import auto
from .checkpoint import Checkpoint
from .data import (
    check_no_table,
    count_rows,
    digest,
    draws,
    endless,
    row_shape,
    split,
    with_noise,
)
from .objective import Batch, Objective, negative_log_likelihood
from .optimizer import Members
from .progress import Epoch, Fit, reporter
from .run import Run, stepping, threads_for
from .settings import TrainSettings, check_settings, described
from .unbounded import warn_of_unbounded


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
    lr: float | None = None,
    weight_decay: float | None = None,
    noise: float | None = None,
    schedule: str = "cosine",
    warmup: float = 0.03,
    ema: float = 0.995,
    clip: float | None = 2.0,
    patience: float | None = 0.5,
    val_fraction: float = 0.1,
    checkpoint: str | PathLike[str] | None = None,
    check: bool = True,
    seed: int = 0,
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
            rows are a pass. None where the objective draws for itself: then give the length in steps or seconds.
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
    """
    began = time.perf_counter()
    settings = _complete(TrainSettings.of(locals()), density, data)
    size = settings.batch or 1
    rows, val_rows, first = split(density, data, val, context, weights, val_fraction, size, seed)
    density.eval()
    if first is not None:
        density.initialize(first.x, first.context)
        if check and settings.noise == 0 and first.x.ndim == 2:  # noise gives each value a width
            warn_of_unbounded(first.x.cpu().numpy())
        rows = with_noise(rows, first, settings.noise or 0.0)
    size = min(size, len(rows))
    settings = _with_length(settings, size, len(rows), count_rows(data))
    members = Members(density, settings)
    run = Run(density, members, settings, val_rows, len(rows) // size * size, began)
    generator = torch.Generator().manual_seed(seed + 1)
    saved = None
    if checkpoint is not None:
        lasting = None if count_rows(data) == auto.UNLIMITED else first
        saved = Checkpoint(checkpoint, _setup(settings, members.optimizer_name, len(rows), lasting))
    try:
        if saved is not None:
            run.resume(saved.read(density, members, generator))
        if run.step == 0:
            run.validate()
        threads = threads_for(density, settings.objective, first, size)
        batches = endless(rows, size, generator, len(members), run.growth)
        while run.stopped is None:
            with stepping(density, threads):
                while not run.is_due():
                    part = next(batches)
                    losses = members.losses(part)
                    lr_factor = run.lr_factor()
                    bad = members.step(losses, lr_factor, run.ema_weight(part.x.shape[1] / size))
                    run.count(losses, bad, part.x.shape[1], lr_factor)
                    run.validate_early()
                epoch = run.record()
            if run.step == 0:
                warnings.warn(f"{seconds:g} s were over before the first step: the flow is not trained", stacklevel=2)
            elif saved is not None and run.seen == 0:  # after a whole pass
                saved.write(density, members, generator, run.state())
            with members.averaged(best=True):  # whoever leaves the loop here has them, and who goes on loses nothing
                yield epoch
    finally:
        members.release()


def fit(
    density: Density | str,
    data: Any = None,
    val: Any = None,
    *,
    context: Any = None,
    weights: Any = None,
    progress: str | Callable[[Epoch], None] = "auto",
    **settings: Any,
) -> Fit:
    """Trains a density to the end, showing progress on stderr; Ctrl-C ends it early with the best weights so far.

    Args:
        density: over tensors; or "auto", or the name of a recipe, for a flow that `choose` fits to the number of rows
            and columns and to `seconds`.
        data: the training rows (N, *shape), or a function that draws them; see `train`.
        val: validation rows, as in `train`.
        context: (N, ...), as in `train`.
        weights: (N,), as in `train`.
        progress: "rich" a live line, "plain" some lines, "none" silence; "auto" takes rich on a terminal that has it.
            Or a function of your own, which is called with each `Epoch`.
        settings: every other argument of `train`, such as epochs, steps, seconds, batch or lr.

    Returns:
        A `Fit`: the epochs, why it stopped, a summary, and the density.

    Raises:
        ValueError: as `train` and `choose`; rows that are not (N, D) for a flow that is to be chosen.

    Example:
        >>> fit("auto", torch.randn(200, 2), steps=20, progress="none").flow.shape
        (2,)
        >>> from pushforward import real_nvp
        >>> flow = real_nvp(2, depth=2, width=8, seed=0)
        >>> fit(flow, torch.randn(200, 2), steps=20, progress="none").summary["steps"]
        20
    """
    if isinstance(density, str):
        began = time.perf_counter()
        check_settings(settings)
        density = _chosen(density, data, context, settings)
        if settings.get("seconds") is not None:  # building counts
            settings["seconds"] = max(settings["seconds"] - (time.perf_counter() - began), 1e-3)
    result = Fit(density=density)
    epochs = train(density, data, val, context=context, weights=weights, **settings)
    with reporter(progress) as report:
        try:
            for epoch in epochs:
                result.epochs.append(epoch)
                result.stopped = epoch.stopped or result.stopped
                report(epoch)
        except KeyboardInterrupt:
            result.stopped = "interrupted"
        finally:
            epochs.close()
    return result


if train.__doc__:  # not under python -OO
    train.__doc__ = train.__doc__.replace("{settings}", described())


def _complete(given: TrainSettings, density: Density, data: Any) -> TrainSettings:
    """Takes from the rule what was left open."""
    if not isinstance(density, Density):
        raise ValueError(f"the first argument must be a density, the second its rows; got {type(density).__name__}")
    if data is None and given.steps is None and given.seconds is None:
        raise ValueError("without data, give the length of the training in steps or seconds")
    member = density.members[0]
    recipe = (getattr(member, "recipe", None) or {}).get("name")
    shape = row_shape(member)
    table = len(shape) == 1 and not draws(data)
    return auto.complete(given, recipe, count_rows(data), shape, table)


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


def _setup(settings: TrainSettings, optimizer_name: str, rows: int, first: Batch | None) -> dict[str, Any]:
    """What a checkpoint's run must have in common with the one that goes on."""
    same = (setting.name for setting in fields(settings) if setting.metadata["same_when_resumed"])
    return {name: getattr(settings, name) for name in same} | {
        "rows": rows, "data": None if first is None else digest(first), "optimizer": optimizer_name,
        "objective": _identity(settings.objective),
    }  # fmt: skip


def _identity(function: Any) -> str:
    """What tells an objective from others: its name, where it stands, and the values bound to it."""
    if isinstance(function, partial):
        return f"{_identity(function.func)}{function.args}{function.keywords}"
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    line = f":{code.co_firstlineno}" if code is not None and "<" in name else ""
    return f"{name}{line}{[cell.cell_contents for cell in cells] if cells else ''}"


def _chosen(recipe: str, data: Any, context: Any, settings: dict[str, Any]) -> Flow:
    """The flow that `choose` fits to the rows."""
    example: Any = data
    if draws(data):
        drawn: Any = data(2, torch.Generator().manual_seed(settings.get("seed", 0)))
        example, context = drawn[:2] if isinstance(drawn, tuple) else (drawn, None)
    check_no_table(example)
    shape = np.shape(example)
    if len(shape) != 2:
        raise ValueError(f"expected rows of shape (N, D) to choose a flow for, got {tuple(shape)}")
    context_dim = 0 if context is None else np.shape(context)[-1]
    rows = count_rows(data)
    choice = auto.choose(
        None if rows == auto.UNLIMITED else rows, shape[1], recipe=recipe, context_dim=context_dim,
        seconds=settings.get("seconds"),
    )  # fmt: skip
    return choice.build(shape[1], context_dim=context_dim, seed=settings.get("seed", 0))
