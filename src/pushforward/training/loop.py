"""Maximum-likelihood training: `train` is a generator of epochs, `fit` exhausts it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .._fast.steps.closed_form import closed_form, recorded
from .._fast.steps.weights import FlatWeights
from ..density import Mixture
from ..flow import Flow, initialize
from .auto import UNLIMITED, choose, most_steps, steps_for
from .auto import settings as settings_for
from .checkpoint import Checkpoint
from .data import count_rows, split, with_noise
from .progress import reporter
from .run import RECORD_STEPS, Epoch, Run
from .settings import check_settings
from .unbounded import warn_of_unbounded

DRAWN_PASS_BATCHES = 128  # batches of one pass over freshly drawn rows
# A step of fewer operations runs on one thread: a second gains a tenth at most when it is free, and when it is not (two
# trainings on two cores) each operator waits for it, which was seen to cost a factor of a hundred.
SMALL_STEP_FLOP = 1.5e8


@dataclass
class Fit:
    """The record of a training.

    Attributes:
        epochs: the `Epoch` records, in order.
        stopped: why it ended: "done", "early" (validation no longer improved), "diverged" or "interrupted".
        flow: what was trained; None in a record that was read from a file.
    """

    epochs: list[Epoch] = field(default_factory=list)
    stopped: str = "done"
    flow: Flow | Mixture | None = field(default=None, repr=False)

    @property
    def summary(self) -> dict[str, Any]:
        """JSON-able: steps, epochs, seconds, best_val_nll (nats per row; None without validation), skipped, stopped."""
        last = self.epochs[-1] if self.epochs else None
        return {
            "steps": last.step if last else 0,
            "epochs": last.epoch if last else 0.0,
            "seconds": last.seconds if last else 0.0,
            "best_val_nll": min((e.val_nll for e in self.epochs if e.val_nll is not None), default=None),
            "skipped": last.skipped if last else 0,
            "stopped": self.stopped,
        }


def train(
    flow: Flow | Mixture,
    x: Any,
    val: Any = None,
    *,
    context: Any = None,
    weights: Any = None,
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
    """Fits a flow by maximum likelihood, one `Epoch` at a time; however it ends, the flow keeps its best weights.

    AdamW with warm-up and a cosine decay to zero over the run, gradient clipping, and an average of the weights (EMA),
    which is what is validated and kept. A batch whose loss or gradient is not finite is skipped and counted; when most
    are, the last good weights come back with half the rate, with a warning.

    Args:
        flow: any flow; its data-dependent layers are initialised from x unless they were before. The members of an
            `Mixture` take their steps together, each on batches of its own and with best weights of its own.
        x: the training rows (N, *shape), in data units; or a function (n, generator) that returns n fresh rows,
            (rows, contexts) or (rows, contexts, weights), and is called for each pass. If it has a length, that many
            rows are a pass.
        val: validation rows (M, *shape), (rows, contexts) or (rows, contexts, weights); None holds out `val_fraction`
            of x.
        context: (N, K), for a conditional flow.
        weights: (N,), not negative: how much each row counts.
        epochs: the length of the run in passes over the rows. Give at most one of epochs, steps and seconds; with
            none, it is 100 passes up to 10,000 steps, but 400 up to 6,000, and for few rows 3 steps a row.
        steps: the length of the run in optimiser steps.
        seconds: the length of the run in wall-clock time, set-up and validation included. It ends earlier after so
            many passes (100 at least) that more would learn the rows by heart.
        batch: rows of a step; None takes what `choose` would for the flow's recipe and the number of rows.
        batch_growth: how many times larger the batch is at the end, a power of 2: it doubles in parts of the run that
            grow, too, for many steps first and little noise last. None as for batch, but 1 where that or the epochs are
            given: it needs a length in steps or seconds.
        lr: the highest learning rate; None as for batch.
        weight_decay: of AdamW; None as for batch.
        noise: standard deviation of the noise added to the rows each time they are drawn, in units of each column's
            spread. It smooths the density of few rows; None as for batch (none but for few rows), 0 for none.
        schedule: "cosine" or "constant".
        warmup: the part of the run over which the rate rises from zero.
        ema: how much of the averaged weights is kept in a step; 0 keeps the last weights alone.
        clip: the largest gradient norm; None does not clip.
        patience: stop when validation has not improved for this part of the run; None never stops early.
        val_fraction: the part of x to hold out, at most 20,000 rows; fewer than 20 rows are not split.
        checkpoint: a folder. The state is written there after each pass and read from there when present: a run that
            was stopped goes on as if it had not been. Only its length may be another.
        check: where there is no noise, warn of columns over which a density can grow without bound: those that repeat
            one value or are a linear function of others. A sample of the rows is looked at.
        seed: of the shuffling, of the held-out rows, and of the generator handed to a drawing function.
        compile: run the flow through `torch.compile`.

    Yields:
        An `Epoch` after each pass over the data, and every 500 steps of longer passes.

    Raises:
        ValueError: rows that are not finite (row and column are named), of the wrong width, fewer than 2 or with a
            constant column; a setting out of range; a checkpoint of another run.
    """
    began = time.perf_counter()
    check_settings(locals())
    flows = cast("list[Flow]", flow.members)
    rule = settings_for((flows[0].recipe or {}).get("name"), count_rows(x), math.prod(flows[0].shape), seconds)
    if batch_growth is None:
        batch_growth = rule["batch_growth"] if batch is None and epochs is None else 1
    batch = rule["batch"] if batch is None else batch
    lr = rule["lr"] if lr is None else lr
    weight_decay = rule["weight_decay"] if weight_decay is None else weight_decay
    noise = rule["noise"] if noise is None else noise
    rows, val_rows, first = split(flows[0], x, val, context, weights, val_fraction, DRAWN_PASS_BATCHES * batch, seed)
    for member in flows:
        initialize(member, first.x, first.context)
    if check and noise == 0 and first.x.ndim == 2:  # noise gives each value a width
        warn_of_unbounded(first.x.cpu().numpy())
    rows = with_noise(rows, first, noise)
    batch = min(batch, len(rows))
    pass_rows = len(rows) // batch * batch
    if epochs is not None:
        steps = epochs * (pass_rows // batch)
    elif seconds is None and steps is None:
        steps = steps_for(count_rows(x), batch)
    elif seconds is not None:
        steps = most_steps(count_rows(x), batch)
    threads = outer_threads = torch.get_num_threads()
    if 6 * batch * sum(p.numel() for p in flow.parameters()) < SMALL_STEP_FLOP:
        threads = 1
    held = FlatWeights(flows, weight_decay=weight_decay, ema=ema, clip=math.inf if clip is None else clip)
    try:
        run = Run(flows, held, val_rows, batch, steps, seconds, began, batch_growth)
        generator = torch.Generator().manual_seed(seed + 1)
        saved = None
        if checkpoint is not None:
            setup = {
                "rows": len(rows), "batch": batch, "batch_growth": batch_growth, "lr": lr, "weight_decay": weight_decay,
                "noise": noise, "schedule": schedule, "warmup": warmup, "ema": ema, "clip": clip, "seed": seed,
                "data": None if count_rows(x) == UNLIMITED else first.digest(),
            }  # fmt: skip
            saved = Checkpoint(checkpoint, setup)
            run.resume(saved.read(flow, held, generator))
        if val_rows is not None and run.step == 0:
            run.validate()
        forwards = [torch.compile(f, dynamic=True) if compile else f for f in flows]
        gradients = (None if compile else closed_form(flows, held)) or recorded(forwards, held)
        torch.set_num_threads(threads)
        epoch = None
        while run.stopped is None and run.progress() < 1:
            seen = 0
            for x_batch, context_batch, weight_batch in rows.batches(batch, generator, len(flows), run.grown):
                count = x_batch.shape[min(len(flows), 2) - 1]
                seen += count
                rate = lr * _schedule(schedule, run.progress(), warmup)
                loss = gradients(x_batch, context_batch, weight_batch)
                run.count(held.step(loss, rate, run.step, count / batch), loss)
                whole = seen == pass_rows
                if whole or run.progress() >= 1 or run.since_record == RECORD_STEPS:
                    run.passes += whole
                    epoch = run.record(
                        run.passes + (0 if whole else seen / pass_rows), rate * max(held.rates), patience
                    )
                    if saved is not None and whole:
                        saved.write(flow, held, generator, run.state())
                    torch.set_num_threads(outer_threads)
                    yield epoch
                    torch.set_num_threads(threads)
                    if epoch.stopped:
                        break
        if epoch is None:  # of a run that was over when it was resumed, or had no time for a step
            torch.set_num_threads(outer_threads)
            if run.step == 0:
                warnings.warn(f"{seconds:g} s were over before the first step: the flow is not trained", stacklevel=2)
            yield run.record(run.passes, 0.0, patience)
    finally:
        torch.set_num_threads(outer_threads)
        held.release()


def fit(
    flow: Flow | Mixture | str,
    x: Any,
    val: Any = None,
    *,
    context: Any = None,
    weights: Any = None,
    progress: str | Callable[[Epoch], None] = "auto",
    **settings: Any,
) -> Fit:
    """Trains a flow to the end, showing progress on stderr; Ctrl-C ends it early with the best weights so far.

    Args:
        flow: any flow or ensemble; or "auto", or the name of a recipe, for one that `choose` fits to the
            number of rows and columns and to `seconds`.
        x: the training rows (N, *shape), or a function that draws them; see `train`.
        val: validation rows, as in `train`.
        context: (N, K), as in `train`.
        weights: (N,), as in `train`.
        progress: "rich" a live line, "plain" some lines, "none" silence; "auto" takes rich on a terminal that has it.
            Or a function of your own, which is called with each `Epoch`.
        settings: every other argument of `train`, such as epochs, steps, seconds, batch or lr.

    Returns:
        A `Fit`: the epochs, why it stopped, a summary, and the flow.

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
    if isinstance(flow, str):
        began = time.perf_counter()
        check_settings(settings)
        flow = _chosen(flow, x, context, settings)
        if settings.get("seconds") is not None:  # building counts
            settings["seconds"] = max(settings["seconds"] - (time.perf_counter() - began), 1e-3)
    result = Fit(flow=flow)
    epochs = train(flow, x, val, context=context, weights=weights, **settings)
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


def _chosen(recipe: str, x: Any, context: Any, settings: dict[str, Any]) -> Flow:
    """The flow that `choose` fits to the rows."""
    example: Any = x
    if callable(x) and not isinstance(x, Tensor):
        drawn: Any = x(2, torch.Generator().manual_seed(settings.get("seed", 0)))
        example, context = drawn[:2] if isinstance(drawn, tuple) else (drawn, None)
    shape = np.shape(example)
    if len(shape) != 2:
        raise ValueError(f"expected rows of shape (N, D) to choose a flow for, got {tuple(shape)}")
    context_dim = 0 if context is None else np.shape(context)[-1]
    rows = count_rows(x)
    choice = choose(
        None if rows == UNLIMITED else rows, shape[1], recipe=recipe, context_dim=context_dim,
        seconds=settings.get("seconds"),
    )  # fmt: skip
    return choice.build(shape[1], context_dim=context_dim, seed=settings.get("seed", 0))


def _schedule(name: str, progress: float, warmup: float) -> float:
    rise = min(1.0, (progress + 1e-3) / warmup) if warmup else 1.0
    return rise * (0.5 * (1 + math.cos(math.pi * progress)) if name == "cosine" else 1.0)
