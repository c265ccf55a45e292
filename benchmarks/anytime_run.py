"""One training of `anytime.py`, in a process of its own and on one thread, by pushforward or by zuko.

    python benchmarks/anytime_run.py MODEL FOLDER STARTED SECONDS SEED OUT

FOLDER holds train.npy, val.npy and test.npy; two moons are drawn afresh and have a test.npy alone. STARTED is the
`time.time()` at which the process was started: importing and compiling count. When SECONDS are over, the log-densities
of the test rows go to OUT and a line of JSON to stdout.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

VALIDATIONS = 40  # of a run by zuko; ours validates by itself
ZUKO_LR = {"moons": 5e-3, "tables": 1e-3}  # the better of 1e-3, 2e-3 and 5e-3


def draw_moons(n: int, generator: torch.Generator) -> torch.Tensor:
    """Two moons with noise 0.05 (n, 2), as `pushforward.toys.TwoMoons` draws them."""
    angle, upper = math.pi * torch.rand(n, generator=generator), torch.rand(n, generator=generator) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos()), torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack(x, 1) + 0.05 * torch.randn(n, 2, generator=generator)


def load(folder: Path) -> tuple[Any, torch.Tensor | None, torch.Tensor]:
    """-> training rows or a function that draws them, validation rows, test rows."""
    test = torch.from_numpy(np.load(folder / "test.npy"))
    if not (folder / "train.npy").exists():
        return draw_moons, None, test
    train, val = (torch.from_numpy(np.load(folder / f"{part}.npy")) for part in ("train", "val"))
    return train, val, test


def ours(
    model: str, train: Any, val: torch.Tensor | None, started: float, deadline: float, seed: int
) -> tuple[Callable[[torch.Tensor], torch.Tensor], dict[str, Any]]:
    import pushforward as pf

    pf.fit  # noqa: B018 - its import is what the clock has seen when the rest of the time is handed on
    seconds = deadline - time.time()
    record = pf.fit(model.removeprefix("pushforward "), train, val, seconds=seconds, seed=seed, progress="none")
    assert record.flow is not None
    before = deadline - seconds - started
    curve = [(before + e.seconds, -e.val_nll) for e in record.epochs if e.val_nll is not None]
    return record.flow.log_prob, {"steps": record.summary["steps"], "curve": curve, "recipe": record.flow.recipe}


def zuko(
    model: str, train: Any, val: torch.Tensor | None, started: float, deadline: float, seed: int
) -> tuple[Callable[[torch.Tensor], torch.Tensor], dict[str, Any]]:
    import zuko as library  # pyright: ignore[reportMissingImports]

    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    moons = val is None
    first = train(8192, generator) if moons else train
    held: torch.Tensor = train(8192, generator) if val is None else val
    mean, std, features = first.mean(0), first.std(0), first.shape[1]
    width = 64 if moons else 128
    if model == "zuko RealNVP":
        flow: Any = library.flows.RealNVP(features, transforms=8, hidden_features=(width, width))
    else:
        flow = library.flows.NSF(
            features, transforms=4 if moons else 6, bins=8, passes=2, hidden_features=(width, width)
        )

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        return flow().log_prob((x - mean) / std) - std.log().sum()

    rate = ZUKO_LR["moons" if moons else "tables"]
    parameters = list(flow.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, fused=True)
    begun, best, best_state, steps, curve, validation = time.time(), -math.inf, flow.state_dict(), 0, [], 0.0
    validate_at = 1 / VALIDATIONS

    def progress() -> float:
        """0 to 1 when only the last validation is left."""
        return (time.time() - begun) / max(deadline - validation - begun, 1e-3)

    batches: list[torch.Tensor] = []
    done = 0.0
    while done < 1:
        if not batches:
            rows = train(128 * 512, generator) if moons else train[torch.randperm(len(train), generator=generator)]
            batches = [batch for batch in rows.split(512) if len(batch) == 512]
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (done + 1e-3) / 0.03) * 0.5 * (1 + math.cos(math.pi * done))
        optimizer.zero_grad()
        loss = -log_prob(batches.pop()).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 2.0)
        optimizer.step()
        steps += 1
        done = progress()
        if done >= validate_at or done >= 1:
            validate_at = done + 1 / VALIDATIONS
            start = time.time()
            with torch.no_grad():
                value = float(log_prob(held).mean())
            validation = time.time() - start
            curve.append((time.time() - started, value))
            if value > best:
                best, best_state = value, copy.deepcopy(flow.state_dict())
    flow.load_state_dict(best_state)
    return log_prob, {"steps": steps, "curve": curve}


def main() -> None:
    model, folder, started, seconds, seed, out = sys.argv[1:]
    torch.set_num_threads(1)
    train, val, test = load(Path(folder))
    deadline = float(started) + float(seconds)
    if model.startswith("zuko"):
        log_prob, record = zuko(model, train, val, float(started), deadline, int(seed))
    else:
        log_prob, record = ours(model, train, val, float(started), deadline, int(seed))
    wall = time.time() - float(started)
    with torch.no_grad():
        scores = torch.cat([log_prob(part) for part in test.split(5000)])
    np.save(out, scores.double().numpy())
    print(json.dumps({**record, "seconds": wall}))


if __name__ == "__main__":
    main()
