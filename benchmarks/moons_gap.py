"""Two moons: the gap to the true density against seconds of training, over several seeds.

The gap is mean(log p_true - log p_model) on 200,000 fresh points, in nats; 0 is perfect. (On 20,000 points its
standard error, common to all runs, is as large as the differences.) The runs are the demo's own (a plain affine Real
NVP, nothing compiled), each a fresh `fit(seconds=...)`; `--notebook 2` adds the course notebook's settings: batch 100,
Adam at a constant 1e-4, 5,001 steps, on the plain implementation and on `real_nvp`.
"""

from __future__ import annotations

import argparse
import time

import torch

import pushforward as pf
from common import RESULTS, PlainRealNVP, median, write
from pushforward.toys import TwoMoons

TOY = TwoMoons()
POINTS = 200_000


def gap(model: pf.Flow | PlainRealNVP, points: int = POINTS) -> tuple[float, float]:
    """-> the gap to the truth on fresh points, and its standard error, in nats."""
    x = TOY.sample(points, generator=torch.Generator().manual_seed(12345))
    with torch.no_grad():
        difference = torch.cat([TOY.log_prob(part) - model.log_prob(part) for part in x.split(20_000)]).double()
    return float(difference.mean()), float(difference.std() / points**0.5)


def draw(n: int, generator: torch.Generator) -> torch.Tensor:
    return TOY.sample(n, generator=generator)


def demo(seconds: float, seed: int) -> dict[str, float]:
    start = time.perf_counter()
    flow = pf.real_nvp(2, seed=seed)
    fit = pf.fit(flow, draw, seconds=seconds, seed=seed, progress="none")
    wall = time.perf_counter() - start
    value, error = gap(flow)
    return {"seed": seed, "gap": value, "se": error, "steps": fit.summary["steps"], "seconds": wall}


def notebook_plain(seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    model = PlainRealNVP()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    for _ in range(5001):
        loss = -model.log_prob(draw(100, generator)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    value, error = gap(model)
    return {"seed": seed, "gap": value, "se": error, "steps": 5001, "seconds": time.perf_counter() - start}


def notebook_ours(seed: int) -> dict[str, float]:
    flow = pf.real_nvp(2, depth=6, width=256, activation="leaky_relu", seed=seed)
    start = time.perf_counter()
    pf.fit(
        flow, draw, steps=5001, batch=100, lr=1e-4, schedule="constant", warmup=0.0, ema=0.0, clip=None,
        weight_decay=0.0, patience=None, seed=seed, progress="none",
    )  # fmt: skip
    value, error = gap(flow)
    return {"seed": seed, "gap": value, "se": error, "steps": 5001, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs="+", default=[3, 10, 30])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--notebook", type=int, default=0, metavar="SEEDS", help="seeds of the notebook's settings")
    args = parser.parse_args()
    seeds = range(args.seeds)
    runs = {f"real_nvp, fit(seconds={s:g})": [] for s in args.seconds}
    for seed in seeds:  # seeds outermost: a slow minute of the machine hits all lengths
        for s in args.seconds:
            runs[f"real_nvp, fit(seconds={s:g})"].append(demo(s, seed))
    if args.notebook:
        few = range(args.notebook)
        runs["the notebook's settings, plain implementation"] = [notebook_plain(s) for s in few]
        runs["the notebook's settings, real_nvp(depth=6, width=256)"] = [notebook_ours(s) for s in few]
    table = ["| | seconds | steps | gap, median | gaps of the seeds | standard error of one |"]
    table.append("|---|---|---|---|---|---|")
    for name, results in runs.items():
        gaps = [r["gap"] for r in results]
        table.append(
            f"| {name} | {median([r['seconds'] for r in results]):.1f} | {median([r['steps'] for r in results]):.0f} "
            f"| **{median(gaps):.4f}** | {', '.join(f'{g:.4f}' for g in sorted(gaps))} "
            f"| {median([r['se'] for r in results]):.4f} |"
        )
    write("moons_gap", {"entropy": TOY.entropy(), "points": POINTS, "runs": runs}, table)
    figure(runs)


def figure(runs: dict[str, list[dict[str, float]]]) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    fig = Figure(figsize=(6.4, 4.0), layout="constrained")
    ax = fig.subplots()
    marks = {"real_nvp, fit": ("#0072B2", "o", "real_nvp, fit(seconds=...)")}
    marks |= {"plain": ("#999999", "s", "notebook's settings, plain implementation")}
    marks |= {"real_nvp(depth": ("#D55E00", "^", "notebook's settings, real_nvp")}
    for key, (color, marker, label) in marks.items():
        results = [r for name, rs in runs.items() if key in name for r in rs]
        if results:
            x, y = [r["seconds"] for r in results], [r["gap"] for r in results]
            ax.plot(x, y, marker, color=color, label=label, alpha=0.7, markeredgewidth=0)
    ax.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="gap to the true density (nats)")
    for axis, ticks in ((ax.xaxis, (1, 3, 10, 30, 100, 300)), (ax.yaxis, (0.002, 0.003, 0.005, 0.01, 0.02, 0.05))):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    ax.set_title("Two moons: how far from the truth, after how long", loc="left")
    ax.grid(True, which="both", alpha=0.2)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    fig.savefig(RESULTS / "moons_gap.png", dpi=150)


if __name__ == "__main__":
    main()
