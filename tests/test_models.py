"""The recipes, and the textbook's form of Real NVP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import pushforward as pf

MASKS = torch.tensor([[0, 1], [1, 0]] * 3)


def scale_net() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(), nn.Linear(16, 2), nn.Tanh())


def shift_net() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(), nn.Linear(16, 2))


def prior() -> torch.distributions.Distribution:
    return torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))


def test_from_networks_is_the_textbook_line_by_line() -> None:
    made: list[nn.Module] = []

    def keep(factory):  # type: ignore[no-untyped-def]
        def make() -> nn.Module:
            made.append(factory())
            return made[-1]

        return make

    flow = pf.real_nvp_from_networks(keep(scale_net), keep(shift_net), MASKS, prior())
    s_nets, t_nets = made[0::2], made[1::2]
    assert len(s_nets) == len(t_nets) == len(MASKS)  # each factory is called once for each layer
    x = torch.randn(9, 2)
    y, log_det = x, torch.zeros(9)
    paper = x
    for b, s, t in zip(MASKS.float(), s_nets, t_nets, strict=True):
        scale, shift = s(b * y), t(b * y)
        log_det = log_det + ((1 - b) * scale).sum(1)
        y = y * torch.exp((1 - b) * scale) + (1 - b) * shift
        paper = b * paper + (1 - b) * (paper * torch.exp(s(b * paper)) + t(b * paper))
    z, ours = flow.f(x)
    torch.testing.assert_close(z, y)
    torch.testing.assert_close(z, paper)
    torch.testing.assert_close(ours, log_det)
    torch.testing.assert_close(flow.log_prob(x), prior().log_prob(y) + log_det)
    back = z
    for b, s, t in reversed(list(zip(MASKS.float(), s_nets, t_nets, strict=True))):
        back = (back - (1 - b) * t(b * back)) * torch.exp(-(1 - b) * s(b * back))
    torch.testing.assert_close(flow.g(z), back)
    torch.testing.assert_close(back, x)


def test_from_networks_takes_any_masks_and_no_base() -> None:
    net = lambda: nn.Linear(3, 3)  # noqa: E731
    flow = pf.real_nvp_from_networks(net, net, torch.tensor([[1, 0, 1], [0, 0, 1], [1, 1, 0]]).bool())
    x = torch.randn(4, 3)
    torch.testing.assert_close(flow.g(flow.f(x)[0]), x)
    with pytest.raises(ValueError, match=r"shape \(layers, D\), got \(3,\)"):
        pf.real_nvp_from_networks(net, net, torch.tensor([1, 0, 1]))
    with pytest.raises(ValueError, match="zeros and ones"):
        pf.real_nvp_from_networks(net, net, torch.tensor([[1, 2, 1]]))


def test_from_networks_tells_a_wrong_network_at_once_and_leaves_right_ones_as_they_were() -> None:
    net = lambda: nn.Linear(3, 3)  # noqa: E731
    masks = torch.tensor([[1, 0, 1], [0, 1, 0]])
    with pytest.raises(ValueError, match=r"scale_net of layer 1 must keep the shape \(1, 3\) of a row, got \(1, 2\)"):
        pf.real_nvp_from_networks(lambda: nn.Linear(3, 2), net, masks)
    second = iter([nn.Linear(3, 3), nn.Linear(4, 3)])
    with pytest.raises(ValueError, match=r"shift_net of layer 2 must take rows of shape \(N, 3\).*shapes"):
        pf.real_nvp_from_networks(net, lambda: next(second), masks)
    normed = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
    normed[1].eval()
    seen = {k: v.clone() for k, v in normed.state_dict().items()}
    state = torch.get_rng_state()
    pf.real_nvp_from_networks(lambda: normed, lambda: normed, masks)
    assert all(torch.equal(v, seen[k]) for k, v in normed.state_dict().items())
    assert [m.training for m in normed] == [True, False, True, True]
    assert torch.equal(state, torch.get_rng_state())
    volume_preserving = pf.real_nvp_from_networks(lambda: torch.zeros_like, net, masks)  # type: ignore[arg-type,return-value]
    assert bool((volume_preserving.f(torch.randn(4, 3))[1] == 0).all())
    double = pf.real_nvp_from_networks(lambda: net().double(), lambda: net().double(), masks)
    assert double.double().log_prob(torch.zeros(2, 3).double()).dtype == torch.float64


class OnHalf(nn.Module):
    """A merged net of a `Coupling`, read as the textbook's s or t net over all D entries."""

    def __init__(self, net: nn.Module, given: slice, moved: slice, block: int) -> None:
        super().__init__()
        self.net, self.given, self.moved, self.block = net, given, moved, block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raw = self.net(x[:, self.given], None).chunk(2, 1)[self.block]
        out = torch.zeros_like(x)
        out[:, self.moved] = 3.0 * torch.tanh(raw / 3.0) if self.block == 0 else raw
        return out


