"""Hard rows of known density: how many nats the defaults are short of the truth.

    python benchmarks/truths.py

Heavy tails, columns that nearly determine each other, counts over six decades as context, a spike beside a broad hill,
and a hundred columns of which five hang together: rows that a flow of standardised columns misses by up to 40 nats.
Each case is 20,000 rows (`few` is 1,000), and is learned by `fit("auto")` within the seconds given and by
`FlowDensity`. The gap is the mean over 20,000 fresh rows of the true log-density minus the model's, in nats a row, with
its standard error. Beside it is the gap of the best of the simple densities (`pushforward.baselines`).
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Cauchy, MixtureSameFamily, MultivariateNormal, Normal, StudentT

import pushforward as pf
from common import write
from pushforward.baselines import fit_baselines

ROWS, FEW, TEST = 20_000, 1_000, 20_000


@dataclass
class Case:
    """Rows whose density is known.

    Attributes:
        draw: n -> x (n, D) float64, context (n, K) or None.
        log_prob: x, context -> (n,).
        rows: to learn from.
    """

    draw: Callable[[int], tuple[Tensor, Tensor | None]]
    log_prob: Callable[[Tensor, Tensor | None], Tensor]
    rows: int = ROWS


def independent(column: torch.distributions.Distribution, columns: int) -> Case:
    """Columns that do not know each other."""
    return Case(
        lambda n: (column.sample(torch.Size([n, columns])).double(), None), lambda x, _: column.log_prob(x).sum(1)
    )


def linear(scales: np.ndarray, rows: int = ROWS, degrees: float = math.inf) -> Case:
    """Normal rows, or Student-t rows, turned at random, with these standard deviations before."""
    d = len(scales)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0] * scales
    matrix, log_det = torch.from_numpy(turn), float(np.log(scales).sum())

    def draw(n: int) -> tuple[Tensor, None]:
        z = torch.randn(n, d, dtype=torch.float64)
        if degrees < math.inf:
            z = z / (torch.distributions.Chi2(degrees).sample((n, 1)).double() / degrees).sqrt()
        return z @ matrix.mT, None

    def log_prob(x: Tensor, _: Tensor | None) -> Tensor:
        square = torch.linalg.solve(matrix, x.mT).square().sum(0)
        if degrees == math.inf:
            return -0.5 * square - 0.5 * d * math.log(2 * math.pi) - log_det
        constant = math.lgamma((degrees + d) / 2) - math.lgamma(degrees / 2) - 0.5 * d * math.log(degrees * math.pi)
        return constant - log_det - 0.5 * (degrees + d) * (square / degrees).log1p()

    return Case(draw, log_prob, rows)


def counts() -> Case:
    """A column whose mean is the logarithm of a count, 1 to a million."""

    def draw(n: int) -> tuple[Tensor, Tensor]:
        count = (10 ** (6 * torch.rand(n, 1, dtype=torch.float64))).round()
        return count.log() + torch.randn(n, 1, dtype=torch.float64), count

    return Case(draw, lambda x, context: Normal(context.log(), 1.0).log_prob(x)[:, 0])  # type: ignore[union-attr]


def spike(columns: int, width: float, distance: float = 3.0) -> Case:
    """Half of the rows in a broad hill, half in a spike beside it."""
    zero, one = torch.zeros(columns, dtype=torch.float64), torch.ones(columns, dtype=torch.float64)
    parts = MultivariateNormal(
        torch.stack([zero, distance * one]), scale_tril=torch.stack([one.diag(), width * one.diag()])
    )
    mixture = MixtureSameFamily(torch.distributions.Categorical(torch.ones(2, dtype=torch.float64)), parts)
    return Case(lambda n: (mixture.sample((n,)), None), lambda x, _: mixture.log_prob(x))


def few_of_many(columns: int = 100) -> Case:
    """Five columns on a bent surface, and others that know nothing of anything."""

    def residuals(x: Tensor) -> Tensor:
        z = x.clone()
        z[:, 1] = (x[:, 1] - x[:, 0].square() + 1) / 0.3
        z[:, 2] = (x[:, 2] - x[:, 0] * x[:, 1].tanh()) / 0.3
        z[:, 3] = (x[:, 3] - 2 * x[:, 1].sin()) / 0.3
        z[:, 4] = (x[:, 4] - x[:, 2] - x[:, 3]) / 0.3
        return z

    def draw(n: int) -> tuple[Tensor, None]:
        x = torch.randn(n, columns, dtype=torch.float64)
        x[:, 1] = 0.3 * x[:, 1] + x[:, 0].square() - 1
        x[:, 2] = 0.3 * x[:, 2] + x[:, 0] * x[:, 1].tanh()
        x[:, 3] = 0.3 * x[:, 3] + 2 * x[:, 1].sin()
        x[:, 4] = 0.3 * x[:, 4] + x[:, 2] + x[:, 3]
        return x, None

    return Case(draw, lambda x, _: Normal(0.0, 1.0).log_prob(residuals(x)).sum(1) - 4 * math.log(0.3))


CASES: dict[str, Case] = {
    "Cauchy, 2 columns": independent(Cauchy(0.0, 1.0), 2),
    "Student-t 1.5, 2 columns": independent(StudentT(1.5), 2),
    "Student-t 1.5 in 3 columns together": linear(np.array([1.0, 0.5, 0.1]), degrees=1.5),
    "condition number 1e8, 10 columns": linear(np.logspace(0, -4, 10)),
    "condition number 1e12, 20 columns": linear(np.logspace(0, -6, 20)),
    "condition number 1e12, 20 columns, few rows": linear(np.logspace(0, -6, 20), FEW),
    "counts as context": counts(),
    "spike of .01 beside a hill, 1 column": spike(1, 0.01),
    "spike of .001 beside a hill, 1 column": spike(1, 0.001),
    "spike of .01 beside a hill, 2 columns": spike(2, 0.01),
    "5 of 100 columns": few_of_many(),
}


def gap(truth: Tensor, log_prob: Tensor) -> dict[str, float]:
    """Nats short of the truth (N,), and their standard error."""
    short = truth - log_prob.double()
    return {"gap": float(short.mean()), "error": float(short.std() / math.sqrt(len(short)))}


def of_auto(case: Case, seconds: float) -> dict[str, object]:
    """Of `fit("auto")`."""
    (x, context), (test, test_context) = drawn(case)
    start = time.perf_counter()
    fit = pf.fit("auto", x, context=context, seconds=seconds, progress="none")
    took = time.perf_counter() - start
    assert fit.density is not None
    with torch.no_grad():
        log_prob = fit.density.log_prob(test, test_context)
    return {**gap(case.log_prob(test, test_context), log_prob), "seconds": took, "summary": fit.summary}


def of_estimator(case: Case, seconds: float) -> dict[str, object]:
    """Of `FlowDensity`."""
    (x, context), (test, test_context) = drawn(case)
    start = time.perf_counter()
    given, test_given = (None if c is None else c.numpy() for c in (context, test_context))
    model = pf.FlowDensity(seconds=seconds, random_state=0).fit(x.numpy(), context=given)
    took = time.perf_counter() - start
    scores = torch.from_numpy(model.score_samples(test.numpy(), context=test_given))
    return {**gap(case.log_prob(test, test_context), scores), "seconds": took}


def of_simple(case: Case, seconds: float) -> dict[str, object]:
    """Of the best simple density, as the test rows judge."""
    (x, context), (test, test_context) = drawn(case)
    truth, fitted = case.log_prob(test, test_context), fit_baselines(x, (), context, 0)
    gaps = {name: gap(truth, density.log_prob(test, test_context)) for name, density in fitted.items()}
    best = min(gaps, key=lambda name: gaps[name]["gap"])
    return {**gaps[best], "name": best}


KINDS = {"auto": of_auto, "FlowDensity": of_estimator, "simple": of_simple}


def drawn(case: Case) -> tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]:
    """Rows to learn from and to judge by, each with its context; the same every time."""
    torch.manual_seed(0)
    return case.draw(case.rows), case.draw(TEST)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", default="", help="part of the names of the cases; then nothing is written")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, object] = {"seconds": options.seconds}
    table = [f"| nats short of the truth | {' | '.join(options.kinds)} |", "|---" * (len(options.kinds) + 1) + "|"]
    for name, case in CASES.items():
        if options.only in name:
            found = {kind: KINDS[kind](case, options.seconds) for kind in options.kinds}
            results[name] = found
            cells = [f"{r['gap']:.3f} ± {r['error']:.3f} {r.get('name', '')}".strip() for r in found.values()]
            table.append(f"| {name} | {' | '.join(cells)} |")
            print(table[-1], flush=True)
    if not options.only:
        write("truths", results, table)


if __name__ == "__main__":
    main()
