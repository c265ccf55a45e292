"""What a CUDA device makes of pushforward, beside zuko and nflows where they are installed.

    python benchmarks/gpu.py [--bsds300 FOLDER]

Matrix-product rates, rows a second of log_prob and sampling, training steps, seconds to a gap of .01 nats on two moons,
and, given a folder with train.npy, validation.npy and test.npy, the test log-likelihood of bsds300 after 5 minutes.
Without a CUDA device it says so and ends. `--device cpu --small` runs every part once, to see that it works.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import pushforward as pf
from common import conditioner_flop, last_line, write
from peer import TORCH
from pushforward.toys import TwoMoons

PEERS = [name for name in ("zuko", "nflows") if importlib.util.find_spec(name)]
GAP = 0.01
MOONS_POINTS = 200_000  # of 20,000 the standard error is as large as what is to be told apart
MOONS_SECONDS = (1, 2, 4, 8, 16, 32, 64)
# name, features, depth, width, rows to score, rows of a step
SIZES = (
    ("D = 2, 6 x 256-256", 2, 6, 256, 4_000_000, 16_384),
    ("D = 43, 10 x 512-512", 43, 10, 512, 1_000_000, 4096),
)


class Bench:
    """A device, and a clock that waits for it."""

    def __init__(self, device: str, small: bool) -> None:
        self.device, self.small = torch.device(device), small
        self.lines: list[str] = []
        self.result: dict[str, object] = {}

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], object], repeats: int = 5) -> float:
        """The median of several runs, after one to warm up."""
        times = []
        for _ in range(1 + (1 if self.small else repeats)):
            self.wait()
            start = time.perf_counter()
            run()
            self.wait()
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])

    @contextlib.contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Tells what fails within, with its error, and goes on."""
        try:
            yield
        except Exception as error:
            self.result[name] = f"{type(error).__name__}: {error}"
            self.lines.append(f"| {name} | failed: {last_line(str(self.result[name]))} |")
            print(self.lines[-1], flush=True)

    def tell(self, name: str, value: float, unit: str) -> None:
        self.result[f"{name} ({unit})"] = value
        self.lines.append(f"| {name} | {value:,.4g} {unit} |")
        print(self.lines[-1], flush=True)


def products(bench: Bench) -> dict[int, float]:
    """Matrix-product rates; -> the float32 rate at each width of `SIZES`, in FLOP/s."""
    rates = {}
    for width in (256, 512, 4096):
        rows = 512 if bench.small else 65_536 if width < 4096 else 4096
        for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
            a = torch.randn(rows, width, device=bench.device, dtype=dtype)
            b = torch.randn(width, width, device=bench.device, dtype=dtype)
            taken = bench.seconds(lambda a=a, b=b: [torch.mm(a, b) for _ in range(10)]) / 10
            bench.tell(f"{name} products, {rows:,} x {width} x {width}", 2 * rows * width**2 / taken / 1e12, "TFLOP/s")
            if name == "float32":
                rates[width] = 2 * rows * width**2 / taken
    return rates


def scoring(bench: Bench, name: str, features: int, depth: int, width: int, rows: int, rate: float) -> None:
    x = torch.randn(rows, features, device=bench.device)
    flow = pf.real_nvp(features, depth=depth, width=width, mixing="flip", seed=0).to(bench.device)
    ours: dict[str, Callable[[str | None], object]] = {
        "log_prob": lambda precision: flow.log_prob(x, precision=precision),
        "sample": lambda precision: flow.sample(rows, precision=precision),
    }
    with torch.no_grad():
        for task, run in ours.items():
            taken = bench.seconds(lambda run=run: run(None))
            bench.tell(f"{task}, {name}", rows / taken, "rows/s")
            share = conditioner_flop(flow) * rows / taken / rate
            bench.tell(f"{task}, {name}, of the float32 rate", share * 100, "%")
            bench.tell(f"{task}, {name}, bf16", rows / bench.seconds(lambda run=run: run("bf16")), "rows/s")
        assert flow.rounding is not None
        bench.tell(f"{name}, mean difference of bf16", flow.rounding.mean, "nats")
        for peer in PEERS:
            with bench.device, bench.naming(f"{peer}: scoring, {name}"):
                model, log_prob, sample = TORCH[peer](features, depth, width)
                model.to(bench.device)
                bench.tell(f"{peer}: log_prob, {name}", rows / bench.seconds(lambda f=log_prob: f(x)), "rows/s")
                bench.tell(f"{peer}: sample, {name}", rows / bench.seconds(lambda f=sample: f(rows)), "rows/s")


