"""Writes results/images.md from results/images.json: `python benchmarks/images_page.py [more.jsonl]`.

Of each data set, flow and length the last result is shown, if it is of all test images. Lines of a file given are added
first: those that `images_normflows.py` prints, run from another environment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from common import RESULTS

FULL = {"mnist": 10_000, "digits": 300}  # test images
HEAD = """# images

Bits per dimension of test images, each training one seed and as long as told, everything included. `fit_images` with
its defaults by `python benchmarks/images.py --data mnist.npz --seconds 60 300 900 1800`, normflows' Glow with the same
rate schedule, clipping, averaging and choice by validation images by `python benchmarks/images_normflows.py`, rate and
batch from a grid. Equalized: by the numbers that `fit_images` makes of bytes, in place of the logit of the Real NVP
paper. The published Real NVP has 1.06 over 28 x 28 for MNIST. Threads are of torch, on as many cores.

| data | flow | seconds | threads | steps | bits per dimension | over 32 x 32 | scoring, sampling 1,000 | commit |
|---|---|---|---|---|---|---|---|---|
"""


def flow_of(row: dict[str, Any]) -> str:
    if "normflows" in row["recipe"]:
        return f"{row['recipe']}, {'equalized' if row.get('equalize') else 'logit'}"
    return "`fit_images`" + ("" if row["recipe"] == "auto" else f", {row['recipe']}")


def line(row: dict[str, Any]) -> str:
    times = [row.get("scoring_1000"), row.get("sampling_1000")]
    return (
        f"| {row['data']} | {flow_of(row)} | {row['seconds']:.0f} | {row.get('threads', '-')} | {row['steps']:,} "
        f"| {row['bits']:.3f} +- {row['se']:.3f} | {row['bits_32']:.3f} "
        f"| {', '.join('-' if t is None else f'{t:.2f} s' for t in times)} | {row['commit']} |"
    )


def write_page() -> None:
    rows = json.loads((RESULTS / "images.json").read_text())
    last = {
        (row["data"], flow_of(row), row["seconds"]): row
        for row in rows
        if row["test"] == FULL.get(row["data"]) and not row.get("model")
    }
    lines = [line(last[key]) for key in sorted(last, key=lambda key: (key[0] != "mnist", key[1], key[2]))]
    simple = [
        f"| {row['data']} | {label} | | | | {bits:.3f} | | | {row['commit']} |"
        for row in last.values() for label, bits in row.get("simple", {}).items()
    ]  # fmt: skip
    picture = "\n\n100 samples of `fit_images` after 1,800 s:\n\n![100 samples](images_mnist.png)\n"
    (RESULTS / "images.md").write_text(HEAD + "\n".join(lines + simple) + picture)


def main() -> None:
    path = RESULTS / "images.json"
    for name in sys.argv[1:]:
        more = [json.loads(text) for text in Path(name).read_text().splitlines() if text.startswith("{")]
        path.write_text(json.dumps(json.loads(path.read_text()) + more, indent=1) + "\n")
    write_page()


if __name__ == "__main__":
    main()
