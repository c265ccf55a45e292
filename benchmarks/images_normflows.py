"""Bits per dimension of grey images by normflows' Glow, trained with the care that `fit_images` takes by itself.

    peers/flows/bin/python benchmarks/images_normflows.py --data mnist.npz --seconds 300 1800

AdamW (betas .9, .999) with warm-up and a cosine decay that ends with the time, clipped gradients, averaged weights,
uniform dequantization and the logit of the Real NVP paper; with `--equalize` the numbers that `fit_images` makes of
bytes in place of the logit, with which it learns faster. Rate and batch are those of a grid that give the fewest bits
of validation images after `--tune-seconds` each; validation images then choose among the weights on the way. It needs
normflows and pushforward. Images of few shades need `--equalize`: over 256 bytes the density of a shade grows without
end. A line of JSON for each length, which `images_page.py` takes; `--threads` is of torch.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import commit
from pushforward.images import ByteEncoding, byte_masses

ALPHA = 0.05
WARMUP, CLIP, EMA = 0.03, 1.0, 0.995  # as `fit_images` has them
VALIDATIONS, HELD_OUT = 20, 2000
Encoding = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
GRID = [{"rate": rate, "batch": batch} for rate in (4e-3, 8e-3, 1.6e-2) for batch in (16, 32)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a .npz with x_train and x_test")
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0, 300.0, 900.0, 1800.0])
    parser.add_argument("--levels", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=8, help="of each level")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--tune-seconds", type=float, default=60.0, help="for each point of the grid")
    parser.add_argument("--rate", type=float, help="leaves the grid out, with --batch")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--test", type=int, default=10_000, help="test images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--equalize", action="store_true", help="spread bytes by how often they occur")
    args = parser.parse_args()
    if (args.rate is None) != (args.batch is None):
        parser.error("give both --rate and --batch, or neither")
    return args


def glow(size: tuple[int, int], levels: int, blocks: int, width: int) -> Any:
    """As in normflows' own example, for images (1, H, W)."""
    import normflows as nf  # pyright: ignore[reportMissingImports]

    bases, merges, flows = [], [], []
    for level in range(levels):
        channels = 2 ** (levels + 1 - level)
        steps = [nf.flows.GlowBlock(channels, width, split_mode="channel", scale=True) for _ in range(blocks)]
        flows.append([*steps, nf.flows.Squeeze()])
        if level > 0:
            merges.append(nf.flows.Merge())
        sides = (side // 2 ** (levels - level) for side in size)
        bases.append(nf.distributions.DiagGaussian((channels // 2 if level > 0 else channels, *sides)))
    return nf.MultiscaleFlow(bases, flows, merges, class_cond=False)


def logits(images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes and noise (B, 1, H, W) -> numbers, and the logarithms of their derivatives by the noise."""
    p = ALPHA + (1 - 2 * ALPHA) * (images.float() + noise) / 256
    return p.logit(), math.log(1 - 2 * ALPHA) - p.log() - (1 - p).log() - math.log(256)


def equalized(train: Tensor) -> Encoding:
    """The numbers that `fit_images` makes of bytes."""
    return ByteEncoding(masses=byte_masses([train[:, None]]))


def nats(model: Any, images: Tensor, encoding: Encoding, generator: torch.Generator) -> Tensor:
    """Bytes (B, H, W) -> minus the log-mass of each image (B,), bounded by one uniform noise."""
    y, log_slope = encoding(images[:, None], torch.rand(images[:, None].shape, generator=generator))
    return -log_slope.flatten(1).sum(1).float() - model.log_prob(y.float(), None)


@torch.no_grad()
def mean_bits(model: Any, images: Tensor, encoding: Encoding) -> tuple[float, float]:
    """Bits per dimension of images, and their standard error."""
    generator = torch.Generator().manual_seed(1)
    all_nats = torch.cat([nats(model, part, encoding, generator) for part in images.split(250)]).double()
    bits = all_nats / (images[0].numel() * math.log(2))
    return float(bits.mean()), float(bits.std() / len(bits) ** 0.5)


def trained(
    build: Callable[[], Any], train: Tensor, val: Tensor, encoding: Encoding, seconds: float, rate: float, batch: int,
    seed: int,
) -> tuple[Any, float, int]:  # fmt: skip
    """-> the best model by the validation images, its bits, and the steps; everything counts to the seconds."""
    began = time.time()
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = build()
    with torch.no_grad():
        first = train[torch.randperm(len(train), generator=generator)[:256]]
        nats(model, first, encoding, generator)  # measures its ActNorms
    mean = copy.deepcopy(model).requires_grad_(False)
    parameters, averages = list(model.parameters()), list(mean.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-4, fused=True)
    best, best_bits, steps, done, validate_at, spent = mean, math.inf, 0, 0.0, 1 / VALIDATIONS, 0.0
    while done < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (done + 1e-3) / WARMUP) * 0.5 * (1 + math.cos(math.pi * done))
        rows = train[torch.randint(0, len(train), (batch,), generator=generator)]
        loss = nats(model, rows, encoding, generator).mean()
        optimizer.zero_grad()
        (loss / rows[0].numel()).backward()
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(parameters, CLIP)):
            optimizer.step()
            steps += 1
            with torch.no_grad():
                torch._foreach_lerp_(averages, parameters, max(1 - EMA, 9 / (steps + 9)))
        done = (time.time() - began) / max(seconds - spent, 1e-3)  # the last validation has its time, too
        if done >= validate_at or done >= 1:
            start = time.time()
            bits, _ = mean_bits(mean, val, encoding)
            if bits < best_bits:
                best, best_bits = copy.deepcopy(mean), bits
            spent = time.time() - start
            validate_at = done + max(1 / VALIDATIONS, 10 * spent / seconds)
    return best, best_bits, steps


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    with np.load(args.data) as arrays:
        train, test = arrays["x_train"], arrays["x_test"][: args.test]
    images, test = torch.from_numpy(train), torch.from_numpy(test)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(args.seed))
    held_out = min(HELD_OUT, len(images) // 10)
    val, train = images[order[:held_out]], images[order[held_out:]]
    encoding = equalized(train) if args.equalize else logits
    height, width = test.shape[1:]

    def build() -> Any:
        return glow((height, width), args.levels, args.blocks, args.width)

    def bits_of(setting: dict[str, Any]) -> float:
        bits = trained(build, train, val, encoding, args.tune_seconds, **setting, seed=args.seed)[1]
        print(f"# {setting}: {bits:.4f} validation bits/dim after {args.tune_seconds:g} s", flush=True)
        return bits

    setting = {"rate": args.rate, "batch": args.batch} if args.rate else min(GRID, key=bits_of)
    for seconds in args.seconds:
        model, bits, steps = trained(build, train, val, encoding, seconds, **setting, seed=args.seed)
        test_bits, error = mean_bits(model, test, encoding)
        result = {
            "commit": commit(), "command": shlex.join(["python", *sys.argv]), "data": args.data.stem,
            "seconds": seconds, "recipe": f"normflows Glow, {args.levels} levels of {args.blocks}, width {args.width}",
            **setting, "steps": steps, "parameters": sum(p.numel() for p in model.parameters()), "bits": test_bits,
            "se": error, "bits_32": test_bits * height * width / 32**2, "validation_bits": bits, "test": len(test),
            "equalize": args.equalize, "threads": args.threads, "seed": args.seed,
        }  # fmt: skip
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
