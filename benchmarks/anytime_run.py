"""One training of `anytime.py`, in a process of its own and on one thread, by pushforward or by zuko.

    python benchmarks/anytime_run.py MODEL FOLDER STARTED SECONDS SEED OUT SETTINGS

FOLDER holds train.npy, val.npy and test.npy; two moons are drawn afresh and have a test.npy alone. STARTED is the
`time.time()` at which the process was started: importing and compiling count. SETTINGS is JSON for zuko: rate,
weight_decay and noise. When SECONDS are over, the log-densities of the test rows go to OUT ("-": nowhere) and a line of
JSON to stdout.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

TrainRows = torch.Tensor | Callable[[int, torch.Generator], torch.Tensor]
LogProb = Callable[[torch.Tensor], torch.Tensor]


def draw_moons(n: int, generator: torch.Generator) -> torch.Tensor:
    """Two moons with noise 0.05 (n, 2), as `pushforward.toys.TwoMoons` draws them."""
    angle, upper = math.pi * torch.rand(n, generator=generator), torch.rand(n, generator=generator) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos()), torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack(x, 1) + 0.05 * torch.randn(n, 2, generator=generator)


def load(folder: Path) -> tuple[TrainRows, torch.Tensor | None, torch.Tensor]:
    """-> training rows or a function that draws them, validation rows, test rows."""
    test = torch.from_numpy(np.load(folder / "test.npy"))
    if not (folder / "train.npy").exists():
        return draw_moons, None, test
    train, val = (torch.from_numpy(np.load(folder / f"{part}.npy")) for part in ("train", "val"))
    return train, val, test


def ours(
    model: str, train: TrainRows, val: torch.Tensor | None, started: float, deadline: float, seed: int
) -> tuple[LogProb, dict[str, Any]]:
    """`fit` with nothing set but the seconds."""
    import pushforward as pf

    pf.fit  # noqa: B018 - its import is what the clock has seen when the rest of the time is handed on
    seconds = deadline - time.time()
    record = pf.fit(model.removeprefix("pushforward "), train, val, seconds=seconds, seed=seed, progress="none")
    if record.density is None:
        raise RuntimeError("fit returned no density")
    before = deadline - seconds - started
    curve = [(before + e.seconds, -e.val_nll) for e in record.epochs if e.val_nll is not None]
    facts = {"steps": record.summary["steps"], "curve": curve, "stopped": record.stopped}
    return record.density.log_prob, facts | {"recipe": getattr(record.density, "recipe", None)}


def main() -> None:
    model, folder, started, seconds, seed, out, settings = sys.argv[1:]
    torch.set_num_threads(1)
    train, val, test = load(Path(folder))
    deadline = float(started) + float(seconds)
    if model.startswith("zuko"):
        from anytime_zuko import trained

        log_prob, record = trained(model, train, val, float(started), deadline, int(seed), json.loads(settings))
    else:
        log_prob, record = ours(model, train, val, float(started), deadline, int(seed))
    wall = time.time() - float(started)
    if out != "-":
        with torch.no_grad():
            scores = torch.cat([log_prob(part) for part in test.split(5000)])
        np.save(out, scores.double().numpy())
    print(json.dumps({**record, "seconds": wall}))


if __name__ == "__main__":
    main()
