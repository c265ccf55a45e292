"""Training steps, log_prob and sampling beside zuko, nflows, normflows, FrEIA and flowjax: the same function in each.

Each library runs in a process of its own (`peer.py`); all of them wait while one works, and they take turns, so a slow
moment of the machine is slow for all. The peers need an environment of their own:

    python -m venv peers && peers/bin/pip install -r benchmarks/peers-requirements.txt
    python benchmarks/peers.py --peers peers/bin/python
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pushforward as pf
from common import conditioner_flop, matmul_gflops, median, write

PEERS = ("zuko", "nflows", "normflows", "FrEIA", "FrEIA compiled", "flowjax")
# name, task, features, depth, width, rows, repeats
TASKS = (
    ("training step, D = 2, batch 100", "step", 2, 6, 256, 100, 9),
    ("training step, D = 2, batch 4,096", "step", 2, 6, 256, 4096, 5),
    ("training step, D = 43, batch 512", "step", 43, 10, 512, 512, 7),
    ("log_prob of 250,000, D = 2", "log_prob", 2, 6, 256, 250_000, 5),
    ("sampling 250,000, D = 2", "sample", 2, 6, 256, 250_000, 5),
    ("log_prob of 50,000, D = 43", "log_prob", 43, 10, 512, 50_000, 5),
    ("sampling 50,000, D = 43", "sample", 43, 10, 512, 50_000, 5),
)


class Peer:
    """A library at a task, waiting for its turn."""

    def __init__(self, python: str, library: str, *task: object) -> None:
        command = [python, str(Path(__file__).with_name("peer.py")), library, *map(str, task)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )  # fmt: skip
        self.first = self.answer().get("first")

    def answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line.startswith("{") else {}

    def once(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()["seconds"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, metavar="PYTHON", help="the interpreter of the peers' environment")
    parser.add_argument("--only", default="", help="part of the names of the tasks to run")
    args = parser.parse_args()
    result: dict[str, object] = {}
    lines = []
    for name, task, features, depth, width, rows, repeats in TASKS:
        if args.only not in name:
            continue
        libraries = [p for p in PEERS if task == "step" or "compiled" not in p]
        peers = {p: Peer(args.peers, p, task, features, depth, width, rows) for p in libraries}
        peers = {"pushforward": Peer(sys.executable, "pushforward", task, features, depth, width, rows), **peers}
        peers = {p: peer for p, peer in peers.items() if peer.first is not None}
        times: dict[str, list[float]] = {p: [] for p in peers}
        rates = []
        for _ in range(repeats):
            rates.append(matmul_gflops(width))
            for p, peer in peers.items():
                times[p].append(peer.once())
        for peer in peers.values():
            peer.close()
        flow = pf.real_nvp(features, depth=depth, width=width, mixing="flip", seed=0)
        flop = conditioner_flop(flow) * rows * (3 if task == "step" else 1)
        ours = median(times["pushforward"])
        share = flop / ours / 1e9 / median(rates)
        firsts = {p: peer.first for p, peer in peers.items()}
        result[name] = {"times": times, "rates": rates, "share_of_rate": share, "first_call": firsts}
        unit, scale = ("ms", 1e3) if task == "step" else ("s", 1)
        cells = [
            f"{median(times[p]) * scale:.3g} {unit} ({median(times[p]) / ours:.2f}x)" if p in times else "-"
            for p in PEERS
        ]
        lines.append(f"| {name} | **{ours * scale:.3g} {unit}** | {share:.0%} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    head = ["", "pushforward", "of the matrix-product rate", *PEERS]
    table = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]
    write("peers", result, table)


if __name__ == "__main__":
    main()
