"""Training steps by hand: the gradients are autograd's, and each member is clipped, skipped and kept alone."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import pytest
import torch

import pushforward as pf
from flows import moons, small
from pushforward._fast.steps import by_hand
from pushforward._fast.steps.by_hand import GradientsByHand, has_rules
from pushforward._fast.steps.fused import fused
from pushforward._fast.steps.weights import FlatWeights
from pushforward.recipes import RECIPES
from pushforward.training import Batch, TrainSettings, negative_log_likelihood, optimizer

Settings = dict[str, object]
ALONE = TrainSettings(lr=1e-2, weight_decay=0.0, clip=1.0)


def members(count: int = 3, features: int = 2, recipe: str = "real_nvp", **kwargs: object) -> list[pf.Flow]:
    size = {"depth": 3, "width": 8} | kwargs
    return [RECIPES[recipe](features, seed=k, **size) for k in range(count)]  # type: ignore[arg-type]


def by_autograd(flows: list[pf.Flow], weights: FlatWeights, batch: Batch) -> torch.Tensor:
    """The losses (M,), with the gradients in the flat buffer."""
    weights.gradient.zero_()
    losses = []
    for k, flow in enumerate(flows):
        loss = negative_log_likelihood(flow, batch if len(flows) == 1 else batch[k])
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses)


def check_by_hand(flow: pf.Flow, context_dim: int = 0, weighted: bool = False) -> None:
    """One step by hand against autograd, in float64, from weights moved off their start."""
    flow = flow.double()
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    x = 3 * normal(40, *flow.shape) + 1
    context = 2 + normal(40, context_dim) if context_dim else None
    weights = normal(40).abs() if weighted else None
    pf.initialize(flow, x, context)
    flat = FlatWeights([flow], ALONE)
    flat.flat += 0.1 * normal(*flat.flat.shape)
    assert has_rules([flow])
    by_hand = GradientsByHand([flow], flat)
    flat.gradient.fill_(7.0)  # what an earlier step left
    value = by_hand(x, context, weights)
    ours = flat.gradient.clone()
    log_prob = flow(x, context)
    expected = -(log_prob if weights is None else log_prob * weights).mean()
    flat.gradient.zero_()
    expected.backward()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours, flat.gradient, rtol=1e-9, atol=1e-11)
    assert float(ours.norm()) > 1e-3


@pytest.mark.parametrize("features", [1, 2, 3, 5])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize(
    "settings",
    [
        {"mixing": "flip"},
        {"context_dim": 2},
        {"standardize": False},
        {"hidden_layers": 0},
        {"mixing": "lu"},
        {"mixing": "permute"},
        {"components": 3},
    ],
    ids=str,
)
def test_the_step_by_hand_is_autograds(features: int, weighted: bool, settings: Settings) -> None:
    flow = pf.real_nvp(features, depth=5, width=16, clamp=1.5, seed=3, **settings)  # type: ignore[arg-type]
    check_by_hand(flow, int(settings.get("context_dim", 0)), weighted)  # type: ignore[call-overload]


@pytest.mark.parametrize("features", [1, 2, 3, 5])
def test_the_step_by_hand_of_splines_is_autograds(features: int) -> None:
    check_by_hand(pf.spline_flow(features, depth=3, width=16, bins=4, seed=3))
    check_by_hand(pf.spline_flow(features, depth=3, width=16, bins=4, context_dim=2, seed=3), context_dim=2)
    for mixing in ("auto", "flip"):  # of two columns, auto is a rotation
        flow = pf.triangular_spline_flow(features, depth=3, width=16, bins=4, mixing=mixing, seed=3)
        check_by_hand(flow, weighted=True)


@pytest.mark.parametrize("features", [2, 9])
def test_the_step_of_many_rows_and_wide_nets_is_autograds(features: int) -> None:
    """In float32, where hidden layers take fused products, and for more rows than are worked on at a time."""
    flow = pf.real_nvp(features, depth=3, width=64, context_dim=70, seed=0)
    x, context = torch.randn(5000, features), torch.randn(5000, 70)
    pf.initialize(flow, x, context)
    flat = FlatWeights([flow], ALONE)
    assert has_rules([flow])
    by_hand = GradientsByHand([flow], flat)
    value = by_hand(x, context, None)
    ours = flat.gradient.clone()
    flat.gradient.zero_()
    expected = -flow(x, context).mean()
    expected.backward()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-5, atol=1e-5)
    assert float((ours - flat.gradient).norm() / flat.gradient.norm()) < 1e-4


def test_the_step_by_hand_with_layers_it_has_no_rule_for() -> None:
    tanh = pf.MLP(2, 2, width=8, activation="tanh", context_dim=3)
    plain = pf.MLP(2, 4, width=8, context_dim=3)
    layers = (
        pf.Coupling(plain, pf.Affine()), pf.Standardize(4), pf.Coupling(tanh, pf.Shift(), flip=True), pf.LULinear(4),
        pf.Inverse(pf.ActNorm(4)), pf.Coupling(pf.MLP(2, 2, width=8), pf.Shift()), pf.ActNorm(4),
    )  # fmt: skip
    embed = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh())
    base = pf.GaussianMixture(4, 2, generator=torch.Generator().manual_seed(0))
    check_by_hand(pf.Flow(pf.Chain(*layers), 4, base, embed), context_dim=2)


def test_other_flows_are_left_to_autograd() -> None:
    shared = pf.MLP(1, 2, width=8)
    of_one_net = pf.Flow(pf.Chain(pf.Coupling(shared, pf.Affine()), pf.Coupling(shared, pf.Affine(), flip=True)), 2)
    for flow in (small(activation="tanh"), small(residual=True), of_one_net):
        assert not has_rules([flow])


@pytest.mark.parametrize("count", [1, 3])
def test_a_step_waits_for_no_number(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU each of these would stop the host: they are called at each record, not at each step."""
    calls = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "nonzero"):
        inner = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda t, *a, _n=name, _f=inner, **k: (calls.append(_n), _f(t, *a, **k))[1]
        )
    numbers = []
    for steps in (25, 50):  # one check of `CHECK_STEPS` more
        flow = pf.Ensemble([pf.real_nvp(5, depth=3, width=8, seed=k) for k in range(count)])
        calls.clear()
        for _ in pf.train(flow, torch.randn(2000, 5), steps=steps, batch=32, val_fraction=0.0, check=False):
            pass
        numbers.append(len(calls))
    assert numbers[1] - numbers[0] <= 2


