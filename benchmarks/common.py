"""What every benchmark shares: the machine, the matrix-product rate, the notebook's plain model, and the results."""

from __future__ import annotations

import ast
import json
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pushforward as pf

RESULTS = Path(__file__).parent / "results"
CODE = ("src", ":(glob)benchmarks/*.py")


class PlainRealNVP(nn.Module):
    """The course notebook's Real NVP as students write it: binary masks, separate s and t networks, no chunks."""

    def __init__(self, depth: int = 6, width: int = 256) -> None:
        super().__init__()
        self.prior = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
        self.register_buffer("mask", torch.tensor([[0.0, 1.0], [1.0, 0.0]] * (depth // 2)))

        def net(last: list[nn.Module]) -> nn.Module:
            hidden = [nn.Linear(2, width), nn.LeakyReLU(), nn.Linear(width, width), nn.LeakyReLU()]
            return nn.Sequential(*hidden, nn.Linear(width, 2), *last)

        self.s = nn.ModuleList(net([nn.Tanh()]) for _ in range(depth))
        self.t = nn.ModuleList(net([]) for _ in range(depth))

    def f(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det, z = x.new_zeros(x.shape[0]), x
        for i in reversed(range(len(self.t))):
            kept = self.mask[i] * z
            s, t = self.s[i](kept) * (1 - self.mask[i]), self.t[i](kept) * (1 - self.mask[i])
            z = (1 - self.mask[i]) * (z - t) * torch.exp(-s) + kept
            log_det = log_det - s.sum(dim=1)
        return z, log_det

    def g(self, z: Tensor) -> Tensor:
        x = z
        for i in range(len(self.t)):
            kept = x * self.mask[i]
            s, t = self.s[i](kept) * (1 - self.mask[i]), self.t[i](kept) * (1 - self.mask[i])
            x = kept + (1 - self.mask[i]) * (x * torch.exp(s) + t)
        return x

    def log_prob(self, x: Tensor) -> Tensor:
        z, log_det = self.f(x)
        return self.prior.log_prob(z) + log_det

    def sample(self, n: int) -> Tensor:
        return self.g(self.prior.sample((n,)))


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleaved(functions: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Runs each once to warm up, then all in turn, so that a noisy machine is noisy to all of them."""
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(function())
    return times


def matmul_gflops(width: int) -> float:
    """The float32 matrix-product rate at a conditioner's width, GFLOP/s: the best of several numbers of rows."""
    best = 0.0
    for rows in (1024, 2048, 4096):
        a, b, out = torch.randn(rows, width), torch.randn(width, width), torch.empty(rows, width)
        repeats = 60 * 4096 // rows
        for _ in range(10):
            torch.mm(a, b, out=out)
        taken = seconds(lambda a=a, b=b, out=out, n=repeats: [torch.mm(a, b, out=out) for _ in range(n)])
        best = max(best, repeats * 2 * rows * width**2 / taken / 1e9)
    return best


def conditioner_flop(flow: pf.Flow) -> int:
    """Floating-point operations of one row's matrix products in one direction."""
    return sum(2 * p.numel() for name, p in flow.named_parameters() if p.ndim == 2 and ".weights." in name)


def commit() -> str:
    """The last commit that changed the package or the benchmarks, in short; "" outside of git.

    A + stands behind it where they differ from what is committed. A commit of results alone does not change it.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).resolve().parents[1]), *arguments, "--", *CODE]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return git("log", "-1", "--format=%h") + ("+" if git("status", "--porcelain") else "")


def is_unchanged(since: str, files: Sequence[Path]) -> bool:
    """Whether files of code are what they were at a commit, but for comments and docstrings."""

    def then(file: Path) -> str:
        command = ["git", "-C", str(file.parent), "show", f"{since}:./{file.name}"]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout

    return all(_code(then(file)) == _code(file.read_text()) for file in files)


def _code(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0] = ast.Expr(ast.Constant(None))
    return ast.dump(tree)


def machine() -> dict[str, object]:
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    return {
        "commit": commit(),
        "command": shlex.join(["python", *sys.argv]),
        "cpu": model,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def load(name: str) -> dict[str, Any]:
    """A result that `write` kept; empty where there is none."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def last_line(error: str) -> str:
    """What an error of a process says, in one line that fits a cell of a table."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return (lines[-1] if lines else "ended without a word").replace("|", "/")[:200]


def median(values: list[float]) -> float:
    return statistics.median(values)


def write(name: str, result: dict[str, object], table: list[str], show: bool = True) -> None:
    """Keeps a result as JSON and as a Markdown table, and prints the table if it is to be shown."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **result}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    facts = ", ".join(f"{k} {v}" for k, v in machine().items() if k != "command")
    lines = [f"# {name}", "", f"`{machine()['command']}`", "", *table, "", facts, ""]
    (RESULTS / f"{name}.md").write_text("\n".join(lines))
    if show:
        print("\n".join(table))
