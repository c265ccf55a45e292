"""Whether a bijection keeps its contract: what anyone who writes a layer may ask before training with it."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..arguments import as_numbers, first_floating
from ..bijections import Bijection, checked

_TOLERANCE = 1e-6  # in float64, relative to the size of the numbers
_JACOBIAN_ROWS = 20
_MOVE = 0.1  # standard deviation of what is added to weights
_EXTREMES = (1e-30, 1e3, 1e6)
_SINGULAR = -600.0  # log|det| below which slogdet has nothing to say


@dataclass(frozen=True)
class BijectionCheck:
    """One question and its answer.

    Attributes:
        name: what was looked at, such as "round trip".
        ok: whether the contract is kept.
        expected: in words.
        got: in words.
    """

    name: str
    ok: bool
    expected: str
    got: str


@dataclass(frozen=True)
class BijectionReport:
    """What `check_bijection` found.

    Attributes:
        checks: one for each question that could be asked.
        ok: whether all of them were answered well.
    """

    checks: list[BijectionCheck] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the contract is kept."""
        return all(check.ok for check in self.checks)

    def text(self) -> str:
        """A line for each question: what was expected, and what came."""
        width = max((len(check.name) for check in self.checks), default=0)
        return "\n".join(
            f"{'ok   ' if c.ok else 'WRONG'}  {c.name:<{width}}  expected {c.expected}; got {c.got}"
            for c in self.checks
        )

    __str__ = text


def check_bijection(bijection: Bijection, x: Tensor, context: Tensor | None = None) -> BijectionReport:
    """Checks the contract of a bijection on some rows: what a flow needs for its densities to be densities.

    In both directions: shapes and dtypes; the round trip; the log-determinant against that of autograd's Jacobian, on
    at most 20 rows; that a row's output depends on that row alone; and that numbers up to 1e6 stay finite. The maths is
    checked on a copy in float64 and in evaluation mode, where rounding hides nothing; the bijection itself is left as
    it is. One that keeps volumes, as many do before a training, is checked with its weights moved at random, too, for a
    log-determinant of 0 tells nothing; what is then wrong is told as "weights moved".

    Args:
        bijection: any, of the package or one's own.
        x: (B, C, *S) with B >= 2, rows as they come in use; they take the dtype of the bijection, as a flow's do.
        context: (B, K), for a bijection that reads one.

    Returns:
        A report with `ok`, `checks` and `text()`. An error that the bijection raises is part of it.

    Raises:
        ValueError: there are fewer than 2 rows, or not as many contexts; it is no bijection, or x are no numbers.

    Example:
        >>> from pushforward import ActNorm
        >>> report = check_bijection(ActNorm(3), torch.randn(8, 3))
        >>> report.ok
        True
        >>> print(report.text().splitlines()[0])
        ok     forward: shapes and dtypes   expected z (8, 3) and log_det (8,) in float32; got just that
    """
    if not isinstance(bijection, Bijection):
        raise ValueError(f"expected a Bijection, got a {type(bijection).__name__}")
    x = as_numbers(x, "x", _reference(bijection, x))
    context = None if context is None else as_numbers(context, "context", x)
    if x.ndim < 2 or len(x) < 2 or (context is not None and len(context) != len(x)):
        got = f"{tuple(x.shape)} and {None if context is None else tuple(context.shape)}"
        raise ValueError(f"expected x (B, C, *S) with B >= 2 and a context (B, K) or None, got {got}")
    checks: list[BijectionCheck] = []
    own = copy.deepcopy(bijection).eval()
    exact = copy.deepcopy(own).double()
    rows, contexts = x.detach().double(), None if context is None else context.detach().double()
    for inverse in (False, True):
        direction = "inverse" if inverse else "forward"
        given = x.detach()
        try:
            if inverse:
                with torch.no_grad():
                    given = own(given, context)[0].detach()
                    rows = exact(rows, contexts)[0].detach()
            checks.append(_shapes(own, given, context, inverse))
            if checks[-1].ok:
                maths = _maths(exact, rows, contexts, inverse)
                moved = _moved(exact, rows, contexts) if all(c.ok for c in maths) else None
                if moved is not None:
                    wrong = (c for c in _maths(moved, rows, contexts, inverse) if not c.ok)
                    maths += [replace(c, name=f"{c.name}, weights moved") for c in wrong]
                checks += maths
                checks.append(_extremes(own, given, context, inverse))
        except Exception as error:  # whatever a layer of the user's raises is what is to be told
            message = f"{type(error).__name__}: {' '.join(str(error).split())}"
            checks.append(BijectionCheck(f"{direction}: evaluation", False, "a result", message))
        if not checks[-1].ok and checks[-1].name.endswith(("dtypes", "evaluation")):
            break
    return BijectionReport(checks)