def test_gradients_are_clipped_to_the_norm_asked_for() -> None:
    """The first step of Adam moves by the gradient's sign, so the clip is read off its first moment."""
    flow = small()
    flow.initialize(moons(50))
    flat = FlatWeights([flow], dataclasses.replace(ALONE, clip=0.5))
    loss = -flow(moons(50) * 100).mean()
    loss.backward()
    flat.step(loss.detach()[None], 0.1, 0.0)
    assert float(flat.moments[0].norm()) == pytest.approx(0.5 * (1 - 0.9), rel=1e-4)


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize(
    ("recipe", "features", "settings"),
    [
        ("real_nvp", 2, {}),
        ("real_nvp", 5, {"mixing": "lu", "context_dim": 2}),
        ("real_nvp", 3, {"mixing": "permute", "components": 3}),
        ("real_nvp", 1, {}),
        ("spline_flow", 3, {"context_dim": 2, "bins": 4}),
        ("triangular_spline_flow", 2, {"bins": 4}),
        ("triangular_spline_flow", 5, {"bins": 4}),
    ],
    ids=str,
)
def test_the_step_by_hand_of_members_is_autograds(
    recipe: str, features: int, settings: dict[str, object], weighted: bool
) -> None:
    flows = [flow.double() for flow in members(3, features, recipe, **settings)]
    context_dim = flows[0].context_dim or 0

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    for flow in flows:
        pf.initialize(flow, normal(40, features) * 3, normal(40, context_dim) if context_dim else None)
    flat = FlatWeights(flows, ALONE)
    flat.flat += 0.1 * normal(*flat.flat.shape)
    batch = (
        normal(3, 20, features),
        normal(3, 20, context_dim) if context_dim else None,
        normal(3, 20).abs() if weighted else None,
    )
    assert has_rules(flows)
    by_hand = GradientsByHand(flows, flat)
    losses, gradients = [by_hand(*batch)], [flat.gradient.clone()]
    losses.append(by_autograd(flows, flat, Batch(*batch)))
    gradients.append(flat.gradient.clone())
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-11)
    assert bool((gradients[0].norm(dim=1) > 1e-3).all())


