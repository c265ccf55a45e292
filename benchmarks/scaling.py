"""Time and memory of log_prob, sampling and a training step from 2 to 512 dimensions and from 2 to 64 couplings.

    python benchmarks/scaling.py

Each size runs in a process of its own, which tells the best of three times a row and the peak of its memory above what
was there before, less data and results. The last table takes ten times the points: ten times the time, the same memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import torch

import pushforward as pf
from common import conditioner_flop, matmul_gflops, seconds, write

TASKS = ("log_prob", "sample", "step")
SIZES = [(features, 8) for features in (2, 8, 32, 128, 512)] + [(8, depth) for depth in (2, 4, 16, 32, 64)]
WIDTH, BATCH, STEPS = 128, 512, 10
TEN_TIMES = (2, 43)  # dimensions of the last table
MIB = 2**20


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(task: str, features: int, depth: int, rows: int) -> dict[str, float]:
    """Seconds and peak memory (MiB) of a task in this process; a step's seconds are those of one step."""
    flow = pf.real_nvp(features, depth=depth, width=WIDTH, seed=0)
    x = torch.randn(STEPS * BATCH if task == "step" else rows, features)
    if task == "step":
        records = pf.train(flow, x, batch=BATCH, epochs=100, val_fraction=0.0, patience=None)
        before = peak_mib()
        times = [seconds(lambda: next(records)) / STEPS for _ in range(5)][1:]
        return {"seconds": min(times), "mib": peak_mib() - before}
    with torch.no_grad():
        run = (lambda: flow.log_prob(x)) if task == "log_prob" else (lambda: flow.sample(rows))
        before = peak_mib()
        times = [seconds(run) for _ in range(3)]
    result = x.element_size() * rows * (1 if task == "log_prob" else features) / MIB
    return {"seconds": min(times), "mib": peak_mib() - before - result}


def apart(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def rows_for(flop: float, gflops: float) -> int:
    """As many rows as take about a third of a second at 60 % of the matrix-product rate."""
    return max(4096, min(400_000, int(0.2 * gflops * 1e9 / flop)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=4, metavar=("TASK", "D", "DEPTH", "ROWS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        task, *numbers = args.one
        print(json.dumps(one(task, *map(int, numbers))))
        return
    rate = matmul_gflops(WIDTH)
    sizes, ten_times = {}, {}
    table = [f"| D | couplings | kFLOP a row | {' | '.join(f'{t}: us a row | GFLOP/s | MiB' for t in TASKS)} |"]
    table.append("|" + "---|" * (3 + 3 * len(TASKS)))
    for features, depth in SIZES:
        flop = conditioner_flop(pf.real_nvp(features, depth=depth, width=WIDTH, seed=0))
        rows, cells = rows_for(flop, rate), []
        for task in TASKS:
            found = apart(task, features, depth, rows)
            each = found["seconds"] / (BATCH if task == "step" else rows)
            done = flop * (3 if task == "step" else 1) / each / 1e9
            sizes[f"{task}, D = {features}, {depth} couplings"] = found | {"rows": rows, "gflops": done}
            cells += [f"{each * 1e6:.3g}", f"{done:.0f}", f"{max(found['mib'], 0):.0f}"]
        table.append(f"| {features} | {depth} | {flop / 1e3:.0f} | {' | '.join(cells)} |")
        print(table[-1], flush=True)
    table += ["", "| | points | time | ten times the points | ratio of times | MiB | MiB for ten times |"]
    table.append("|" + "---|" * 7)
    for features in TEN_TIMES:
        for task in TASKS[:2]:
            rows = 100_000 if features == 2 else 50_000
            few, many = (apart(task, features, 8, n) for n in (rows, 10 * rows))
            ten_times[f"{task}, D = {features}"] = {"rows": rows, "once": few, "ten_times": many}
            table.append(
                f"| {task}, D = {features} | {rows:,} | {few['seconds']:.3f} s | {many['seconds']:.3f} s "
                f"| {many['seconds'] / few['seconds']:.2f} | {max(few['mib'], 0):.0f} | {max(many['mib'], 0):.0f} |"
            )
            print(table[-1], flush=True)
    table += [
        "",
        f"`real_nvp` with {WIDTH}-{WIDTH} conditioners, steps of {BATCH} rows. Matrix-product rate in the same run "
        f"({WIDTH} x {WIDTH}, float32): {rate:.0f} GFLOP/s; the FLOP counted are those of the conditioners alone.",
    ]
    write("scaling", {"matmul_gflops": rate, "sizes": sizes, "ten_times": ten_times}, table)


if __name__ == "__main__":
    main()