@pytest.mark.parametrize("features", [2, 5])
@pytest.mark.parametrize("flip", [False, True])
def test_coupling_equals_masked_coupling_with_the_same_weights(features: int, flip: bool) -> None:
    first, second = slice(0, features // 2), slice(features // 2, features)
    given, moved = (second, first) if flip else (first, second)
    n_given, n_moved = (len(range(features)[s]) for s in (given, moved))
    coupling = pf.Coupling(pf.MLP(n_given, 2 * n_moved, width=8), pf.Affine(clamp=3.0), flip)
    mask = torch.zeros(features)
    mask[given] = 1
    masked = pf.MaskedCoupling(
        mask,
        OnHalf(coupling.net, given, moved, 0),
        OnHalf(coupling.net, given, moved, 1),  # type: ignore[arg-type]
    )
    x = torch.randn(6, features)
    for name in ("forward", "inverse"):
        for ours, textbook in zip(getattr(coupling, name)(x), getattr(masked, name)(x), strict=True):
            torch.testing.assert_close(ours, textbook)


def test_a_net_of_the_wrong_width_is_told() -> None:
    with pytest.raises(ValueError, match="must return 4 channels, got 3"):
        pf.Coupling(pf.MLP(2, 3), pf.Affine())(torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": 0}, "positive integer"),
        ({"shape": (3, 8, 8)}, "for vectors"),
        ({"shape": 2, "depth": 0}, "depth must be a whole number from 1"),
        ({"shape": 2, "width": 2.5}, "width must be a whole number"),
        ({"shape": 2, "activation": "sine"}, "activation must be one of relu"),
        ({"shape": 2, "clamp": -1.0}, "clamp must be a positive number"),
        ({"shape": 2, "mixing": "glow"}, "auto, flip, permute or lu"),
    ],
)
def test_wrong_arguments_are_told(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pf.real_nvp(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("build", [pf.spline_flow, pf.triangular_spline_flow, pf.autoregressive_spline_flow])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (3, 8, 8)}, "for vectors"),
        ({"shape": 2, "depth": 0}, "depth must be a whole number from 1"),
        ({"shape": 2, "bins": 1}, "bins must be at least 2, got 1"),
        ({"shape": 2, "bound": -1.0}, "bound must be a positive number"),
        ({"shape": 2, "mixing": "glow"}, r"mixing must be auto, flip, permute(, lu)? or (lu|rotation), got 'glow'"),
    ],
)
def test_wrong_arguments_of_spline_flows_are_told(build, arguments: dict[str, object], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        build(**arguments)


@pytest.mark.parametrize("build", [pf.spline_flow, pf.triangular_spline_flow, pf.autoregressive_spline_flow])
@pytest.mark.parametrize("features", [1, 2, 3, 7])
@pytest.mark.parametrize("context_dim", [0, 2])
def test_spline_flows_of_any_width_go_back(build, features: int, context_dim: int) -> None:  # type: ignore[no-untyped-def]
    flow = build(features, context_dim=context_dim, width=8, seed=0).double()
    x = torch.randn(6, features, dtype=torch.float64) * 2 + 1
    context = torch.randn(6, context_dim, dtype=torch.float64) if context_dim else None
    pf.initialize(flow, x, context)
    z, _ = flow.f(x, context)
    torch.testing.assert_close(flow.g(z, context), x)
    if context is not None:
        assert not torch.allclose(flow.f(x, context + 1)[0][:, 0], z[:, 0])  # the context reaches every column
        assert not torch.allclose(flow.f(x, context + 1)[0][:, -1], z[:, -1])


def test_a_triangular_flow_of_two_layers_learns_what_is_no_product() -> None:
    """y = x^2 + noise, of which two independent columns (the best fit without coupling) know nothing."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 1, generator=generator)
    x = torch.cat([x, x.square() + 0.2 * torch.randn(4000, 1, generator=generator)], 1)
    flow = pf.triangular_spline_flow(2, width=16, seed=0)
    pf.fit(flow, x, steps=250, batch=256, lr=1e-2, progress="none")
    entropy = 2 * 0.5 * (1 + torch.log(torch.tensor(2 * torch.pi))) + torch.log(torch.tensor(0.2))
    assert -float(flow.log_prob(x).detach().mean()) < float(entropy) + 0.2


@pytest.mark.parametrize(
    "build", [pf.real_nvp, pf.spline_flow, pf.triangular_spline_flow, pf.autoregressive_spline_flow]
)
def test_a_seed_gives_the_same_flow_and_leaves_the_global_rng(build) -> None:  # type: ignore[no-untyped-def]
    state = torch.get_rng_state()
    a, b, c = (build(3, components=2, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.randn(4, 3)
    assert torch.equal(a.log_prob(x), b.log_prob(x))
    assert not torch.equal(a.log_prob(x), c.log_prob(x))


def test_the_rule_smooths_and_shrinks_for_few_rows_and_leaves_many_alone() -> None:
    few, many = pf.choose(100, 5), pf.choose(100_000, 5)
    assert few.training["noise"] > 0
    assert many.training["noise"] == 0
    sizes = [sum(p.numel() for p in choice.build(5, seed=0).parameters()) for choice in (few, many)]
    assert sizes[0] < sizes[1]
    assert few.training["steps"] < many.training["steps"]
    assert "steps" not in pf.choose(100, 5, seconds=3).training
    assert pf.choose(100_000, 5, seconds=10).arguments["depth"] < many.arguments["depth"]  # too large to learn in 10 s


def test_the_rule_builds_what_was_given_and_names_what_a_recipe_does_not_take() -> None:
    choice = pf.choose(1000, 3, recipe="spline_flow", context_dim=2)
    flow = choice.build(3, context_dim=2, seed=0, bins=5, width=None)
    assert flow.recipe is not None
    assert (flow.recipe["name"], flow.recipe["arguments"]["bins"], flow.context_dim) == ("spline_flow", 5, 2)
    with pytest.raises(ValueError, match="the recipe spline_flow takes no clamp"):
        choice.build(3, clamp=2.0)
    with pytest.raises(ValueError, match="must return a Flow over"):
        pf.choose(1000, 3, recipe=lambda features: pf.real_nvp(2)).build(3)
    with pytest.raises(ValueError, match="recipe must be auto, one of real_nvp"):
        pf.choose(1000, 3, recipe="nvp")
    with pytest.raises(ValueError, match="at least 1 row and 1 column, got 0 and 3"):
        pf.choose(0, 3)


@pytest.mark.parametrize(
    ("rows", "features", "recipe"),
    [
        (None, 2, "triangular_spline_flow"),
        (10_000, 7, "autoregressive_spline_flow"),
        (3_000, 43, "autoregressive_spline_flow"),
        (100_000, 43, "real_nvp"),
        (100, 7, "autoregressive_spline_flow"),
        (100, 2, "real_nvp"),
        (10_000, 1, "real_nvp"),
    ],
)
def test_the_rule_takes_autoregressive_splines_of_some_columns(rows: int | None, features: int, recipe: str) -> None:
    choice = pf.choose(rows, features)
    assert choice.recipe == recipe
    x = torch.randn(5, features)
    flow = choice.build(features, seed=0)
    pf.initialize(flow, x)
    torch.testing.assert_close(flow.g(flow.f(x)[0]), x, rtol=0, atol=1e-3)


def test_few_rows_of_many_columns_are_held_by_weight_decay() -> None:
    assert pf.choose(3_000, 43).training["weight_decay"] > pf.choose(100_000, 43).training["weight_decay"]


NETS = [
    {}, {"context_dim": 2}, {"residual": True, "hidden_layers": 3}, {"hidden_layers": 0}, {"hidden_layers": 1},
    {"activation": "relu", "context_dim": 1}, {"hidden_layers": 0, "context_dim": 2},
]  # fmt: skip


@dataclass(frozen=True)
class Moved(pf.Affine):
    """An affine map that leaves the last of three parameters aside."""

    num_params = 3

    def forward(self, x: torch.Tensor, params: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(x, params[:, :2])

    def inverse(self, y: torch.Tensor, params: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().inverse(y, params[:, :2])


def masked_net(channels: int, options: dict[str, Any]) -> pf.MaskedMLP:
    return pf.MaskedMLP(channels, 3 * channels, **{"width": 32, "activation": "tanh"} | options).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 2, 5, 32])
@pytest.mark.parametrize("options", NETS, ids=repr)
def test_a_masked_network_sees_what_is_before_a_channel(channels: int, options: dict[str, Any]) -> None:
    net = masked_net(channels, options | {"activation": "tanh"})  # without dead units
    x, context = torch.randn(4, channels).double(), torch.randn(4, options.get("context_dim", 0)).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, context).sum(0), x)  # (3 C, 4, C)
    sees = (jacobian != 0).any(1).view(3, channels, channels)
    assert (sees == torch.ones(channels, channels, dtype=torch.bool).tril(-1)).all()
    if context.shape[1]:
        assert (torch.autograd.functional.jacobian(lambda c: net(x, c).sum(0), context) != 0).any(1).all()


@pytest.mark.parametrize("channels", [1, 2, 5, 32])
@pytest.mark.parametrize("options", NETS, ids=repr)
@pytest.mark.parametrize("flip", [False, True])
def test_an_autoregressive_layer_goes_back_channel_by_channel(
    channels: int, options: dict[str, Any], flip: bool
) -> None:
    net, elementwise = masked_net(channels, options), Moved()
    layer = pf.Autoregressive(net, elementwise, channels, flip)
    x, context = torch.randn(7, channels).double(), torch.randn(7, options.get("context_dim", 0)).double()
    z, log_det = layer(x, context)
    back, log_det_back = layer.inverse(z, context)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(log_det_back, -log_det)
    any_net = pf.Autoregressive(lambda h, c: net(h, c), elementwise, channels, flip)  # of which nothing is known
    torch.testing.assert_close(any_net.inverse(z, context)[0], x)


def test_wrong_masked_networks_are_told() -> None:
    with pytest.raises(ValueError, match="features_out must be a multiple of features_in >= 1, got 4 and 3"):
        pf.MaskedMLP(3, 4)
    with pytest.raises(ValueError, match="features_in >= 1, got 0 and 0"):
        pf.MaskedMLP(0, 0)
    with pytest.raises(ValueError, match=r"expected a net of 5 inputs and 10 outputs, got one of \(6, 12\)"):
        pf.Autoregressive(pf.MaskedMLP(6, 12), pf.Affine(), 5)


@pytest.mark.parametrize("context_dim", [0, 2])
def test_a_masked_network_of_few_units_ignores_no_input(context_dim: int) -> None:
    net = masked_net(40, {"width": 8, "context_dim": context_dim})
    x, context = torch.randn(4, 40).double(), torch.randn(4, context_dim).double()
    sees = (torch.autograd.functional.jacobian(lambda x: net(x, context).sum(0), x) != 0).any(1)[:40]
    assert sees[39].tolist() == [True] * 39 + [False]
    assert not sees.triu().any()
    if context_dim:
        assert (torch.autograd.functional.jacobian(lambda c: net(x, c).sum(0), context) != 0).any(1).all()
    layer = pf.Autoregressive(pf.MaskedMLP(40, 80, width=8).double(), pf.Affine(), 40)
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x)


def test_auto_gives_masked_networks_a_unit_for_each_column() -> None:
    assert pf.choose(300, 63).arguments["width"] == 64
    assert pf.choose(300, 200, recipe="autoregressive_spline_flow").arguments["width"] == 200
    assert pf.choose(300, 64).recipe == "real_nvp"