@torch.no_grad()
def _moved(bijection: Bijection, x: Tensor, context: Tensor | None) -> Bijection | None:
    """A copy with noise added to its weights; None where it has none, or its log-determinant is not 0 everywhere."""
    if not any(True for _ in bijection.parameters()) or bool(bijection(x, context)[1].any()):
        return None
    moved, generator = copy.deepcopy(bijection), torch.Generator().manual_seed(0)
    for p in moved.parameters():
        p += _MOVE * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)
    return moved


def _reference(bijection: Bijection, x: Any) -> Tensor:
    """A tensor of the dtype that a flow with this bijection has; maps that are float64 in any flow come last."""
    others = [b for b in bijection.buffers() if b.dtype != torch.float64]
    own = torch.empty(0) if not isinstance(x, Tensor) or not x.is_floating_point() else x
    return first_floating(bijection.parameters(), others, bijection.buffers(), [own])


def _apply(bijection: Bijection, x: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
    return bijection.inverse(x, context) if inverse else bijection(x, context)


@torch.no_grad()
def _shapes(bijection: Bijection, x: Tensor, context: Tensor | None, inverse: bool) -> BijectionCheck:
    name = f"{'inverse' if inverse else 'forward'}: shapes and dtypes"
    kind = str(x.dtype).removeprefix("torch.")
    letter = "x" if inverse else "z"
    expected = f"{letter} {tuple(x.shape)} and log_det ({len(x)},) in {kind}"
    result = _apply(bijection, x, context, inverse)
    try:
        z, log_det = checked(result, x, bijection)
    except ValueError as error:
        return BijectionCheck(name, False, expected, str(error))
    ok = z.dtype == x.dtype and log_det.dtype in (x.dtype, torch.float64)
    got = f"{letter} in {z.dtype} and log_det in {log_det.dtype}".replace("torch.", "")
    return BijectionCheck(name, ok, expected, "just that" if ok else got)


def _maths(bijection: Bijection, x: Tensor, context: Tensor | None, inverse: bool) -> list[BijectionCheck]:
    """The round trip, both log-determinants and the independence of rows, in float64."""
    direction = "inverse" if inverse else "forward"
    with torch.no_grad():
        z, log_det = _apply(bijection, x, context, inverse)
        again, back = _apply(bijection, z, context, not inverse)
        half = slice(0, len(x) // 2)
        part, part_log_det = _apply(bijection, x[half], None if context is None else context[half], inverse)
    few = slice(0, _JACOBIAN_ROWS)
    truth = _log_det(bijection, x[few], None if context is None else context[few], inverse)
    seen = truth > _SINGULAR
    off = float((log_det[few] - truth)[seen].abs().nan_to_num(math.inf).max()) if bool(seen.any()) else math.inf
    alone = max(_error(part, z[half]), _error(part_log_det, log_det[half]))
    other = "forward(inverse(z)) = z" if inverse else "inverse(forward(x)) = x"
    return [
        _within(f"{direction}: round trip", other, _error(again, x), "off by {:.2g} of the largest number"),
        _within(f"{direction}: log-det", "log|det| of autograd's Jacobian", off, "off by up to {:.2g} nats"),
        _within(f"{direction}: log-det of the way back", "the negative", _error(-back, log_det), "off by {:.2g}"),
        _within(f"{direction}: independent rows", "the same for a row among others", alone, "a difference of {:.2g}"),
    ]


def _within(name: str, expected: str, error: float, words: str) -> BijectionCheck:
    ok = error <= _TOLERANCE
    return BijectionCheck(name, ok, f"{expected}, in float64", "just that" if ok else words.format(error))


def _error(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest number where that is above 1; infinite if not finite."""
    difference = float((a - b).abs().nan_to_num(math.inf, math.inf).max()) if a.numel() else 0.0
    return difference / max(1.0, float(b.abs().max()) if b.numel() else 1.0)


def _log_det(bijection: Bijection, x: Tensor, context: Tensor | None, inverse: bool) -> Tensor:
    """log|det| of autograd's Jacobian of each row: x (B, C, *S) -> (B,), row by row."""

    def of_row(i: int) -> Tensor:
        one = None if context is None else context[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(lambda v: _apply(bijection, v, one, inverse)[0], x[i : i + 1])
        size = x[i].numel()
        return torch.linalg.slogdet(jacobian.reshape(size, size)).logabsdet  # type: ignore[union-attr]

    return torch.stack([of_row(i) for i in range(len(x))])


@torch.no_grad()
def _extremes(bijection: Bijection, x: Tensor, context: Tensor | None, inverse: bool) -> BijectionCheck:
    name = f"{'inverse' if inverse else 'forward'}: extremes"
    bad = []
    for size in _EXTREMES:
        for sign in (1.0, -1.0):
            results = _apply(bijection, torch.full_like(x, sign * size), context, inverse)
            if not all(bool(t.isfinite().all()) for t in results):
                bad.append(f"{sign * size:g}")
    got = f"what is not finite for {', '.join(bad)}" if bad else "just that"
    return BijectionCheck(name, not bad, "finite numbers up to 1e6", got)
