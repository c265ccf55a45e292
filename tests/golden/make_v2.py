"""Writes the golden files of simple densities and stacks: `python tests/golden/make_v2.py`. Files that exist are kept.

What stands in the JSON is told in `make_v1_more.py`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch

import pushforward as pf
from pushforward.baselines import fit_baselines

FOLDER = Path(__file__).parent


def mixed(n: int, seed: int) -> torch.Tensor:
    """A state of three and two numbers that depend on it (n, 3)."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.randint(0, 3, (n, 1), generator=generator)
    return torch.cat([state, state + torch.randn(n, 2, generator=generator) * torch.tensor([0.5, 2.0])], 1)


def table(n: int, seed: int) -> pa.Table:
    """A category, a count and two numbers."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    return pa.table({
        "kind": np.array(["a", "b", "c"])[kind], "count": rng.poisson(2 + 2 * kind), "size": rng.normal(kind, 0.5),
        "price": np.exp(rng.normal(kind, 0.3)),
    })  # fmt: skip


def finish(name: str, expected: dict[str, Any], score: Any) -> None:
    """Writes the expectations: scores as saved, and in float64."""
    model = pf.load(path_of(name))
    tensors = [t for k, t in model.state_dict().items() if "precondition" not in k and "weights" not in k.split(".")]
    dtypes = {str(t.dtype).removeprefix("torch.") for t in tensors if t.is_floating_point()}
    print(name, path_of(name).stat().st_size, dtypes)
    expected |= {"dtype": ", ".join(sorted(dtypes)), "tolerance": {"own": 1e-5, "double": 1e-9}}
    with torch.no_grad():
        expected |= score(model)
        expected["double"] = score(model.double())
    path_of(name).with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.safetensors"


def simple() -> None:
    """Simple densities of rows of a state and two numbers."""
    for name, density in fit_baselines(mixed(120, 0), (3,), None, 0).items():
        stem = f"baseline_{name}_v2"
        if path_of(stem).exists():
            continue
        pf.save(density, path_of(stem))
        x = mixed(4, 1).double()
        facts = {"kind": "flow", "covers": density.label, "recipe": None, "x": x.tolist(), "context": None}
        finish(stem, facts, lambda model, x=x: {"log_prob": model.log_prob(x.to(dtype_of(model))).double().tolist()})


def dtype_of(model: torch.nn.Module) -> torch.dtype:
    """Of the numbers of a model."""
    return next(t.dtype for t in model.state_dict().values() if t.is_floating_point())


def heaps(n: int, seed: int) -> pa.Table:
    """Amounts that are rounded to one of several lattices, and prices that mostly end in 99."""
    rng = np.random.default_rng(seed)
    step = rng.choice([1, 10, 100], n)
    price = np.where(rng.random(n) < 0.6, 100 * rng.poisson(9, n) + 99, rng.integers(1, 3000, n))
    return pa.table({"amount": (rng.gamma(4.0, 300.0, n) / step).astype(int) * step, "price": price})


def uneven(n: int, seed: int) -> pa.Table:
    """A number that has one of 60 values, and one beside it."""
    rng = np.random.default_rng(seed)
    station = np.random.default_rng(0).choice(2000, 60, replace=False)[rng.integers(0, 60, n)]
    return pa.table({"station": station, "height": rng.normal(station / 500, 1.0)})


def uneven_heaps(n: int, seed: int) -> pa.Table:
    """Amounts of which half are multiples of 100, all of uneven frequencies, and a number beside them."""
    rng, places = np.random.default_rng(seed), np.random.default_rng(0)
    hundreds, others = places.choice(400, 100, replace=False) * 100, places.choice(40_000, 100, replace=False)
    amount = np.where(rng.random(n) < 0.5, rng.choice(hundreds, n), rng.choice(others, n))
    return pa.table({"amount": amount, "height": rng.normal(amount / 20_000, 1.0)})


def functions(n: int, seed: int) -> pa.Table:
    """Wages with their logarithm, and years with their square."""
    rng = np.random.default_rng(seed)
    log_wage, years = rng.normal(3, 0.5, n), rng.integers(0, 60, n)
    return pa.table({"log_wage": log_wage, "wage": np.exp(log_wage), "years": years, "squared": years**2})


def written(n: int, seed: int) -> pa.Table:
    """Amounts, percentages and dates as texts."""
    rng = np.random.default_rng(seed)
    days = np.datetime64("2024-01-01") + rng.integers(0, 300, n)
    return pa.table({
        "amount": [f"${v:,.2f}" for v in rng.lognormal(7, 1, n)],
        "share": [f"{v:.1f}%" for v in rng.uniform(0, 100, n)],
        "day": [f"{d.month}/{d.day}/{d.year}" for d in days.astype(object)],
        "at": [f"{m // 60:02d}:{m % 60:02d}" for m in rng.integers(0, 1440, n)],
    })  # fmt: skip


def tables() -> None:
    """The stack that few rows of a table get, with a flow among its members; rounded amounts; functions; uneven
    frequencies; numbers and dates as texts."""
    of_table("table_written_v2", "Numbers and dates as texts", written(300, 0), written(6, 1), stack=False)
    of_table("table_stack_v2", "A stack of simple densities and a flow", table(150, 0), table(6, 1))
    of_table("table_heaps_v2", "Wider and wider lattices", heaps(300, 0), heaps(6, 1), stack=False)
    of_table("table_uneven_v2", "Values of uneven frequency", uneven(300, 0), uneven(6, 1), stack=False)
    heaps_of = uneven_heaps(1000, 0), uneven_heaps(6, 1)
    of_table("table_uneven_heaps_v2", "The same on two lattices", *heaps_of, stack=False)
    of_table("table_functions_v2", "Functions of other columns", functions(300, 0), functions(6, 1), stack=False)


def of_table(stem: str, covers: str, train: pa.Table, rows: pa.Table, **settings: Any) -> None:
    """Fits a table; scores rows of it."""
    if path_of(stem).exists():
        return
    density = pf.fit_table(train, steps=30, depth=2, width=8, progress="none", **settings)
    pf.save(density, path_of(stem))
    pyarrow.parquet.write_table(rows, path_of(stem).with_suffix(".parquet"))
    facts = {"kind": "table", "covers": covers, "rows": f"{stem}.parquet"}

    def score(model: Any) -> dict[str, Any]:
        return {"log_prob": model.log_prob(rows).double().tolist(), "draws_3": model.log_prob(rows, draws=3).tolist()}

    flow = getattr(density.inner, "flow", None)  # None of a stack, which has several densities
    finish(stem, {**facts, "recipe": getattr(flow, "recipe", None)}, score)


def autoregressive() -> None:
    """A flow of autoregressive layers, with a context."""
    stem = "autoregressive_spline_flow_v2"
    if path_of(stem).exists():
        return
    flow = pf.autoregressive_spline_flow(3, context_dim=2, depth=2, width=8, bins=4, precondition=True, seed=0)
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(300, 3, generator=generator).exp(), torch.randn(300, 2, generator=generator)
    pf.fit(flow, x, context=context, steps=30, progress="none")
    pf.save(flow, path_of(stem))
    x, context = x[:6].double(), context[:6].double()
    facts = {
        "kind": "flow", "covers": "Autoregressive layers", "recipe": flow.recipe, "x": x.tolist(),
        "context": context.tolist(),
    }  # fmt: skip

    def score(model: Any) -> dict[str, Any]:
        dtype = dtype_of(model)
        return {"log_prob": model.log_prob(x.to(dtype), context.to(dtype)).double().tolist()}

    finish(stem, facts, score)


def equalized() -> None:
    """Images whose bytes are spread by how often they occur, with learned noise."""
    stem = "images_equalized_v2"
    if path_of(stem).exists():
        return
    images = torch.tensor([0, 90, 255], dtype=torch.uint8)[torch.arange(60 * 32).view(60, 4, 8) * 7 % 11 % 3]
    density = pf.fit_images(
        images, recipe="patch_flow", model={"depths": [2, 1], "widths": [4, 4], "bins": 3}, steps=3, progress="none",
        dequantization="variational",
    )  # fmt: skip
    pf.save(density, path_of(stem))
    x = images[:3].clone()
    x[2, 0, 0] = 100
    facts = {
        "kind": "flow", "covers": "Images whose bytes are equalised", "recipe": density.inner.recipe,
        "x": (x.double() / 255).tolist(), "context": None,
    }  # fmt: skip
    finish(stem, facts, lambda model: {"log_prob": model.log_prob(x).double().tolist()})


if __name__ == "__main__":
    torch.set_num_threads(1)
    simple()
    tables()
    autoregressive()
    equalized()
