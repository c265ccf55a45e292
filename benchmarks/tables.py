"""Real tables of every sort, fitted with no option and judged: likelihood beside a Gaussian and a mixture, samples.

Of each set a tenth of the rows, but at least 100, is drawn at random and held out. `pf.fit_table` gets the others,
without a word on kinds, recipe or length of training; `pf.check` then judges the density by the held-out rows. Each
question of the check has a column: good, doubtful, bad, or cannot tell. Seconds are of the fit, with the threads that
torch takes. A set that is run again takes the place of its older result; runs with --steps are not kept.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

import pushforward as pf
from common import RESULTS, commit, write
from pushforward.io.frames import Frame, read
from pushforward.io.tables import read_table

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HELD_OUT, LEAST_HELD_OUT = 0.1, 100  # fewer rows are too few to tell samples from
QUESTIONS = {"ranking": "rank rows", "probabilities": "probabilities", "samples": "samples"}


def _folder(path: Path) -> Any:
    return pa.concat_tables([pa.parquet.read_table(f) for f in sorted(path.glob("*.parquet"))])


def _features(path: Path) -> Any:
    with np.load(path) as file:
        return file["X"]


SETS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "penguins": ("penguins.csv", read_table),
    "taxis": ("taxis.csv", read_table),
    "diamonds": ("diamonds.csv", read_table),
    "photoz": ("photoz/train.csv", read_table),
    "beijing": ("beijing", _folder),
    "thyroid": ("adbench/38_thyroid.npz", _features),
    "SpamBase": ("adbench/35_SpamBase.npz", _features),
    "magic": ("adbench/22_magic.gamma.npz", _features),
    "shuttle": ("adbench/32_shuttle.npz", _features),
    "cover": ("adbench/10_cover.npz", _features),
    "miniboone": ("miniboone/val.npy", read_table),
    "bsds300": ("bsds300/train.npy", read_table),
}


def split(rows: Frame, seed: int) -> tuple[Frame, Frame]:
    """-> training rows, held-out rows."""
    order = np.random.default_rng(seed).permutation(len(rows))
    holdout = max(round(HELD_OUT * len(rows)), LEAST_HELD_OUT)
    return rows[np.sort(order[holdout:])], rows[np.sort(order[:holdout])]


def judge(name: str, path: Path, load: Callable[[Path], Any], seed: int, training: dict[str, Any]) -> dict[str, Any]:
    """Fits and checks one set; prints its schema and the report on the way."""
    train, test = split(read(load(path)), seed)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        density = pf.fit_table(train, seed=seed, **training)
    seconds = time.perf_counter() - start
    inner = density.inner_flows(test[:1])
    flow = inner[0].flow.recipe if inner else None
    report = pf.check(density, test, train, seed=seed)
    print(f"\n## {name}\n{density.schema.describe()}", *(f"warned: {w.message}" for w in told), report.text(), sep="\n")
    print("training", density.training_summary, flush=True)
    likelihood = report["likelihood"].figures
    return {
        "set": name, "commit": commit(), "rows": len(train), "held_out": len(test), "columns": len(train.names),
        "seconds": seconds,
        "recipe": flow, "training": density.training_summary, "schema": density.schema.describe(),
        "nats": likelihood["mean"], "se": likelihood["se"], "baselines": likelihood["baselines"],
        "basis": report.basis, "answers": report.to_json()["answers"], "why": {s.name: s.why for s in report},
        "auc": report["two_sample"].figures.get("auc"), "real_auc": report["two_sample"].figures.get("real_auc"),
    }  # fmt: skip


def table(results: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"| set | rows x columns | s | nats per row | above Gaussian | above mixture | "
        f"{' | '.join(QUESTIONS.values())} | AUC | commit |",
        "|---" * (8 + len(QUESTIONS)) + "|",
    ]
    for r in results:
        over = [_gain(r["baselines"].get(b)) for b in ("gaussian", "mixture")]
        verdicts = [r["answers"][name]["verdict"] for name in QUESTIONS]
        verdicts.append("-" if r["auc"] is None else f"{r['auc']:.3f} (real {r['real_auc']:.3f})")
        lines.append(
            f"| {r['set']} | {r['rows']:,} x {r['columns']} | {r['seconds']:.0f} | {r['nats']:.3f} +- {r['se']:.3f} | "
            f"{' | '.join(over)} | {' | '.join(verdicts)} | {r.get('commit', 'earlier')} |"
        )
    return lines


def _gain(baseline: dict[str, Any] | None) -> str:
    return "-" if baseline is None else f"{baseline['gain']:.3f} +- {baseline['gain_se']:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--steps", type=int, help="of each training; the library's default when not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with the sets")
    args = parser.parse_args()
    training: dict[str, Any] = {"progress": "none"} | ({} if args.steps is None else {"steps": args.steps})
    for name in args.only:
        path, read = args.data / SETS[name][0], SETS[name][1]
        if not path.exists():
            print(f"{name}: left out, there is no {path}")
            continue
        result = judge(name, path, read, args.seed, training)
        print("\n".join(table([result])), flush=True)
        if args.steps is None:
            keep(result, args.seed)


def keep(result: dict[str, Any], seed: int) -> None:
    """Puts one set's result among those of the same seed that are there already."""
    path = RESULTS / "tables.json"
    old = json.loads(path.read_text()) if path.exists() else {"seed": None, "results": []}
    known = {r["set"]: r for r in old["results"] if old["seed"] == seed and "answers" in r}
    results = known | {result["set"]: result}
    kept = [results[name] for name in SETS if name in results]
    write("tables", {"protocol": __doc__, "seed": seed, "results": kept}, table(kept))


if __name__ == "__main__":
    main()
