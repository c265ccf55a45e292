"""Training steps, log_prob and sampling beside zuko, nflows, normflows, FrEIA and flowjax: the same function in each.

Each library runs in a process of its own (`peer.py`); all of them wait while one works, and they take turns, so a slow
moment of the machine is slow for all. A peer that fails is named with its error. The peers need an environment of their
own:

    make peers
    python benchmarks/peers.py
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pushforward as pf
from common import conditioner_flop, last_line, matmul_gflops, median, write

PEERS = ("zuko", "nflows", "normflows", "FrEIA", "FrEIA compiled", "flowjax")
Result = dict[str, Any]
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
    """A library at a task, waiting for its turn.

    Attributes:
        first: seconds of the first call; None if the peer failed.
        times: seconds of each turn.
        error: the last line of what the process said when it ended before it was told to; "" while it works.
    """

    def __init__(self, python: str, library: str, *task: object) -> None:
        command = [python, str(Path(__file__).with_name("peer.py")), library, *map(str, task)]
        self.stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in `close`
        self.error, self.times = "", []
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr, text=True
            )
        except OSError as error:
            self.process, self.first, self.error = None, None, f"{type(error).__name__}: {error}"
            return
        self.first = self.answer("first")

    def answer(self, key: str) -> float | None:
        """The figure of the next line of JSON; None, with `error` set, if the process ended instead."""
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)[key]
        code = self.process.wait()
        self.stderr.seek(0)
        self.error = f"exit {code}: {last_line(self.stderr.read())}"
        return None

    def once(self) -> None:
        """Takes a turn, unless it has failed."""
        if self.error or self.process is None or self.process.stdin is None:
            return
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # `answer` finds out why
        value = self.answer("seconds")
        if value is not None:
            self.times.append(value)

    def close(self) -> None:
        if self.process is not None and self.process.stdin is not None and self.process.stdout is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
        self.stderr.close()


def in_turns(peers: dict[str, Peer], repeats: int, width: int) -> list[float]:
    """Lets all work in turns; -> the matrix-product rates beside them, GFLOP/s."""
    rates = []
    for _ in range(repeats):
        rates.append(matmul_gflops(width))
        for peer in peers.values():
            peer.once()
    for peer in peers.values():
        peer.close()
    return rates


def cell(peer: Peer | None, ours: float, unit: str, scale: float) -> str:
    """A peer's median and its ratio to ours, or why there is none."""
    if peer is None:
        return "-"
    if peer.error:
        return "failed"
    return f"{median(peer.times) * scale:.3g} {unit} ({median(peer.times) / ours:.2f}x)"


def measured(python: str, task: tuple, rows: int | None, turns: int | None) -> tuple[Result, str]:
    """-> the times, errors and rates of one of `TASKS`; its line of the table.

    Raises:
        SystemExit: pushforward itself failed.
    """
    name, kind, features, depth, width, default_rows, repeats = task
    libraries = [p for p in PEERS if kind == "step" or "compiled" not in p]
    sizes = (kind, features, depth, width, rows or default_rows)
    peers = {"pushforward": Peer(sys.executable, "pushforward", *sizes)}
    peers |= {p: Peer(python, p, *sizes) for p in libraries}
    rates = in_turns(peers, turns or repeats, width)
    if peers["pushforward"].error:
        raise SystemExit(f"pushforward failed at {name}: {peers['pushforward'].error}")
    ours = median(peers["pushforward"].times)
    flop = conditioner_flop(pf.real_nvp(features, depth=depth, width=width, mixing="flip", seed=0)) * sizes[-1]
    share = flop * (3 if kind == "step" else 1) / ours / 1e9 / median(rates)
    unit, scale = ("ms", 1e3) if kind == "step" else ("s", 1)
    cells = [cell(peers.get(p), ours, unit, scale) for p in PEERS]
    result = {
        "times": {p: peer.times for p, peer in peers.items() if not peer.error},
        "errors": {p: peer.error for p, peer in peers.items() if peer.error},
        "rates": rates, "share_of_rate": share, "first_call": {p: peer.first for p, peer in peers.items()},
    }  # fmt: skip
    return result, f"| {name} | **{ours * scale:.3g} {unit}** | {share:.0%} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="peers/flows/bin/python", help="the peers' Python  [%(default)s]")
    parser.add_argument("--only", default="", help="part of the names of the tasks to run")
    parser.add_argument("--repeats", type=int, help="turns of each task  [5 to 9]")
    parser.add_argument("--rows", type=int, help="of every task  [as the task says]")
    args = parser.parse_args()
    if shutil.which(args.peers) is None:
        raise SystemExit(f"the peers are absent: there is no {args.peers}; see --help")
    result: dict[str, Result] = {}
    lines = []
    for task in (t for t in TASKS if args.only in t[0]):
        result[task[0]], line = measured(args.peers, task, args.rows, args.repeats)
        lines.append(line)
        print(line, flush=True)
    head = ["", "pushforward", "of the matrix-product rate", *PEERS]
    table = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]
    failed = [f"- {p}, {name}: {error}" for name, r in result.items() for p, error in r["errors"].items()]
    if failed:
        table += ["", "Failed, with the last line of the error:", "", *failed]
    if args.only or args.repeats or args.rows:
        print("\n".join(table))  # a part, or a trial: not kept
    else:
        write("peers", dict(result), table)


if __name__ == "__main__":
    main()