def training(bench: Bench, name: str, features: int, depth: int, width: int, batch: int) -> None:
    steps = 2 if bench.small else 50
    flow = pf.real_nvp(features, depth=depth, width=width, mixing="flip", seed=0).to(bench.device)
    x = torch.randn(batch * steps, features, device=bench.device)
    records = pf.train(flow, x, batch=batch, epochs=100, val_fraction=0.0, patience=None)
    taken = bench.seconds(lambda: next(records)) / steps
    bench.tell(f"training step, {name}, batch {batch:,}", taken * 1e3, "ms")
    for peer in PEERS:
        with bench.naming(f"{peer}: training step, {name}, batch {batch:,}"):
            with bench.device:
                model, log_prob, _ = TORCH[peer](features, depth, width)
            model.to(bench.device)
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
            run = lambda f=log_prob, o=optimizer: [peer_step(f, o, x[:batch]) for _ in range(steps)]  # noqa: E731
            bench.tell(f"{peer}: training step, {name}, batch {batch:,}", bench.seconds(run) / steps * 1e3, "ms")


def peer_step(log_prob: Callable[..., torch.Tensor], optimizer: torch.optim.Optimizer, x: torch.Tensor) -> None:
    optimizer.zero_grad()
    (-log_prob(x).mean()).backward()
    optimizer.step()


def moons(bench: Bench) -> None:
    """The shortest of the trainings that ends within the gap; each is a run of its own, whose schedule ends with it."""
    toy = TwoMoons()
    x = toy.sample(2_000 if bench.small else MOONS_POINTS, generator=torch.Generator().manual_seed(12345))
    truth = toy.log_prob(x).double()
    for seconds in MOONS_SECONDS[:1] if bench.small else MOONS_SECONDS:
        flow = pf.real_nvp(2, seed=0).to(bench.device)
        rows = toy.sample(1_000_000, generator=torch.Generator().manual_seed(1))
        pf.fit(flow, rows.to(bench.device), seconds=seconds, batch=4096, progress="none")
        with torch.no_grad():
            difference = truth - flow.log_prob(x.to(bench.device)).double().cpu()
        gap = float(difference.mean())
        bench.tell(f"two moons, gap after {seconds} s", gap, "nats")
        bench.tell(
            f"two moons, standard error of the gap after {seconds} s", float(difference.std()) / len(x) ** 0.5, "nats"
        )
        if gap <= GAP:
            bench.tell(f"two moons, seconds to a gap of {GAP}", seconds, "s")
            return


def bsds300(bench: Bench, folder: Path, seconds: float) -> None:
    train, val, test = (
        torch.from_numpy(np.load(folder / f"{part}.npy")).float().to(bench.device)
        for part in ("train", "validation", "test")
    )
    flow = pf.spline_flow(train.shape[1], seed=0).to(bench.device)
    pf.fit(flow, train, val, seconds=seconds, batch=4096, progress="none")
    with torch.no_grad():
        scores = flow.log_prob(test)
    bench.tell(f"bsds300, test log-likelihood after {seconds:g} s", float(scores.mean()), "nats")
    bench.tell("bsds300, standard error", float(scores.std()) / len(scores) ** 0.5, "nats")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, once, writing nothing")
    parser.add_argument("--bsds300", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("No CUDA device here: nothing was measured.")
        return
    warnings.filterwarnings("ignore", "precision='bf16'")  # the table tells it
    bench = Bench(args.device, args.small)
    rates = products(bench)
    for name, features, depth, width, rows, batch in SIZES:
        scoring(bench, name, features, depth, width, 2000 if args.small else rows, rates[width])
        for size in (100, 256 if args.small else batch):
            training(bench, name, features, depth, width, size)
    moons(bench)
    if args.bsds300:
        bsds300(bench, args.bsds300, 5 if args.small else 300)
    if not args.small:
        device = torch.cuda.get_device_name() if bench.device.type == "cuda" else args.device
        write("gpu", {"device": device, **bench.result}, [f"| {device} | |", "|---|---|", *bench.lines])


if __name__ == "__main__":
    main()