def test_large_batches_are_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_hand, "CHUNK_ROWS", 7)
    for flows in (
        members(2, 5, mixing="lu", context_dim=1),
        members(1, 3, mixing="permute", components=2),
        members(1, 3, "spline_flow"),
    ):
        flows = [flow.double() for flow in flows]
        flat = FlatWeights(flows, ALONE)
        axes = (2, 20) if len(flows) > 1 else (20,)
        x = torch.randn(*axes, *flows[0].shape, dtype=torch.float64)
        context = torch.randn(*axes, 1, dtype=torch.float64) if flows[0].context_dim else None
        assert has_rules(flows)
        step = GradientsByHand(flows, flat)
        loss, gradient = step(x, context, None).view(-1), flat.gradient.clone()
        expected = by_autograd(flows, flat, Batch(x, context))
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, flat.gradient, rtol=1e-9, atol=1e-11)


def test_a_member_that_is_not_finite_is_skipped_alone() -> None:
    flat = FlatWeights(members(), dataclasses.replace(ALONE, clip=0.5))
    before = flat.flat.clone()
    flat.gradient.normal_()
    flat.gradient[1, 3] = math.nan
    flat.gradient[2] *= 1e-4
    norm = float(flat.gradient[2].norm())
    bad = flat.step(torch.zeros(3), 1.0, 0.0)
    assert bad.tolist() == [0, 1, 0]
    moved = (flat.flat != before).any(1)
    assert moved.tolist() == [True, False, True]
    # The first moment is a tenth of the clipped gradient: clipped to .5 in one member, left alone in the other.
    assert float(flat.moments[0][0].norm()) == pytest.approx(0.05, rel=1e-4)
    assert float(flat.moments[0][2].norm()) == pytest.approx(0.1 * norm, rel=1e-4)


def test_each_member_keeps_its_own_best_weights() -> None:
    flat = FlatWeights(members(), ALONE)
    first = flat.average.clone()
    for k in range(3):
        flat.keep_best(k)
    flat.average += 1
    flat.keep_best(1)
    flat.average += 1
    flat.release()
    flat = torch.stack([torch.cat([p.detach().reshape(-1) for p in parameters]) for parameters in flat.parameters])
    torch.testing.assert_close(flat, first + torch.tensor([[0.0], [1.0], [0.0]]))


def test_members_of_one_make_are_one_step_and_others_one_each() -> None:
    alike, unlike = members(2), [small(), pf.spline_flow(2, depth=2, width=8, seed=0)]
    for flows, steps in ((alike, 1), (unlike, 2)):
        losses = [partial(negative_log_likelihood, flow) for flow in flows]
        groups = fused(flows, losses, ALONE, by_hand=True)
        assert groups is not None
        assert len(groups) == steps
    assert fused([small(), small().double()], losses, ALONE, by_hand=True) is not None
    mixed = small()
    mixed.bijection.double()
    mixed.base = pf.GaussianMixture(2, 2)
    assert fused([mixed], losses[:1], ALONE, by_hand=True) is None


@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_training_equals_that_of_torchs_adamw(clip: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, where the order of operations does not show."""
    flows = [small().double(), small().double()]
    for flow, fast in zip(flows, (optimizer.fast, None), strict=True):
        monkeypatch.setattr(optimizer, "fast", fast)
        pf.fit(flow, moons(), steps=60, batch=100, clip=clip, weight_decay=0.1, progress="none")
    torch.testing.assert_close(flows[0].log_prob(moons()), flows[1].log_prob(moons()), rtol=1e-5, atol=1e-5)
