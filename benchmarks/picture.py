"""Draws docs/warped_grid.png, the README's picture: Real NVP on two moons after so many steps, the same seed always.

python benchmarks/picture.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import pushforward as pf
from common import RESULTS, write
from pushforward import plots
from pushforward.toys import TwoMoons

PICTURE = RESULTS.parents[1] / "docs" / "warped_grid.png"


def draw(steps: int, path: Path) -> None:
    """Trains the demo's flow and writes the picture."""
    toy = TwoMoons()
    flow = pf.real_nvp(2, seed=0)

    def points(n: int, generator: torch.Generator) -> torch.Tensor:
        return toy.sample(n, generator=generator)

    pf.fit(flow, points, steps=steps, seed=0, progress="none")
    plots.save_figure(plots.warped_grid(flow), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    args = parser.parse_args()
    draw(args.steps, PICTURE)
    write("picture", {"steps": args.steps}, [f"docs/{PICTURE.name} after {args.steps:,} steps."])


if __name__ == "__main__":
    main()
