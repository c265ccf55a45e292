"""`check_bijection`: what keeps the contract passes, and each way to break it is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pushforward as pf
from cases import BIJECTIONS, Case


def inputs(case: Case) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, *case.shape, generator=generator)
    return x, torch.randn(8, case.context_dim, generator=generator) if case.context_dim else None


@pytest.mark.filterwarnings("ignore:Standardize saw no data")
@pytest.mark.parametrize("case", BIJECTIONS, ids=lambda case: case.name)
def test_every_bijection_of_the_package_passes(case: Case) -> None:
    torch.manual_seed(3)
    bijection = case.build()
    modes = [module.training for module in bijection.modules()]
    report = pf.check_bijection(bijection, *inputs(case))
    assert report.ok, report.text()
    assert len(report.checks) == 12
    assert "WRONG" not in str(report)
    assert [module.training for module in bijection.modules()] == modes


class Scale(pf.Bijection):
    """z = 2 x, which may be wrong in one way."""

    def __init__(self, wrong: str) -> None:
        super().__init__()
        self.wrong = wrong
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Any:
        return self.both(x, 2.0, "z")

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Any:
        return self.both(z, 0.5, "x")

    def both(self, x: Tensor, factor: float, to: str) -> Any:
        log_det = x.new_full((len(x),), 2 * torch.tensor(factor).log().item())
        wrong: dict[str, Callable[[], Any]] = {
            "sign": lambda: (factor * x, -log_det),
            "one log-det": lambda: (factor * x, 2 * log_det if to == "x" else log_det),
            "no inverse": lambda: (2.0 * x, x.new_full((len(x),), 2 * torch.tensor(2.0).log().item())),
            "mixed rows": lambda: (factor * x + (x - x.flip(0)).detach() * 0.1, log_det),
            "column": lambda: (factor * x, log_det[:, None]),
            "scalar": lambda: (factor * x, log_det[0]),
            "half": lambda: ((factor * x).half(), log_det),
            "overflow": lambda: (factor * x * (x.abs() < 1e5) / (x.abs() < 1e5), log_det),
            "raises": lambda: x @ x,
        }
        return wrong[self.wrong]()


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("sign", r"WRONG  forward: log-det .*expected log\|det\| of autograd's Jacobian.*got off by up to 2.8 nats"),
        ("one log-det", r"WRONG  inverse: log-det .* got off by up to 1.4 nats"),
        ("no inverse", r"WRONG  forward: round trip .*expected inverse\(forward\(x\)\) = x.*; got off by"),
        ("mixed rows", r"WRONG  forward: independent rows .*got a difference of"),
        ("column", r"WRONG  forward: shapes .*log_det \(8,\).*got Scale must return a log-determinant .*got \(8, 1\)"),
        ("scalar", r"WRONG  forward: shapes .*got Scale must return a log-determinant .*got \(\)"),
        ("half", r"WRONG  forward: shapes .*in float32; got z in float16"),
        (
            "overflow",
            r"WRONG  forward: extremes .*expected finite numbers up to 1e6; got .*not finite for 1e\+06, -1e\+06",
        ),
        ("raises", r"WRONG  forward: evaluation .*got RuntimeError: "),
    ],
)
def test_what_is_wrong_is_said(wrong: str, line: str) -> None:
    report = pf.check_bijection(Scale(wrong), torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    assert not report.ok
    assert any(re.search(line, each) for each in report.text().splitlines()), report.text()


def test_too_few_rows_are_told() -> None:
    with pytest.raises(ValueError, match=r"B >= 2 .* got \(1, 2\)"):
        pf.check_bijection(pf.ActNorm(2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"context \(B, K\) or None, got \(4, 2\) and \(3, 1\)"):
        pf.check_bijection(pf.ActNorm(2), torch.zeros(4, 2), torch.zeros(3, 1))


class WrongAwayFromZero(pf.Bijection):
    """An elementwise scale, the identity at first, whose log-determinant is twice what it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        return x * self.log_scale.exp(), 2 * self.log_scale.sum().expand(len(x))

    def inverse(self, z: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        return z * (-self.log_scale).exp(), -2 * self.log_scale.sum().expand(len(z))


def test_an_identity_is_checked_at_other_weights() -> None:
    layer = WrongAwayFromZero()
    report = pf.check_bijection(layer, torch.randn(8, 2))
    assert [c.name for c in report.checks if not c.ok] == [
        f"{way}: log-det, weights moved" for way in ("forward", "inverse")
    ]
    assert not layer.log_scale.any()


def test_a_number_as_log_determinant_is_told() -> None:
    class Doubled(pf.Bijection):
        def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, float]:
            return 2 * x, 1.39

        def inverse(self, z: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, float]:
            return z / 2, -1.39

    assert "must return a pair (z, log_det) of tensors" in pf.check_bijection(Doubled(), torch.randn(8, 2)).text()
