"""Training step, log_prob and sampling against the notebook's plain model, and against the matrix-product rate.

Both are 6 affine couplings with 256-256 networks in two dimensions. Runs are interleaved; figures are medians.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import torch

import pushforward as pf
from common import (
    PlainRealNVP,
    conditioner_flop,
    interleaved,
    matmul_gflops,
    median,
    seconds,
    write,
)


def training(batch: int, steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds a step: the notebook's loop (Adam), and `pf.train` with all that it does (clipping, EMA, schedule).

    Both take turns every few steps, so that a slow moment of the machine is slow for both.
    """
    x = torch.randn(steps * batch, 2)
    plain = PlainRealNVP()
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-4)
    flow = pf.real_nvp(2, depth=6, width=256, seed=0)
    records = pf.train(flow, x, batch=batch, epochs=rounds + 5, val_fraction=0.0, patience=None)

    def notebook() -> float:
        def run() -> None:
            for rows in x.split(batch):
                loss = -plain.log_prob(rows).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        return seconds(run) / steps

    def ours() -> float:
        return seconds(lambda: next(records)) / steps  # one pass: the same number of steps

    return interleaved({"notebook": notebook, "pushforward": ours}, rounds)


def evaluation(points: int, repeats: int) -> tuple[dict[str, list[float]], dict[str, list[float]], list[float]]:
    x = torch.randn(points, 2)
    plain, flow = PlainRealNVP(), pf.real_nvp(2, depth=6, width=256, seed=0)
    rates = []

    def rate() -> float:
        rates.append(matmul_gflops(256))
        return 0.0

    with torch.no_grad():
        scores = interleaved(
            {
                "notebook": lambda: seconds(lambda: plain.log_prob(x)),
                "pushforward": lambda: seconds(lambda: flow.log_prob(x)),
                "rate": rate,
            },
            repeats,
        )
        samples = interleaved(
            {
                "notebook": lambda: seconds(lambda: plain.sample(points)),
                "pushforward": lambda: seconds(lambda: flow.sample(points)),
                "rate": rate,
            },
            repeats,
        )
    return scores, samples, rates


def peak_mib(points: int) -> float:
    """Peak memory of a fresh process that scores and draws so many points, less the points and results themselves."""
    code = (
        "import resource, torch, pushforward as pf\n"
        "flow = pf.real_nvp(2, depth=6, width=256, seed=0)\n"
        f"x = torch.randn({points}, 2)\n"
        "with torch.no_grad():\n"
        "    flow.log_prob(x[:3000]); flow.sample(3000)\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    a = flow.log_prob(x); b = flow.sample(len(x))\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print((after - before) / 1024 - 12 * len(x) / 2**20)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(out.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=250_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    flow = pf.real_nvp(2, depth=6, width=256, seed=0)
    rows, result = [], {}

    def add(what: str, times: dict[str, list[float]], unit: float, unit_name: str, flop: float, rate: float) -> None:
        ours, notebook = median(times["pushforward"]), median(times["notebook"])
        share = flop / ours / 1e9 / rate
        result[what] = {"notebook": times["notebook"], "pushforward": times["pushforward"], "share_of_rate": share}
        rows.append(
            f"| {what} | {notebook * unit:.2f} {unit_name} | {ours * unit:.2f} {unit_name} | {notebook / ours:.1f}x "
            f"| {share:.0%} |"
        )

    scores, samples, rates = evaluation(args.points, args.repeats)
    rate = median(rates)
    flop = conditioner_flop(flow) * args.points
    add(f"log_prob of {args.points:,} points", scores, 1, "s", flop, rate)
    add(f"sampling of {args.points:,} points", samples, 1, "s", flop, rate)
    for batch, steps, rounds in ((100, 20, 60), (4096, 2, 15)):
        times = training(batch, steps, rounds)
        add(f"training step, batch {batch}", times, 1e3, "ms", 3 * conditioner_flop(flow) * batch, rate)
    memory = {n: peak_mib(n) for n in (args.points // 4, args.points, 4 * args.points)}
    result |= {"matmul_gflops": rates, "peak_mib_above_result": memory}
    table = [
        "| | notebook, plain | pushforward | ratio | share of the matrix-product rate |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"Matrix-product rate in the same run: {rate:.0f} GFLOP/s (256 x 256, float32, the best of 1,024 to "
        "4,096 rows). Peak memory "
        "above data and results, log_prob and sampling: "
        + ", ".join(f"{m:.0f} MiB at {n:,} points" for n, m in memory.items())
        + ".",
    ]
    write("throughput", result, table)


if __name__ == "__main__":
    main()
