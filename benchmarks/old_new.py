"""Two source trees at the same tasks, in turns: what a change of the code cost or gained.

    git worktree add ../old 4fa8ced
    python benchmarks/old_new.py --old ../old/src --new src

Each tree works in a process of its own, which waits while the other works; after a warm-up they take turns, the first
of a round being the last of the one before, so that a slow moment of the machine is slow for both. Figures are medians;
a ratio above 1.05 counts as slower. Scoring is by the command line's own code, of a Parquet folder, by one model that
the old tree has fitted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROWS_OF_FILE = 250_000


def log_prob(folder: Path, small: bool) -> Callable[[], float]:
    return _scoring(2_500 if small else 250_000)


def sampling(folder: Path, small: bool) -> Callable[[], float]:
    import pushforward as pf

    flow = pf.real_nvp(2, depth=6, width=256, seed=0)
    return _seconds(lambda: flow.sample(2_500 if small else 250_000))


def step_100(folder: Path, small: bool) -> Callable[[], float]:
    return _steps(100, 4 if small else 200, 2)


def step_4096(folder: Path, small: bool) -> Callable[[], float]:
    return _steps(4096, 1 if small else 10, 2)


def spline_step(folder: Path, small: bool) -> Callable[[], float]:
    import pushforward as pf

    return _steps(256, 2 if small else 40, 7, pf.spline_flow(7, seed=0))


def members_step(folder: Path, small: bool) -> Callable[[], float]:
    import pushforward as pf

    flows = [pf.real_nvp(7, depth=8, width=64, seed=k) for k in range(8)]
    return _steps(256, 2 if small else 20, 7, pf.Ensemble(flows))


def import_and_score(folder: Path, small: bool) -> Callable[[], float]:
    """The command line from its start, of 1,000 rows: what a script pays."""
    arguments = ["score", str(folder / "model.safetensors"), str(folder / "few.parquet"), "--out"]
    command = [sys.executable, "-m", "pushforward", *arguments, str(folder / f"few-{os.getpid()}.parquet")]
    return _seconds(lambda: subprocess.run(command, check=True, capture_output=True))


def score_parquet(folder: Path, small: bool) -> Callable[[], float]:
    from pushforward.cli import main

    out = str(folder / f"scored-{os.getpid()}.parquet")
    arguments = ["score", str(folder / "model.safetensors"), str(folder / "rows"), "--out", out]

    def run() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                main(arguments)
            except SystemExit as end:
                if end.code:
                    raise RuntimeError("the command failed") from end

    return _seconds(run)


# what it is, the function, the unit
TASKS: dict[str, tuple[str, Callable[[Path, bool], Callable[[], float]], str]] = {
    "log_prob": ("log_prob of 250,000 x 2, 6 x 256", log_prob, "s"),
    "sample": ("sampling 250,000 x 2, 6 x 256", sampling, "s"),
    "step_100": ("training step, batch 100", step_100, "ms"),
    "step_4096": ("training step, batch 4,096", step_4096, "ms"),
    "spline_step": ("training step, spline_flow(7), batch 256", spline_step, "ms"),
    "members_step": ("training step, 8 members, batch 256", members_step, "ms"),
    "start": ("command line, 1,000 rows from its start", import_and_score, "s"),
    "score": ("command line, scoring a Parquet folder", score_parquet, "s"),
}


def _seconds(function: Callable[[], object]) -> Callable[[], float]:
    def once() -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    return once


def _scoring(points: int) -> Callable[[], float]:
    import torch

    import pushforward as pf

    flow, x = pf.real_nvp(2, depth=6, width=256, seed=0), torch.randn(points, 2)

    def run() -> None:
        with torch.no_grad():
            flow.log_prob(x)

    return _seconds(run)


def _steps(batch: int, steps: int, features: int, density: Any = None) -> Callable[[], float]:
    """Seconds of a step of `train`, with all that it does; a turn is one pass over the rows."""
    import torch

    import pushforward as pf

    density = pf.real_nvp(2, depth=6, width=256, seed=0) if density is None else density
    x = torch.randn(steps * batch, features)
    epochs = pf.train(density, x, batch=batch, epochs=100_000, val_fraction=0.0, patience=None, check=False)
    once = _seconds(lambda: next(epochs))
    return lambda: once() / steps


def work(task: str, folder: Path, small: bool) -> None:
    """A tree at a task: a line for each turn."""
    import torch

    torch.manual_seed(0)
    once = TASKS[task][1](folder, small)
    print(json.dumps({"first": once()}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": once()}), flush=True)


class Tree:
    """A source tree at a task, waiting for its turn."""

    def __init__(self, source: Path, task: str, folder: Path, small: bool) -> None:
        command = [sys.executable, __file__, "--work", task, "--folder", str(folder), *["--small"] * small]
        variables = os.environ | {"PYTHONPATH": str(source.resolve())}
        self.process = subprocess.Popen(
            command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )  # fmt: skip
        self.first = self._answer()["first"]

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a tree has failed; its message stands above")
        return json.loads(line)

    def once(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()["seconds"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def prepare(folder: Path, old: Path, rows: int, steps: int) -> None:
    """Writes the Parquet folder, a table of 1,000 rows, and a model of the old tree."""
    import pyarrow.parquet as pq

    from scoring import rows as make

    (folder / "rows").mkdir()
    for i in range(0, rows, ROWS_OF_FILE):
        pq.write_table(make(min(ROWS_OF_FILE, rows - i), i), folder / "rows" / f"part-{i:09d}.parquet")
    pq.write_table(make(1000, 1), folder / "few.parquet")
    pq.write_table(make(50_000, 2**40), folder / "train.parquet")
    code = (
        "import sys, pushforward as pf, pyarrow.parquet as pq\n"
        f"density = pf.fit_table(pq.read_table(sys.argv[1]), steps={steps}, progress='none')\n"
        "pf.save(density, sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(folder / "train.parquet"), str(folder / "model.safetensors")]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(old.resolve())}, check=True)


def compare(old: Path, new: Path, task: str, folder: Path, rounds: int, small: bool) -> dict[str, list[float]]:
    """Seconds of each turn of both."""
    trees = {"old": Tree(old, task, folder, small), "new": Tree(new, task, folder, small)}
    times: dict[str, list[float]] = {name: [] for name in trees}
    for k in range(rounds):
        for name in sorted(trees, reverse=k % 2 == 0):
            times[name].append(trees[name].once())
    for tree in trees.values():
        tree.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="the `src` folder of a tree")
    parser.add_argument("--new", type=Path, default=Path(__file__).parents[1] / "src", help="that of the other")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rounds", type=int, default=9, help="turns of each tree at each task, at least 5")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the Parquet folder")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it works, writing nothing")
    parser.add_argument("--work", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.folder, args.small)
        return
    if args.old is None:
        parser.error("--old is needed")
    if args.rounds < 5 and not args.small:
        parser.error("--rounds must be at least 5")
    from common import median, write

    result: dict[str, Any] = {}
    lines = ["| | old | new | new / old |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"start", "score"} & set(args.only):
            prepare(folder, args.old, 2_000 if args.small else args.rows, 20 if args.small else 500)
        for task in args.only:
            what, _, unit = TASKS[task]
            times = compare(args.old, args.new, task, folder, args.rounds, args.small)
            a, b = median(times["old"]), median(times["new"])
            scale = 1e3 if unit == "ms" else 1
            result[task] = times | {"ratio": b / a}
            lines.append(f"| {what} | {a * scale:.3g} {unit} | {b * scale:.3g} {unit} | **{b / a:.2f}** |")
            print(lines[-1], flush=True)
    if not args.small:
        write("old_new", result | {"rows": args.rows, "rounds": args.rounds}, lines)


if __name__ == "__main__":
    main()
