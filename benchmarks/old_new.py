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
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROWS_OF_FILE = 250_000


def log_prob(folder: Path, small: bool) -> Callable[[], float]:
    return _scoring(_affine(2), 2_500 if small else 250_000, 2)


def log_prob_43(folder: Path, small: bool) -> Callable[[], float]:
    return _scoring(_affine(43), 500 if small else 50_000, 43)


def log_prob_spline(folder: Path, small: bool) -> Callable[[], float]:
    import pushforward as pf

    return _scoring(pf.spline_flow(7, seed=0), 500 if small else 50_000, 7)


def sampling(folder: Path, small: bool) -> Callable[[], float]:
    flow = _affine(2)
    return _seconds(lambda: flow.sample(2_500 if small else 250_000))


def sampling_43(folder: Path, small: bool) -> Callable[[], float]:
    flow = _affine(43)
    return _seconds(lambda: flow.sample(500 if small else 50_000))


def step_100(folder: Path, small: bool) -> Callable[[], float]:
    return _steps(_affine(2), 100, 4 if small else 200, 2)


def step_4096(folder: Path, small: bool) -> Callable[[], float]:
    return _steps(_affine(2), 4096, 1 if small else 10, 2)


def step_43(folder: Path, small: bool) -> Callable[[], float]:
    return _steps(_affine(43), 512, 1 if small else 10, 43)


def spline_step(folder: Path, small: bool) -> Callable[[], float]:
    import pushforward as pf

    return _steps(pf.spline_flow(7, seed=0), 256, 2 if small else 40, 7)


def members_step(folder: Path, small: bool) -> Callable[[], float]:
    import pushforward as pf

    flows = [pf.real_nvp(7, depth=8, width=64, seed=k) for k in range(8)]
    return _steps(pf.Ensemble(flows), 256, 2 if small else 20, 7)


def fit_table(folder: Path, small: bool) -> Callable[[], float]:
    """From a frame to a fitted density: the schema, the mass function and the flow."""
    import numpy as np

    import pushforward as pf

    rng = np.random.default_rng(0)
    colour = rng.choice(["red", "green", "blue"], 2000)
    size = rng.normal(size=2000) + (colour == "red")
    table = {
        "colour": colour, "size": size, "count": rng.poisson(4, 2000), "weight": np.exp(size + rng.normal(size=2000)),
        "price": np.round(10 * rng.random(2000), 2),
    }  # fmt: skip

    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pf.fit_table(table, steps=2 if small else 200, progress="none")

    return _seconds(run)


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
    "log_prob": ("log_prob of 250,000, D = 2, 6 x 256", log_prob, "s"),
    "sample": ("sampling 250,000, D = 2, 6 x 256", sampling, "s"),
    "log_prob_43": ("log_prob of 50,000, D = 43, 10 x 512", log_prob_43, "s"),
    "sample_43": ("sampling 50,000, D = 43, 10 x 512", sampling_43, "s"),
    "log_prob_spline": ("log_prob of 50,000, spline_flow(7)", log_prob_spline, "s"),
    "step_100": ("training step, D = 2, batch 100", step_100, "ms"),
    "step_4096": ("training step, D = 2, batch 4,096", step_4096, "ms"),
    "step_43": ("training step, D = 43, batch 512", step_43, "ms"),
    "spline_step": ("training step, spline_flow(7), batch 256", spline_step, "ms"),
    "members_step": ("training step, 8 members, D = 7, batch 256", members_step, "ms"),
    "fit_table": ("fit_table of 2,000 mixed rows, 200 steps", fit_table, "s"),
    "start": ("command line, 1,000 rows from its start", import_and_score, "s"),
    "score": ("command line, scoring a Parquet folder", score_parquet, "s"),
}


def _seconds(function: Callable[[], object]) -> Callable[[], float]:
    def once() -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    return once


def _affine(features: int) -> Any:
    """The flows of `peers.py`."""
    import pushforward as pf

    depth, width = (6, 256) if features == 2 else (10, 512)
    return pf.real_nvp(features, depth=depth, width=width, seed=0)


def _scoring(flow: Any, points: int, features: int) -> Callable[[], float]:
    import torch

    x = torch.randn(points, features)

    def run() -> None:
        with torch.no_grad():
            flow.log_prob(x)

    return _seconds(run)


def _steps(density: Any, batch: int, steps: int, features: int) -> Callable[[], float]:
    """Seconds of a step of `train`, with all that it does; a turn is one pass over the rows."""
    import torch

    import pushforward as pf

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
    parser.add_argument("--rounds", type=int, default=9, help="turns of each tree at each task, at least 3")
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
    if args.rounds < 3 and not args.small:
        parser.error("--rounds must be at least 3")
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
