"""Bits per dimension of images against seconds: `python benchmarks/images.py --data mnist.npz --seconds 60`.

The first 10,000 test images by default, scored by one noise each. Bits are told over the bytes of an image and, as for
the padded MNIST of the literature, over 32 x 32: the same nats divided by 1,024. Each length in seconds is a training
of its own, whose schedule ends with it. `--recipe`, `--model` and the settings compare other flows; `--simple` scores
the simple densities that `check` compares with. `images_digits.py` writes scikit-learn's digits.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pushforward as pf
from common import RESULTS, commit
from images_page import write_page
from pushforward.baselines import fit_baselines
from pushforward.images.uses import flow_of

PADDED = 32 * 32


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a .npz with x_train and x_test")
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0, 300.0, 900.0, 1800.0])
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--model", type=json.loads, default={}, help="arguments of the recipe, as JSON")
    parser.add_argument("--training", type=json.loads, default={}, help="settings of the training, as JSON")
    parser.add_argument("--device", help='such as "cuda"; the CPU by default')
    parser.add_argument("--pad", action="store_true")
    parser.add_argument("--test", type=int, default=10_000, help="test images")
    parser.add_argument("--draws", type=int, default=1, help="noises of each test image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simple", action="store_true", help="score simple densities, too")
    parser.add_argument("--out", type=Path, help="a folder for the model and a grid of samples")
    return parser.parse_args()


def run(args: argparse.Namespace, seconds: float, train: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    start = time.perf_counter()
    density = pf.fit_images(
        train, recipe=args.recipe, model=args.model, pad=args.pad, seconds=seconds, seed=args.seed, device=args.device,
        progress="none", **args.training,
    )  # fmt: skip
    wall, summary = time.perf_counter() - start, density.training_summary or {}
    start = time.perf_counter()
    with torch.no_grad():
        nats = -density.log_prob(test, draws=args.draws).double().cpu()
    scoring = time.perf_counter() - start
    start = time.perf_counter()
    samples = density.sample(1000, generator=0).cpu()  # which waits for a GPU
    sampling = time.perf_counter() - start
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        pf.save(density, args.out / f"{args.data.stem}_{seconds:.0f}.safetensors")
        density.space.write(samples[:100], args.out / f"{args.data.stem}_{seconds:.0f}.png")
    bits = nats / (density.dimensions * math.log(2))
    return {
        "data": args.data.stem, "seconds": seconds, "wall": wall, "recipe": args.recipe, "model": args.model,
        "flow": flow_of(density).recipe, "training": args.training, "seed": args.seed, "steps": summary["steps"],
        "parameters": sum(p.numel() for p in density.parameters()),
        "bits": float(bits.mean()), "se": float(bits.std() / len(bits) ** 0.5), "median": float(bits.median()),
        "largest": float(bits.max()), "bits_32": float(nats.mean()) / (PADDED * math.log(2)),
        "validation_bits": summary["bits_per_dim"],
        "skipped": summary["skipped"], "stopped": summary["stopped"], "test": len(test), "draws": args.draws,
        "scoring_1000": scoring / args.draws / len(test) * 1000, "sampling_1000": sampling,
        "simple": simple(density, train, test) if args.simple else {},
    }  # fmt: skip


@torch.no_grad()
def simple(density: pf.ImageDensity, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Bits per dimension of the test images under simple densities, by their names."""
    space = density.space
    fitted = fit_baselines(space.encode(space.read(train), 0), space.sizes, None, 0)
    densities = {baseline.label: space.wrap(baseline) for baseline in fitted.values()}
    densities |= dict(space.baselines(train).values())
    nats = {label: -float(known.log_prob(test).double().mean()) for label, known in densities.items()}
    return {label: value / (density.dimensions * math.log(2)) for label, value in nats.items()}


def main() -> None:
    args = arguments()
    with np.load(args.data) as arrays:
        train, test = arrays["x_train"], arrays["x_test"][: args.test]
    path = RESULTS / "images.json"
    facts = {"commit": commit(), "command": shlex.join(["python", *sys.argv]), "threads": torch.get_num_threads()}
    if args.device and args.device.startswith("cuda"):
        facts["device"] = torch.cuda.get_device_name(args.device)
    for seconds in args.seconds:
        result = run(args, seconds, train, test)
        results = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([*results, facts | result], indent=1) + "\n")
        print(
            f"{seconds:6.0f} s  {result['steps']:6d} steps  {result['bits']:.4f} +- {result['se']:.4f} bits/dim  "
            f"{result['bits_32']:.4f} over 32 x 32  median {result['median']:.4f}, largest {result['largest']:.2f}  "
            f"scoring {result['scoring_1000']:.1f} s and sampling {result['sampling_1000']:.1f} s per 1,000",
            flush=True,
        )
        for label, bits in result["simple"].items():
            print(f"          {bits:.4f} bits/dim by {label}", flush=True)
        write_page()


if __name__ == "__main__":
    main()
