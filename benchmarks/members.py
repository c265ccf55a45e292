"""What an ensemble costs and gains: the step time of 8 members beside one, and test nats of 1 and 8 after equal steps.

    python benchmarks/members.py

The table is miniboone (Papamakarios et al. 2017): trained on miniboone/val.npy, judged on miniboone/test.npy.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import pushforward as pf
from anytime_sets import DATA
from common import interleaved, median, write

MEMBERS = 8
# name, settings of real_nvp, rows of a batch; the first is the one that the claim is on
SIZES = (
    ("default", {}, 512),
    ("depth 8, width 16", {"depth": 8, "width": 16}, 512),
    ("depth 8, width 64, batch 64", {"depth": 8, "width": 64}, 64),
    ("depth 8, width 256", {"depth": 8, "width": 256}, 512),
)


def model(members: int, features: int, settings: dict[str, int]) -> pf.Flow | pf.Ensemble:
    flows = [pf.real_nvp(features, seed=k, **settings) for k in range(members)]
    return flows[0] if members == 1 else pf.Ensemble(flows)


def stepper(members: int, x: torch.Tensor, settings: dict[str, int], batch: int) -> Callable[[], float]:
    """-> a function that trains for some steps, with all that `train` does, and tells the seconds of one."""
    steps = len(x) // batch
    flow = model(members, x.shape[1], settings)
    epochs = pf.train(flow, x, batch=batch, epochs=100_000, val_fraction=0.0, patience=None, check=False)

    def once() -> float:
        start = time.perf_counter()
        next(epochs)
        return (time.perf_counter() - start) / steps

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the data sets")
    parser.add_argument(
        "--steps", type=int, default=2000, help="of the trainings; 0 measures the step time alone, of random rows"
    )
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    x = test = torch.randn(4096, 43)
    if args.steps:
        x, test = (torch.from_numpy(np.load(args.data / "miniboone" / f"{n}.npy")).float() for n in ("val", "test"))
    result: dict[str, object] = {}
    table = [f"| D = {x.shape[1]} | one member | {MEMBERS} members | ratio |", "|---|---|---|---|"]
    for name, settings, batch in SIZES:
        rows = x[: 8 * batch]
        both = {str(m): stepper(m, rows, settings, batch) for m in (1, MEMBERS)}
        times = interleaved(both, args.repeats)
        one, many = (median(times[key]) for key in both)
        result[name] = times
        table.append(f"| step, {name} | {one * 1e3:.2f} ms | {many * 1e3:.2f} ms | {many / one:.2f}x |")
        print(table[-1], flush=True)
    if args.steps:
        nats = []
        for members in (1, MEMBERS):
            flow = model(members, x.shape[1], {})
            pf.fit(flow, x, steps=args.steps, patience=None, progress="none")
            with torch.no_grad():
                nats.append(flow.log_prob(test))
        gain = (nats[1] - nats[0]).double()
        error = float(gain.std()) / math.sqrt(len(gain))
        means = [float(n.mean()) for n in nats]
        result["test nats"] = {"means": means, "gain": float(gain.mean()), "standard_error": error, "steps": args.steps}
        table.append(
            f"| test log-likelihood, {args.steps:,} steps | {means[0]:.2f} nats | {means[1]:.2f} nats | "
            f"+{float(gain.mean()):.2f} +- {error:.2f} nats |"
        )
    write("members", result, table)


if __name__ == "__main__":
    main()
