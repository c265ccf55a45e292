"""zuko's flows, trained with the care that pushforward's `fit` takes by itself.

AdamW with warm-up and a cosine decay that ends with the time, gradient clipping, noise on the rows, and weights
averaged over steps. Validation rows choose among the weights on the way, raw and averaged. Rate, decay and noise are
given: `anytime.py` chooses them by the same validation rows.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import torch

BATCH = 512
VALIDATIONS = 40
WARMUP, CLIP, EMA = 0.03, 2.0, 0.995  # as `fit` has them
FRESH = 8192  # rows that are drawn to measure and to validate where there is a function that draws
MODELS = ("zuko RealNVP", "zuko NSF coupling", "zuko NSF autoregressive")


def build(model: str, features: int, moons: bool) -> Any:
    """The recipe in zuko's own words; larger for tables than for two moons."""
    import zuko  # pyright: ignore[reportMissingImports]

    hidden = (64, 64) if moons else (128, 128)
    if model == "zuko RealNVP":
        return zuko.flows.RealNVP(features, transforms=8, hidden_features=hidden)
    if model == "zuko NSF coupling":
        return zuko.flows.NSF(features, transforms=4 if moons else 6, bins=8, passes=2, hidden_features=hidden)
    if model == "zuko NSF autoregressive":
        return zuko.flows.NSF(features, transforms=3, bins=8, hidden_features=hidden)
    raise ValueError(f"expected one of {', '.join(MODELS)}, got {model}")


class Averaged:
    """A model beside the average of its weights over steps, which forgets the first ones quickly."""

    def __init__(self, flow: Any) -> None:
        self.raw = flow
        self.mean = copy.deepcopy(flow).requires_grad_(False)
        self.steps = 0

    def update(self) -> None:
        self.steps += 1
        with torch.no_grad():
            weight = max(1 - EMA, 9 / (self.steps + 9))
            torch._foreach_lerp_(list(self.mean.parameters()), list(self.raw.parameters()), weight)


class Best:
    """The best weights so far by the validation rows."""

    def __init__(self) -> None:
        self.value, self.state = -math.inf, None

    def offer(self, value: float, flow: Any) -> None:
        if value > self.value:
            self.value, self.state = value, copy.deepcopy(flow.state_dict())


def batches(train: Any, noise: torch.Tensor, generator: torch.Generator) -> Any:
    """Batches (B, D) without end, with noise (D,) added."""
    while True:
        if callable(train):
            rows = train(128 * BATCH, generator)
        else:
            rows = train[torch.randperm(len(train), generator=generator)]
        size = min(BATCH, len(rows))
        for batch in rows.split(size):
            if len(batch) == size:
                yield batch + noise * torch.randn(batch.shape, generator=generator)


def trained(
    model: str, train: Any, val: torch.Tensor | None, started: float, deadline: float, seed: int,
    settings: dict[str, float],
) -> tuple[Callable[[torch.Tensor], torch.Tensor], dict[str, Any]]:  # fmt: skip
    """-> the log-density of rows in the units of the data, and what is to be told of the training."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    first = train(FRESH, generator) if callable(train) else train
    held = train(FRESH, generator) if val is None else val
    mean, std = first.mean(0), first.std(0)
    both = Averaged(build(model, first.shape[1], moons=val is None))

    def log_prob(x: torch.Tensor, flow: Any = both.raw) -> torch.Tensor:
        return flow().log_prob((x - mean) / std) - std.log().sum()

    rows = batches(train, settings["noise"] * std, generator)
    best, curve, skipped = _run(both, rows, log_prob, held, deadline, settings, started)
    if best.state is None:
        raise FloatingPointError(f"no finite validation in {both.steps} steps, of which {skipped} were skipped")
    both.raw.load_state_dict(best.state)
    facts = {"steps": both.steps, "curve": curve, "best": best.value, "skipped": skipped, "stopped": "done"}
    return log_prob, facts


def _run(
    both: Averaged, rows: Any, log_prob: Callable[..., torch.Tensor], held: torch.Tensor, deadline: float,
    settings: dict[str, float], started: float,
) -> tuple[Best, list[tuple[float, float]], int]:  # fmt: skip
    """Trains until the deadline; -> the best weights, validations on the way, steps that were skipped."""
    parameters = list(both.raw.parameters())
    rate = settings["rate"]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=settings["weight_decay"], fused=True)
    begun, best, curve, skipped = time.time(), Best(), [], 0
    validation, validate_at, done = 0.0, 1 / VALIDATIONS, 0.0
    while done < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (done + 1e-3) / WARMUP) * 0.5 * (1 + math.cos(math.pi * done))
        optimizer.zero_grad()
        loss = -log_prob(next(rows)).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        if torch.isfinite(loss) and torch.isfinite(norm):
            optimizer.step()
            both.update()
        else:
            skipped += 1
        done = (time.time() - begun) / max(deadline - validation - begun, 1e-3)
        if done >= validate_at or done >= 1:
            start = time.time()
            with torch.no_grad():
                for flow in (both.raw, both.mean):
                    best.offer(float(log_prob(held, flow).mean()), flow)
            validation = time.time() - start  # at most about a tenth of the time
            validate_at = done + max(1 / VALIDATIONS, 10 * validation / (deadline - begun))
            curve.append((time.time() - started, best.value))
    return best, curve, skipped
