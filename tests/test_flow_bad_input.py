"""What a flow refuses: rows, contexts and numbers of the wrong kind, and layers that break the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch

import pushforward as pf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.log_prob(torch.zeros(3, 5)), r"expected x of shape \(\.\.\., 2\), got \(3, 5\)"),
        (lambda f: f(torch.zeros(3, 5)), r"expected x of shape \(B, 2\), got \(3, 5\)"),
        (lambda f: f.log_prob(torch.zeros(())), r"expected x of shape"),
        (
            lambda f: f.log_prob(torch.zeros(3, 2), torch.zeros(3, 1)),
            r"expected no context, got a context of shape \(N, 1\)",
        ),
        (lambda f: f.sample(-1), "at least 0, got -1"),
        (lambda f: f.sample(2.5), "must be a whole number, got 2.5"),
        (lambda f: f.log_prob("text"), "x must be numbers, in a tensor, an array or lists of one length, got str"),
        (lambda f: f.log_prob(None), "x must be numbers, .* got NoneType"),
        (lambda f: f.log_prob([[0.0, 0.0], [1.0]]), "x must be numbers, .* got list"),
        (lambda f: f.log_prob(np.array([["a", "b"]], dtype=object)), "x must be numbers, .* got ndarray of object"),
        (lambda f: f.log_prob({"a": [0.0], "b": [0.0]}), r"x must be numbers, .* got a dict: density\.space\.read"),
        (lambda f: f.log_prob(pyarrow.table({"a": [0.0], "b": [0.0]})), "x must be numbers, .* got a Table"),
        (lambda f: f.sample(np.array([2, 3])), "must be a whole number, got array"),
        (lambda f: f.log_prob(torch.zeros(3, 2, device="meta")), "x is on meta and the density on cpu"),
    ],
)
def test_wrong_input_is_told_what_was_expected(flow: pf.Flow, call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call(flow)


def test_a_conditional_flow_asks_for_its_context(conditional: pf.Flow) -> None:
    with pytest.raises(ValueError, match=r"expected a context of shape \(N, 2\), got no context"):
        conditional.log_prob(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"expected a context of shape \(N, 2\), got a context of shape \(N, 3\)"):
        conditional.sample(2, torch.zeros(3))


def test_constant_columns_are_named() -> None:
    x = torch.randn(50, 3)
    x[:, 1] = 4.0
    with pytest.raises(ValueError, match=r"column\(s\) \[1\] are constant \(value \[4.0\]\)"):
        pf.initialize(pf.real_nvp(3), x)


def test_a_textbook_flow_refuses_a_context() -> None:
    net = lambda: torch.nn.Linear(2, 2)  # noqa: E731
    flow = pf.real_nvp_from_networks(net, net, torch.tensor([[0, 1], [1, 0]]))
    with pytest.raises(ValueError, match=r"expected no context, got a context of shape \(N, 1\)"):
        flow.log_prob(torch.zeros(3, 2), torch.zeros(3, 1))


class PerElement(pf.Bijection):
    """A layer that forgets to sum its log-determinant."""

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        return x, torch.zeros_like(x)

    inverse = forward


def test_a_wrong_log_determinant_names_its_layer() -> None:
    flow = pf.Flow(pf.Chain(pf.ActNorm(2), PerElement()), 2)
    with pytest.raises(ValueError, match=r"layer 1 of the chain, PerElement, must return .* \(3,\), .* got \(3, 2\)"):
        flow.log_prob(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="layer 1 of the chain, PerElement"):
        flow.sample(3)


class Turned(pf.Rearrangement):
    """The columns in the opposite order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        return y.flip(1)


class Broken(pf.Bijection):
    """The identity, which returns something else than it must."""

    def __init__(self, returned: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> Any:
        return self.returned(x)

    def inverse(self, z: torch.Tensor, context: torch.Tensor | None = None) -> Any:
        return self.returned(z)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x: (x, torch.zeros(len(x), 1)), r"Broken.* log-determinant of shape \(3,\), .* got \(3, 1\)"),
        (lambda x: (x, x.new_zeros(())), r"Broken.* log-determinant of shape \(3,\), .* got \(\)"),
        (lambda x: (x, x.sum(0)), r"Broken.* log-determinant of shape \(3,\), .* got \(2,\)"),
        (lambda x: (x[:, :1], x[:, 0]), r"Broken.* must keep the shape \(3, 2\) of its input, got \(3, 1\)"),
        (lambda x: x, r"Broken.* must return a pair \(z, log_det\) of tensors, got Tensor"),
    ],
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda layer: layer,
        pf.Chain,
        pf.Inverse,
        lambda layer: pf.Chain(pf.ActNorm(2), pf.Inverse(pf.Chain(layer))),
        lambda layer: pf.Within(Turned(), layer),
    ],
)
def test_a_layer_that_breaks_the_contract_is_named_wherever_it_stands(
    wrap: Callable[[pf.Bijection], pf.Bijection], returned: Callable[[torch.Tensor], Any], message: str
) -> None:
    flow = pf.Flow(wrap(Broken(returned)), 2)
    for call in (lambda: flow.log_prob(torch.zeros(3, 2)), lambda: flow(torch.zeros(3, 2)), lambda: flow.sample(3)):
        with pytest.raises(ValueError, match=message):
            call()
