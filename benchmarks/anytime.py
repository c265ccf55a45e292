"""What a given time buys: the gap to the truth on two moons, and the test log-likelihood of five tables.

Every run is a fresh process on one thread whose clock starts with it, so that importing counts: pushforward's own
`fit(recipe, rows, seconds=...)`, with nothing set by hand, beside zuko's RealNVP and its coupling NSF under an expert's
schedule. All have AdamW, warm-up and a cosine decay that ends with the time, gradient clipping, the same
standardisation and the same validation rows, which choose the weights to keep. Runs go in pairs, ours beside theirs at
the same time, so that a noisy machine is noisy to both.

The gap is mean(log p_true - log p_model) on 200,000 fresh points, in nats; 0 is perfect. (Of 20,000 its standard error,
.0005, was as large as what is to be told apart, and common to all runs.) Differences on tables are paired: over the
same test rows. Results of parts (--sets, --seconds, --seeds, --beside) are merged; an equal run is replaced.

    python -m venv peers && peers/bin/pip install -r benchmarks/peers-requirements.txt
    python benchmarks/anytime.py --peers peers/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anytime_sets import DATA, TABLES, table
from common import RESULTS, machine, median, write
from pushforward.toys import TwoMoons

SCORES = RESULTS / "anytime"  # log-densities of the test rows, one file a run: kept beside, not under version control
# What runs beside what. On tables ours takes part in both pairs, with a seed of its own in the second.
PAIRS = {
    "moons": (("pushforward auto", "zuko RealNVP", 0), ("pushforward real_nvp", "zuko NSF", 0)),
    "tables": (("pushforward auto", "zuko RealNVP", 0), ("pushforward auto", "zuko NSF", 1000)),
}
COLORS = {
    "pushforward auto": "#0072B2", "pushforward real_nvp": "#56B4E9", "zuko RealNVP": "#D55E00", "zuko NSF": "#E69F00",
}  # fmt: skip
Run = dict[str, Any]


def prepare(name: str, folder: Path, data: Path) -> None:
    """Writes the rows of a set for the processes that train on them."""
    folder.mkdir()
    if name == "moons":
        np.save(folder / "test.npy", TwoMoons().sample(200_000, generator=torch.Generator().manual_seed(12345)).numpy())
        return
    for part, rows in zip(("train", "val", "test"), table(name, data), strict=True):
        np.save(folder / f"{part}.npy", rows)


def one(name: str, model: str, seconds: float, seed: int, folder: Path, peers: str) -> Run:
    """Trains one model in a process of its own."""
    SCORES.mkdir(parents=True, exist_ok=True)
    scores = SCORES / f"{name}-{model.replace(' ', '-')}-{seconds:g}-{seed}.npy"
    python = peers if model.startswith("zuko") else sys.executable
    script = str(Path(__file__).with_name("anytime_run.py"))
    command = [python, script, model, str(folder), repr(time.time()), f"{seconds:g}", str(seed), str(scores)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    record = json.loads(done.stdout.splitlines()[-1])
    values = np.load(scores)
    if name == "moons":
        truth = TwoMoons().log_prob(torch.from_numpy(np.load(folder / "test.npy"))).double().numpy()
        values = truth - values
    figures = {"value": float(values.mean()), "se": float(values.std() / len(values) ** 0.5)}
    print(f"{name}, {model}, {seconds:g} s, seed {seed}: {figures['value']:.4f} +- {figures['se']:.4f}", flush=True)
    return {"set": name, "model": model, "length": seconds, "seed": seed, **figures, **record}


def paired(name: str, pair: tuple[str, str, int], seconds: float, seed: int, folder: Path, peers: str) -> list[Run]:
    """Both models of a pair at the same time; theirs gets `beside` with the difference over the test rows."""
    ours, theirs, offset = pair
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda model: one(name, model, seconds, seed + offset, folder, peers), (ours, theirs)))
    scores = [
        np.load(SCORES / f"{name}-{model.replace(' ', '-')}-{seconds:g}-{seed + offset}.npy")
        for model in (ours, theirs)
    ]
    ahead = scores[0] - scores[1]
    runs[1] |= {"ahead": float(ahead.mean()), "ahead_se": float(ahead.std() / len(ahead) ** 0.5)}
    return runs


def merged(new: list[Run]) -> list[Run]:
    """The new runs with those of earlier parts."""
    file = RESULTS / "anytime.json"
    old = json.loads(file.read_text())["runs"] if file.exists() else []

    def key(run: Run) -> tuple[Any, ...]:
        return run["set"], run["model"], run["length"], run["seed"]

    keys = {key(run) for run in new}
    return sorted(
        [*new, *(run for run in old if key(run) not in keys)], key=lambda r: (r["set"], r["length"], r["model"])
    )


def tables_of(runs: list[Run]) -> list[str]:
    """Markdown: one table for two moons, one for the data sets."""
    lines = ["| two moons | seconds | seeds | steps | gap, median (nats) | gaps |", "|---|---|---|---|---|---|"]
    for length, model in sorted({(r["length"], r["model"]) for r in runs if r["set"] == "moons"}):
        of = [r for r in runs if (r["set"], r["length"], r["model"]) == ("moons", length, model)]
        gaps = sorted(r["value"] for r in of)
        lines.append(
            f"| {model} | {length:g} | {len(of)} | {median([r['steps'] for r in of]):.0f} | **{median(gaps):.4f}** | "
            f"{', '.join(f'{g:.4f}' for g in gaps)} |"
        )
    lines += [
        "", "Test log-likelihood, nats a row; ahead: ours less theirs over the same rows, trained in the same minutes.",
        "",
        "| table | seconds | model | steps | log-likelihood | ahead of it |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for run in (r for r in runs if r["set"] != "moons"):
        ahead = f"{run['ahead']:+.3f} +- {run['ahead_se']:.3f}" if "ahead" in run else ""
        lines.append(
            f"| {run['set']} | {run['length']:g} | {run['model']} | {run['steps']:,} | {run['value']:.3f} +- "
            f"{run['se']:.3f} | {ahead} |"
        )
    return lines


def figure(name: str, runs: list[Run]) -> None:
    """Gap or test log-likelihood against seconds; on tables, lines show the validation rows' on the way."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    fig = Figure(figsize=(6.4, 4.0), layout="constrained")
    ax = fig.subplots()
    lengths = sorted({r["length"] for r in runs})
    for model, color in COLORS.items():
        of = [r for r in runs if r["model"] == model]
        if not of:
            continue
        if name == "moons":
            x = sorted({r["length"] for r in of})
            ax.plot(x, [median([r["value"] for r in of if r["length"] == s]) for s in x], color=color, lw=1.2)
        else:
            for run in (r for r in of if r["length"] == lengths[-1]):
                ax.plot(*zip(*run["curve"], strict=True), color=color, lw=0.8, alpha=0.7)
        ax.plot([r["length"] for r in of], [r["value"] for r in of], "o", color=color, label=model, markeredgewidth=0)
    ax.set(xscale="log", xlabel="seconds since the process started")
    ticks = lengths if name == "moons" else [t for t in (1, 3, 10, 30, 100, 300, 1000) if t <= 1.1 * lengths[-1]]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    if name == "moons":
        ax.set(yscale="log", ylabel="gap to the true density (nats)")
        ax.yaxis.set_major_locator(FixedLocator((0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_title("Two moons: how far from the truth, after how long", loc="left")
    else:
        shown = [r["value"] for r in runs]  # the first tenth of a run is far below what one wants to see
        shown += [v for r in runs for t, v in r["curve"] if t > 0.1 * r["length"]]
        low, high = float(np.quantile(shown, 0.05)), max(shown)
        ax.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
        ax.set_ylabel("log-likelihood (nats a row)")
        ax.set_title(f"{name}: test (points) and validation on the way (lines)", loc="left")
    ax.grid(True, alpha=0.2)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    fig.savefig(RESULTS / f"anytime_{name}.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="peers/bin/python", help="the Python that has zuko")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the tables  [%(default)s]")
    parser.add_argument("--sets", nargs="+", default=["moons", *TABLES], choices=["moons", *TABLES])
    parser.add_argument("--seconds", type=float, nargs="+", help="lengths  [moons: 3 10 30, tables: 300]")
    parser.add_argument("--seeds", type=int, help="seeds  [moons: 5, tables: 1 for each pair]")
    parser.add_argument("--beside", nargs="+", choices=["RealNVP", "NSF"], default=["RealNVP", "NSF"], help="of zuko")
    args = parser.parse_args()
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.sets:
            folder = Path(temporary) / name
            prepare(name, folder, args.data)
            moons = name == "moons"
            for seed in range(args.seeds or (5 if moons else 1)):  # seeds outermost: a slow minute hits all lengths
                for seconds in args.seconds or ([3, 10, 30] if moons else [300]):
                    for pair in PAIRS["moons" if moons else "tables"]:
                        if pair[1].removeprefix("zuko ") in args.beside:
                            runs += paired(name, pair, seconds, seed, folder, args.peers)
            for run in runs:
                run.setdefault("commit", machine()["commit"])
            everything = merged(runs)  # after each set, so that a run that is stopped keeps what it has
            write("anytime", {"runs": everything}, tables_of(everything))
            figure(name, [r for r in everything if r["set"] == name])


if __name__ == "__main__":
    main()
