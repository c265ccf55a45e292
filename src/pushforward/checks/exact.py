"""How far flows are from exact: round trips, log-determinants against autograd's Jacobian, and integrals."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..density import Density, InnerFlow, Tensors
from ..flow import Flow
from .evidence import Evidence, as_array
from .integral import LogProb, density_of, importance, quadrature
from .report import Section
from .stats import BAD, GOOD, UNKNOWN, Array, normal_noise, worst
from .thresholds import rate

_JACOBIAN_ROWS = 100
_ROWS = 3000
_TRUSTED, _SURE = 0.1, 0.01  # error of an integral; of one by quadrature alone that raises an alarm
_IMPORTANCE_COLUMNS = 10
_JACOBIAN_WORK = 3e6  # rows x squared columns of the Jacobians
_SAMPLES = 6000


def exactness(flow: Flow, x: Any, context: Any = None) -> dict[str, float]:
    """How far a flow is from exact, on rows x (N, *shape), in the flow's own dtype.

    Args:
        flow: any flow.
        x: (N, *shape), in data units, at least one row.
        context: (N, K), or one context (K,) for all rows.

    Returns:
        `roundtrip_max`: the largest |g(f(x)) - x| over all rows and entries, in data units (the rounding of a column
        grows with its scale); `logdet_max`: the largest |log_det - log|det J|| in nats, with J the Jacobian dz/dx by
        autograd in float64, on at most 100 rows spread evenly over x.

    Raises:
        ValueError: x or the context has the wrong shape, or there are no rows.
    """
    _, rows, contexts = flow.inner_flows(x, context)[0]
    if len(rows) == 0:
        raise ValueError("x has no rows to check")
    rows = rows.detach()
    with torch.no_grad():
        z, _ = flow.f(rows, contexts)
        roundtrip = (flow.g(z, contexts) - rows).abs().max()
    chosen = torch.arange(0, len(rows), math.ceil(len(rows) / _JACOBIAN_ROWS), device=rows.device)
    few, few_contexts = rows[chosen], None if contexts is None else contexts[chosen]
    with torch.no_grad():
        log_det = flow.f(few, few_contexts)[1]
    # The Jacobian of the same map in float64: in float32 rounding would leave little of a small determinant.
    truth = _log_det(copy.deepcopy(flow).double(), few.double(), few_contexts)
    return {"roundtrip_max": float(roundtrip), "logdet_max": float((log_det.double() - truth).abs().max())}


def _log_det(flow: Flow, x: Tensor, context: Tensor | None) -> Tensor:
    """log|det dz/dx| by autograd: x (N, *shape), context (N, K) -> (N,)."""
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        z = flow.f(x, context)[0].flatten(1)
        # A row's z depends on that row alone: the gradient of a column's sum holds that column's gradient of each row.
        lines = [
            torch.autograd.grad(z[:, i].sum(), x, retain_graph=True, materialize_grads=True)[0].flatten(1)
            for i in range(z.shape[1])
        ]
    # One by one: torch factorises a batch in threads, within which MKL's own threads can hang.
    return torch.stack([torch.linalg.slogdet(jacobian).logabsdet for jacobian in torch.stack(lines, 1)])


def exact(e: Evidence) -> Section:
    """Whether each flow inverts, its log-determinant is that of its Jacobian, and its density integrates to 1."""
    section = Section("exactness", "Exactness")
    if bool((~np.isfinite(e.log_test)).all()):
        section.add("map", BAD, "no held-out row has a finite log-density")
        return section
    chosen = e.rng(2).permutation(len(e.test))[:_ROWS]
    rows = e.test[chosen]
    flows = [part for part in e.density.inner_flows(rows.values, rows.context) if len(part.x)]
    first = int(e.numbers[e.index[chosen[0]]])
    if not flows:
        space = e.density.space
        if isinstance(space, Tensors) and not space.sizes:
            # Other densities may be slow, as a kernel density is.
            _integrals([e.density], space.shape, rows.flat_context, first, e.seed, section, refinements=1)
        else:
            section.missing = "there is no flow of numbers in this density"
        return section
    precision = str(_precision(flows[0])).removeprefix("torch.")
    errors = {precision: _largest([_errors(part) for part in flows])}
    if precision != "float64":
        errors["float64"] = _largest([_errors(_doubled(part)) for part in flows])
    section.figures |= {"rows": len(rows), **{f"{k}_{name}": v for name, f in errors.items() for k, v in f.items()}}
    for name, f in errors.items():
        remark = f"spreads at most, {f['roundtrip_99']:.1e} without the worst 1 % of rows, in {name}"
        section.table.append(["round trip", f"{f['roundtrip_max']:.1e}", remark])
    both = ", ".join(f"{f['logdet_max']:.1e}" for f in errors.values())
    section.table.append(["log-det against autograd", both, f"nats at most, in {' and '.join(errors)}"])
    _map(errors["float64"], errors[precision], precision, section)
    _integrals([part.flow for part in flows], flows[0].flow.shape, flows[0].context, first, e.seed, section)
    return section


def _map(exactly: dict[str, float], rounded: dict[str, float], precision: str, section: Section) -> None:
    """Findings from the errors in float64 and in the model's precision."""
    by = {key: rate("map", exactly[key], 0) for key in ("logdet_max", "roundtrip_99")}
    verdict, key = worst(list(by.values())), max(by, key=lambda k: exactly[k])
    why = "the map inverts, and its log-determinant is the Jacobian's"
    if verdict != GOOD:
        which = "log-determinant" if key == "logdet_max" else "inverse"
        why = f"the map's {which} is wrong by {exactly[key]:.2g}, in float64 too: the densities are no densities"
    section.add("map", verdict, why)
    rounding = worst([rate("rounding", rounded[key], 0) for key in by])
    if verdict == GOOD and rounding != GOOD:
        section.add("rounding", rounding, f"{precision} rounding is visible: use the model in float64")


