"""How far a flow is from exact: its round trip, and its log-determinant against that of the autograd Jacobian."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch

from ..flow import Flow
from .evidence import Evidence
from .integral import density_of, importance, quadrature
from .report import Section
from .stats import BAD, UNKNOWN, Array, judge, worst
from .subject import FlowSubject, take

_JACOBIAN_ROWS = 100
_ROWS = 3000
_MAP = (
    1e-4,
    1e-2,
)  # good, bad: the round trip in spreads and the log-det in nats, in float64, where only mistakes show
_ROUNDING = (1e-2, 0.5)  # the same of all but a hundredth of the rows, in the model's own precision
_INTEGRAL = (0.02, 0.1)
_IMPORTANCE_COLUMNS = 10
_JACOBIAN_WORK = 3e6  # rows x squared columns of the Jacobians


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
    rows, contexts, _ = flow._rows(x, context)
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
    few = few.double().requires_grad_()
    with torch.enable_grad():
        z, _ = copy.deepcopy(flow).double().f(few, few_contexts)
        flat = z.flatten(1)
        # A row's z depends on that row alone: the gradient of a column's sum holds that column's gradient of each row.
        lines = [
            torch.autograd.grad(flat[:, i].sum(), few, retain_graph=True, materialize_grads=True)[0].flatten(1)
            for i in range(flat.shape[1])
        ]
    truth = torch.linalg.slogdet(torch.stack(lines, 1)).logabsdet
    return {"roundtrip_max": float(roundtrip), "logdet_max": float((log_det.double() - truth).abs().max())}


def exact(e: Evidence) -> Section:
    """Whether the map inverts, its log-determinant is that of its Jacobian, and the density integrates to 1."""
    section = Section("exactness", "Exactness", UNKNOWN, "")
    if bool((~np.isfinite(e.log_test)).all()):
        section.verdict, section.why = BAD, "no held-out row has a finite log-density"
        return section
    inner = e.subject.inner(take(e.test, e.rng(2).permutation(len(e.test))[:_ROWS]))
    if inner is None or len(inner[1]) == 0:
        section.why = "there is no flow of numbers in this density"
        return section
    subject, rows = inner
    spread = np.maximum(np.ptp(np.quantile(rows, [0.05, 0.95], axis=0), axis=0) / 3.3, rows.std(0))[: subject.width]
    spread = np.where(spread > 0, spread, np.maximum(abs(rows[0, : subject.width]), 1.0))
    own = str(subject.flow._like().dtype).removeprefix("torch.")
    found = {own: _errors(subject, rows, spread)}
    if own != "float64":
        found["float64"] = _errors(_doubled(subject), rows, spread)
    section.figures |= {"rows": len(rows), **{f"{k}_{name}": v for name, f in found.items() for k, v in f.items()}}
    for name, f in found.items():
        remark = f"spreads at most, {f['roundtrip_99']:.1e} for all but 1 % of {len(rows):,} rows, in {name}"
        section.table.append(["round trip", f"{f['roundtrip_max']:.1e}", remark])
    both = ", ".join(f"{f['logdet_max']:.1e}" for f in found.values())
    section.table.append(["log-det against autograd", both, f"nats at most, in {' and '.join(found)}"])

    exactly, rounded = found["float64"], found[own]
    mistaken = worst([judge(exactly[k], 0, *_MAP) for k in ("roundtrip_99", "logdet_max")])
    rounding = worst([judge(rounded[k], 0, *_ROUNDING) for k in ("roundtrip_99", "logdet_max")])
    integral, said = _integral(e, section)
    section.verdict = worst([v for v in (mistaken, rounding, integral) if v != UNKNOWN])
    if mistaken in (BAD, "doubtful"):
        which = "log-determinant" if judge(exactly["logdet_max"], 0, *_MAP) != "good" else "inverse"
        error = exactly["logdet_max"] if which == "log-determinant" else exactly["roundtrip_99"]
        section.why = f"the map's {which} is wrong by {error:.2g}, in float64 too: the densities are no densities"
    elif integral in (BAD, "doubtful"):
        section.why = f"the density does not integrate to 1: {said}"
    elif rounding in (BAD, "doubtful"):
        section.why = f"the map is right, but {own} rounding is visible: use the model in float64"
    else:
        section.why = "the map inverts, its log-determinant is the Jacobian's"
        section.why += f", and the density integrates to {said}" if said else ""
    return section


def _errors(subject: FlowSubject, rows: Array, spread: Array) -> dict[str, float]:
    """Round trip in spreads, of the worst row and of all but a hundredth of them; log-det error in nats."""
    x, context = subject.split(rows)
    with torch.no_grad():
        z, _ = subject.flow.f(x, context)
        back = subject.flow.g(z, context).cpu().double().numpy()
    # What the flow was given is x rounded to its dtype.
    seen = subject.flow._tensor(x, "x").cpu().double().numpy()
    error = np.nan_to_num(abs(back - seen) / spread, nan=np.inf).max(1)
    few = max(3, min(_JACOBIAN_ROWS, int(_JACOBIAN_WORK / x.shape[1] ** 2)))
    log_det = exactness(subject.flow, x[:few], None if context is None else context[:few])["logdet_max"]
    return {
        "roundtrip_max": float(error.max()),
        "roundtrip_99": float(np.quantile(error, 0.99, method="lower")),
        "logdet_max": log_det if math.isfinite(log_det) else math.inf,
    }


def _doubled(subject: FlowSubject) -> FlowSubject:
    return FlowSubject(copy.deepcopy(subject.flow).double(), subject.names, subject.given, subject.contexts)


def _integral(e: Evidence, section: Section) -> tuple[str, str]:
    """-> a verdict, the integral in words ("" where it was not taken)."""
    subject = e.subject
    if not isinstance(subject, FlowSubject):
        section.table.append(["integral of the density", "", "not taken for mixed rows"])
        return UNKNOWN, ""
    if subject.width > _IMPORTANCE_COLUMNS:
        remark = f"not taken: importance sampling is not to be trusted above {_IMPORTANCE_COLUMNS} columns"
        section.table.append(["integral of the density", "", remark])
        return UNKNOWN, ""
    context, at, samples = None, "", subject.split(e.samples)[0]
    if subject.given:
        context = subject.split(e.test[:1])[1]
        at = f", given those of row {int(e.numbers[e.index[0]])}"
        with torch.no_grad():
            generator = torch.Generator(subject.flow._like().device).manual_seed(e.seed)
            samples = subject.flow.sample(6000, context, generator=generator)[:, 0].cpu().double().numpy()
    if len(samples) < 100 or bool((samples == samples[0]).all(0).any()):
        section.table.append(["integral of the density", "", "not taken: the samples do not spread"])
        return UNKNOWN, ""
    log_prob = density_of(lambda x: subject.flow.log_prob(x, context))
    if subject.width <= 2:
        value, error = quadrature(log_prob, samples)
        noise, how = error, f"by quadrature{at}"
        trusted = error < _INTEGRAL[1]
    else:
        found = importance(log_prob, samples, e.seed)
        value, error = found["integral"], found["se"]
        noise, how = 2.6 * error, f"by importance sampling, {found['effective']:,.0f} effective draws{at}"
        trusted = found["effective"] > 300 and found["largest"] < 0.05
        section.figures["effective_draws"] = found["effective"]
    section.figures |= {"integral": value, "integral_error": error}
    said = f"{value:.4f} +- {error:.4f}"
    section.table.append(["integral of the density", said, how + ("" if trusted else ": too rough to be trusted")])
    if not trusted and math.isfinite(value):
        return UNKNOWN, ""
    return judge(abs(value - 1), noise, *_INTEGRAL), said
