"""The `demo` command: a plain Real NVP against a density that is known exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .. import plots
from ..checks import exactness
from ..checks.stats import mean_and_se
from ..io import models
from ..recipes import real_nvp
from ..toys import toy as named_toy
from ..training import fit as train_flow
from .curves import thinned
from .output import plus_minus, prepare_folder, say

_TEST_POINTS = 20_000


def demo(toy: str, seconds: float | None, steps: int | None, out: str, seed: int, progress: str) -> dict[str, Any]:
    """Trains, tests on fresh points, and draws every picture."""
    if seconds is not None and steps is not None:
        raise ValueError("give at most one of --seconds and --steps")
    folder = prepare_folder(out)
    truth = named_toy(toy)
    flow = real_nvp(2, seed=seed)
    length: dict[str, Any] = {"steps": steps} if steps is not None else {"seconds": 30 if seconds is None else seconds}
    say("toy", f"{toy}: fresh points for each batch, for {' '.join(f'{v:g} {k}' for k, v in length.items())}")
    record = train_flow(
        flow, lambda n, generator: truth.sample(n, generator=generator), seed=seed, progress=progress, **length
    )
    summary = record.summary

    x = truth.sample(_TEST_POINTS, generator=torch.Generator().manual_seed(seed + 1_000_003))
    with torch.no_grad():
        log_p = flow.log_prob(x).double()
    nll, nll_se = mean_and_se((-log_p).numpy())
    log_true = truth.log_prob(x).double()
    gap, gap_se = mean_and_se((log_true - log_p).numpy())
    exact = exactness(flow, x)
    figures = {"test_nll": nll, "test_nll_se": nll_se, "entropy": truth.entropy(), "gap": gap, "gap_se": gap_se}
    figures |= {"train_seconds": summary["seconds"], "steps": summary["steps"], "skipped": summary["skipped"]}
    figures |= {**exact, "toy": toy, "seed": seed, "stopped": summary["stopped"], "out": str(folder)}
    say("trained", f"{summary['steps']:,} steps in {summary['seconds']:.1f} s ({summary['stopped']})")
    say("test NLL", f"{plus_minus(nll, nll_se)} nats, on {_TEST_POINTS:,} fresh points")
    say("entropy", f"{figures['entropy']:.4f} nats: no model can come below it, but for the luck of the points")
    say("gap", f"{plus_minus(gap, gap_se)} nats: mean of log p(x) - log model(x), the distance from the truth")
    say(
        "exactness",
        f"|g(f(x)) - x| <= {exact['roundtrip_max']:.1e}, log-det against autograd <= {exact['logdet_max']:.1e}",
    )

    kept = {**figures, "out": None, "curves": [thinned(record.epochs)] if record.epochs else []}
    models.save(flow, folder / "model.safetensors", training=kept)
    files = ["model.safetensors", *_pictures(flow, truth, x, record, folder)]
    say("written", f"{folder}/: {', '.join(files)}")
    return figures


def _pictures(flow: Any, truth: Any, x: Any, record: Any, folder: Path) -> list[str]:
    with plots.without_pyplot():
        pictures = {
            "four_panels.png": plots.four_panels(flow, x),
            "density.png": plots.density(flow, bounds=truth.bounds, truth=truth.log_prob),
            "warped_grid.png": plots.warped_grid(flow),
        }
        if record.epochs:
            pictures["history.png"] = plots.history(record, floor=truth.entropy())
        for name, picture in pictures.items():
            plots.save_figure(picture, folder / name)
    plots.animate(flow, folder / "flow.gif")
    return [*pictures, "flow.gif"]