def _errors(part: InnerFlow) -> dict[str, float]:
    """Round trip in spreads, of the worst row and of all but a hundredth of them; log-det error in nats."""
    flow, x, context = part
    with torch.no_grad():
        z, _ = flow.f(x, context)
        difference = as_array((flow.g(z, context) - x).flatten(1))
    error = np.nan_to_num(abs(difference) / _spread(as_array(x.flatten(1))), nan=np.inf).max(1)
    few = max(3, min(_JACOBIAN_ROWS, int(_JACOBIAN_WORK / difference.shape[1] ** 2)))
    log_det = exactness(flow, x[:few], None if context is None else context[:few])["logdet_max"]
    return {
        "roundtrip_max": float(error.max()),
        "roundtrip_99": float(np.quantile(error, 0.99, method="lower")),
        "logdet_max": log_det if math.isfinite(log_det) else math.inf,
    }


def _spread(x: Array) -> Array:
    """x (N, D) -> the spread of each column (D,), the size of its values where it is constant."""
    spread = np.maximum(np.ptp(np.quantile(x, [0.05, 0.95], axis=0), axis=0) / 3.3, x.std(0))
    return np.where(spread > 0, spread, np.maximum(abs(x[0]), 1.0))


def _largest(errors: list[dict[str, float]]) -> dict[str, float]:
    return {name: max(of_flow[name] for of_flow in errors) for name in errors[0]}


def _precision(part: InnerFlow) -> torch.dtype:
    """Of a flow's parameters, which rows of float64 do not change; of the rows where there are none."""
    return next((p.dtype for p in part.flow.parameters()), part.x.dtype)


def _doubled(part: InnerFlow) -> InnerFlow:
    context = None if part.context is None else part.context.double()
    return InnerFlow(copy.deepcopy(part.flow).double(), part.x.double(), context)


def _integrals(
    densities: Sequence[Density], shape: tuple[int, ...], context: Tensor | None, first: int, seed: int,
    section: Section, *, refinements: int = 2,
) -> None:  # fmt: skip
    """The finding on the integral that is farthest from 1, over tensors of a shape, given the first context (N, K)."""
    width = math.prod(shape)
    if width > _IMPORTANCE_COLUMNS:
        remark = f"not taken: importance sampling is not to be trusted above {_IMPORTANCE_COLUMNS} dimensions"
        section.table.append(["integral of the density", "", remark])
        return
    given = None if context is None else context[:1]
    taken = [figures for density in densities if (figures := _integral(density, shape, given, seed, refinements))]
    if not taken:
        section.table.append(["integral of the density", "", "not taken: the samples do not spread"])
        return
    far = max(taken, key=lambda f: abs(f["integral"] - 1) if math.isfinite(f["integral"]) else math.inf)
    section.figures |= {k: far[k] for k in ("integral", "integral_error", "effective_draws") if k in far}
    draws = far.get("effective_draws")
    how = "by quadrature" if draws is None else f"by importance sampling, {draws:,.0f} effective draws"
    how += "" if context is None else f", given those of row {first}"
    how += "" if len(taken) == 1 else f", the farthest from 1 of {len(taken)} flows"
    text = f"{far['integral']:.4f} +- {far['integral_error']:.4f}"
    how += "" if far["trusted"] else ": too rough to be trusted"
    section.table.append(["integral of the density", text, how])
    if far["trusted"] or not math.isfinite(far["integral"]):
        verdict = rate("integral", abs(far["integral"] - 1), far["noise"])
        does = "integrates" if verdict in (GOOD, UNKNOWN) else "does not integrate to 1 but"
        section.add("integral", verdict, f"the density {does} to {text}")


def _integral(
    density: Density, shape: tuple[int, ...], context: Tensor | None, seed: int, refinements: int
) -> dict[str, float] | None:  # fmt: skip
    """The integral of a density of tensors given a context (1, K); None where its samples do not spread."""
    drawn = density.sample(_SAMPLES, context, generator=seed).reshape(_SAMPLES, -1)
    samples = as_array(drawn[drawn.isfinite().all(1)])
    if len(samples) < 100 or bool((samples == samples[0]).all(0).any()):
        return None
    log_prob = density_of(lambda x: density.log_prob(x.to(drawn.device).view(-1, *shape), context))
    if samples.shape[1] <= 2:
        value, error = quadrature(log_prob, samples, refinements=refinements)
        figures: dict[str, float] = {"integral": value, "integral_error": error, "noise": error}
        figures["trusted"] = error < _TRUSTED
        if not figures["trusted"] or rate("integral", abs(value - 1), error) == GOOD:
            return figures
        # A grid may miss a narrow part, and be off at a jump, unawares: an alarm asks for both ways to agree.
        other = _by_importance(log_prob, samples, seed)
        agree = abs(value - other["integral"]) <= error + other["noise"]
        if other["trusted"]:
            return figures if agree else other
        return figures | {"trusted": error < _SURE}
    return _by_importance(log_prob, samples, seed)


def _by_importance(log_prob: LogProb, samples: Array, seed: int) -> dict[str, float]:
    """The integral as `_integral` gives it."""
    taken = importance(log_prob, samples, seed)
    trusted = taken["effective"] > 300 and taken["largest"] < 0.05
    figures = {
        "integral": taken["integral"],
        "integral_error": taken["se"],
        "noise": normal_noise(sides=2) * taken["se"],
    }
    return figures | {"effective_draws": taken["effective"], "trusted": trusted}
