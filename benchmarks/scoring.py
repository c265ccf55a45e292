"""Scoring and sampling tables larger than memory: rows a second and peak memory of 1 and of 10 million rows.

A mixed table (numbers, integers, categories, missing cells, zeros) is written as a Parquet folder, a density is fitted
to a sample of it, and each size is scored, its rows with their log-densities written to a new file, in a fresh process.
Rows as many as scored are then sampled, written likewise.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pushforward.io.old_tables import TableWriter, open_table

import pushforward as pf
from common import write
from pushforward.tables import Scores

PIECE = 250_000  # rows of a file
GIB = 2**30


def rows(n: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    kind, city = rng.integers(0, 6, n), rng.integers(0, 40, n)
    x = rng.normal(size=n) + kind
    score = pa.array(rng.normal(size=n) + 0.1 * city, mask=rng.random(n) < 0.1)
    return pa.table(
        {
            "kind": pa.array(np.array([*"abcdef"])[kind]),
            "city": pa.array(np.array([f"city {i}" for i in range(40)])[city]),
            "year": rng.integers(1990, 2020, n),
            "count": rng.poisson(5 + 3 * kind),
            "size": np.exp(0.3 * x),
            "x": x + rng.normal(size=n),
            "tip": np.where(rng.random(n) < 0.4, 0.0, rng.gamma(2, size=n)),
            "score": score,
        }
    )


def make(folder: Path, n: int) -> None:
    folder.mkdir()
    for i in range(0, n, PIECE):
        pq.write_table(rows(min(PIECE, n - i), i), folder / f"part-{i:09d}.parquet")


def job(name: str, model: str, folder: str, n: int) -> dict[str, Any]:
    """One measurement, in this process."""
    density: Any = pf.load(model)
    began, cpu = time.perf_counter(), time.process_time()
    mean = 0.0
    with TableWriter(Path(folder).parent / "out.parquet") as writer:
        if name == "score":
            for batch, log_density in Scores(density, open_table(folder).batches()):
                writer.write(batch.with_column("log_density", log_density))
                mean += float(log_density.sum()) / n
        else:
            for batch in density.sample_batches(n, seed=0):
                writer.write(batch)
    seconds = time.perf_counter() - began
    busy = time.process_time() - cpu  # of all threads: what else runs on the machine does not count
    figures = {"rows": writer.rows, "seconds": seconds, "cpu_seconds": busy}
    figures |= {"rows_per_second": writer.rows / seconds, "per_core": writer.rows / busy}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    return figures | {"peak_gib": peak, "mean_log_density": mean if name == "score" else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--sample-rows", type=int, nargs="+", default=[500_000, 2_000_000])
    parser.add_argument("--job", nargs=4, help="one measurement, in this process: name, model, folder, rows")
    args = parser.parse_args()
    if args.job:
        name, model, folder, n = args.job
        print(json.dumps(job(name, model, folder, int(n))))
        return
    lines = ["| | rows | seconds | rows/s | rows per core second | peak memory |", "|---|---|---|---|---|---|"]
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as root:
        model = f"{root}/model.safetensors"
        density = pf.fit_table(rows(50_000, 2**40), steps=500, progress="none")
        pf.save(density, model)
        for n in args.rows:
            make(Path(root, f"rows-{n}"), n)
        for name, n in [("score", n) for n in args.rows] + [("sample", n) for n in args.sample_rows]:
            code = [sys.executable, __file__, "--job", name, model, f"{root}/rows-{n}", str(n)]
            out = subprocess.run(code, capture_output=True, text=True, check=True)
            figures = json.loads(out.stdout.splitlines()[-1])
            result[f"{name} {n}"] = figures
            lines.append(
                f"| {name} | {n:,} | {figures['seconds']:.1f} | {figures['rows_per_second']:,.0f} "
                f"| {figures['per_core']:,.0f} | {figures['peak_gib']:.2f} GiB |"
            )
    lines += ["", f"8 columns, Parquet folder in, Parquet file out; a model of {parameters(density):,} parameters."]
    write("scoring", result, lines)


def parameters(density: Any) -> int:
    return sum(p.numel() for p in density.parameters())


if __name__ == "__main__":
    main()
