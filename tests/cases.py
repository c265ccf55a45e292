"""The registry: one line for each bijection and elementwise map; the generic tests check every line.

A concrete class without a line fails `test_registry.py::test_every_class_has_a_case`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import pushforward as pf
from pushforward.bijections.marginals import Knots


@dataclass(frozen=True)
class Case:
    """How to build one bijection, and the shape (C, *S) and context width K of what it takes."""

    name: str
    build: Callable[[], pf.Bijection]
    shape: tuple[int, ...] = (4,)
    context_dim: int = 0
    identity_at_zero: bool = True  # with all parameters at zero
    float64_log_det: bool = False  # whatever the dtype of x is
    rounding: float = 0.0  # how far from the identity it may then be, in float64

    @property
    def kind(self) -> str:
        return self.name.split("/")[0]


class PointwiseNet(nn.Module):
    """A conditioner over (B, C, *S): one linear map at each site, so that couplings are tested with spatial axes."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels_in, channels_out)

    def forward(self, h: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return torch.tanh(self.linear(h.movedim(1, -1))).movedim(-1, 1)


def mlp(features_in: int, features_out: int, context_dim: int = 0, **kwargs: object) -> pf.MLP:
    return pf.MLP(features_in, features_out, width=16, context_dim=context_dim, activation="tanh", **kwargs)  # type: ignore[arg-type]


def spline_coupling(kind: str, channels: int, flip: bool = False, **kwargs: object) -> pf.Bijection:
    """A spline coupling over vectors whose parameters are small, so that random ones give no extreme slopes."""
    first, second = channels // 2, channels - channels // 2
    given, moved = (second, first) if flip else (first, second)
    spline = pf.RationalQuadratic(bins=5, bound=3.0)
    context_dim = kwargs.pop("context_dim", 0)
    net = mlp(given, spline.num_params * moved, context_dim)  # type: ignore[arg-type]
    if kind == "Coupling":
        return pf.Coupling(net, spline, flip)
    own = mlp(0, spline.num_params * given, context_dim) if context_dim else None  # type: ignore[arg-type]
    return pf.TriangularCoupling(net, spline, channels, flip, own)


def autoregressive(channels: int, flip: bool = False, context_dim: int = 0) -> pf.Autoregressive:
    spline = pf.RationalQuadratic(bins=5, bound=3.0)
    net = pf.MaskedMLP(
        channels, spline.num_params * channels, width=16, context_dim=context_dim, activation="tanh"
    )  # fmt: skip
    return pf.Autoregressive(net, spline, channels, flip)


def groups(*sizes: int, spline: bool = False, context_dim: int = 0) -> pf.GroupAutoregressive:
    """Over vectors."""
    elementwise = pf.RationalQuadratic(bins=5, bound=3.0) if spline else pf.Affine()
    starts = np.cumsum(sizes).tolist()
    nets = [
        mlp(given, elementwise.num_params * size, context_dim) for given, size in zip(starts, sizes[1:], strict=False)
    ]
    return pf.GroupAutoregressive(nets, elementwise, sizes)


def image_groups(context_dim: int = 0) -> pf.GroupAutoregressive:
    """The last layer of a network sees the neighbours of a pixel, through sigmoids."""
    nets = [
        pf.ConvNet(given, 2, width=6, positions=(2, 3), sizes=(1, 3), sigmoids=2, context_dim=context_dim)
        for given in (1, 2)
    ]
    return pf.GroupAutoregressive(nets, pf.Affine(), [1, 1, 1])


def image_triangular() -> pf.TriangularCoupling:
    spline = pf.RationalQuadratic(bins=3)
    return pf.TriangularCoupling(PointwiseNet(1, 2 * spline.num_params), spline, 3)


def mask(*bits: int) -> torch.Tensor:
    return torch.tensor(bits)


def bounded(features: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, features), nn.Tanh())


def masked(*bits: int) -> pf.MaskedCoupling:
    return pf.MaskedCoupling(mask(*bits), bounded(len(bits)), bounded(len(bits)))


def fitted_standardize() -> pf.Standardize:
    layer = pf.Standardize(4)
    layer.initialize(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 2, 3, 4]) + 5)
    return layer


def fitted_precondition() -> pf.Precondition:
    layer, mixed = pf.Precondition(4), torch.eye(4) + 0.3 * torch.ones(4, 4).triu()
    layer.initialize(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) @ mixed + 1)
    return layer


def bent_precondition() -> pf.Precondition:
    """Of a skewed column, one with heavy tails and two that are normal."""
    layer, generator = pf.Precondition(4, bends=True), torch.Generator().manual_seed(0)
    rows = torch.randn(2000, 4, generator=generator)
    rows[:, 0] = rows[:, 0].exp().square()
    rows[:, 1] /= rows[:, 2].clone()
    rows[:, 2] = torch.randn(2000, generator=generator) + rows[:, 3]
    layer.initialize(rows)
    knots = [(-3.0, -3.5, 1.5), (-2.0, -2.0, 1.0), (2.0, 2.0, 1.0), (3.0, 3.5, 2.0)]
    layer.bend_tails(Knots.of([knots] * 4, [(False, False)] * 4))
    return layer


class ContextNet(PointwiseNet):
    """As `PointwiseNet`, with a context that is added at each site."""

    def __init__(self, channels_in: int, channels_out: int, context_dim: int) -> None:
        super().__init__(channels_in, channels_out)
        self.embed = nn.Linear(context_dim, channels_out)

    def forward(self, h: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        assert context is not None
        return super().forward(h) + torch.tanh(self.embed(context))[:, :, None, None]


def checkerboard() -> pf.Within:
    return pf.Within(pf.Checkerboard(), pf.Coupling(ContextNet(2, 4, 3), pf.Affine()))


def two_scales() -> pf.Within:
    """A coupling of all eight channels, and one more of half of them."""
    outer, inner = pf.Coupling(PointwiseNet(4, 8), pf.Affine()), pf.Coupling(PointwiseNet(2, 4), pf.Affine())
    return pf.Within(pf.Squeeze(), pf.Chain(outer, pf.OnHalf(inner)))


def batch_norm() -> pf.BatchNorm:
    """In evaluation mode: in training a row depends on the others."""
    layer = pf.BatchNorm(3)
    layer.initialize(3 * torch.randn(64, 3, 2, 2, generator=torch.Generator().manual_seed(0)) + 1)
    return layer.eval()


def conv_coupling(context_dim: int = 0) -> pf.Coupling:
    net = pf.ConvNet(1, 4, width=6, positions=(2, 3), context_dim=context_dim)
    return pf.Coupling(net, pf.Affine())


def residual_coupling(context_dim: int = 0) -> pf.Coupling:
    net = pf.ResidualConvNet(1, 4, width=6, blocks=2, context_dim=context_dim)
    return pf.Coupling(pf.LearnedBound(net, 2), pf.Affine())


def lattice_coupling(channels: int, flip: bool = False, context_dim: int = 0) -> pf.LatticeCoupling:
    net = pf.ConvNet(channels, 2 * channels, width=6, context_dim=context_dim)  # which sees the neighbours of a site
    return pf.LatticeCoupling(net, pf.Affine(), flip)


BIJECTIONS = [
    Case("Chain/empty", lambda: pf.Chain()),
    Case("Chain", lambda: pf.Chain(pf.LULinear(4), pf.Coupling(mlp(2, 4), pf.Affine()), pf.ActNorm(4))),
    Case("Inverse", lambda: pf.Inverse(pf.Coupling(mlp(2, 4), pf.Affine()))),
    Case("Coupling/affine", lambda: pf.Coupling(mlp(2, 4), pf.Affine())),
    Case("Coupling/affine flipped", lambda: pf.Coupling(mlp(2, 4), pf.Affine(), flip=True)),
    Case("Coupling/shift", lambda: pf.Coupling(mlp(2, 2), pf.Shift())),
    Case("Coupling/residual", lambda: pf.Coupling(mlp(2, 4, residual=True, hidden_layers=3), pf.Affine())),
    Case("Coupling/context", lambda: pf.Coupling(mlp(2, 4, context_dim=3), pf.Affine()), (4,), 3),
    Case("Coupling/D=1", lambda: pf.Coupling(mlp(0, 2), pf.Affine()), (1,)),
    Case("Coupling/D=1 flipped", lambda: pf.Coupling(mlp(1, 0), pf.Affine(), flip=True), (1,)),
    Case("Coupling/D=1 context", lambda: pf.Coupling(mlp(0, 2, context_dim=2), pf.Affine()), (1,), 2),
    Case("Coupling/D=2", lambda: pf.Coupling(mlp(1, 2), pf.Affine()), (2,)),
    Case("Coupling/D=3", lambda: pf.Coupling(mlp(1, 4), pf.Affine()), (3,)),
    Case("Coupling/D=3 flipped", lambda: pf.Coupling(mlp(2, 2), pf.Affine(), flip=True), (3,)),
    Case("Coupling/convolutions", conv_coupling, (3, 2, 3)),
    Case("Coupling/convolutions context", lambda: conv_coupling(3), (3, 2, 3), 3),
    Case("Coupling/residual convolutions", residual_coupling, (3, 2, 2)),
    Case("Coupling/residual convolutions context", lambda: residual_coupling(3), (3, 2, 2), 3),
    Case("Coupling/image", lambda: pf.Coupling(PointwiseNet(1, 4), pf.Affine()), (3, 2, 2)),
    Case("Coupling/cubic rational", lambda: pf.Coupling(mlp(2, 6), pf.CubicRational()), rounding=1e-13),
    Case("Coupling/sinh", lambda: pf.Coupling(mlp(2, 10), pf.SinhArcsinh()), rounding=1e-13),
    Case("Coupling/spline", lambda: spline_coupling("Coupling", 4), rounding=1e-13),
    Case("Coupling/spline flipped D=3", lambda: spline_coupling("Coupling", 3, True), (3,), rounding=1e-13),
    Case("Coupling/spline D=1", lambda: spline_coupling("Coupling", 1), (1,), rounding=1e-13),
    Case("Coupling/spline context", lambda: spline_coupling("Coupling", 2, context_dim=3), (2,), 3, rounding=1e-13),
    Case(
        "Coupling/spline image",
        lambda: pf.Coupling(PointwiseNet(1, 28), pf.RationalQuadratic(5)),
        (3, 2, 2),
        rounding=1e-13,
    ),
    Case("Autoregressive", lambda: autoregressive(4), rounding=1e-13),
    Case("Autoregressive/flipped", lambda: autoregressive(5, True), (5,), rounding=1e-13),
    Case("Autoregressive/D=1", lambda: autoregressive(1), (1,), rounding=1e-13),
    Case("Autoregressive/context", lambda: autoregressive(3, context_dim=2), (3,), context_dim=2, rounding=1e-13),
    Case("Autoregressive/affine", lambda: pf.Autoregressive(pf.MaskedMLP(4, 8, width=8), pf.Affine(), 4)),
    Case("GroupAutoregressive", lambda: groups(1, 1, 2)),
    Case("GroupAutoregressive/two groups", lambda: groups(3, 2), (5,)),
    Case("GroupAutoregressive/spline", lambda: groups(2, 1, 1, spline=True), rounding=1e-13),
    Case("GroupAutoregressive/context", lambda: groups(1, 1, 1, context_dim=3), (3,), 3),
    Case("GroupAutoregressive/image", image_groups, (3, 2, 3)),
    Case("GroupAutoregressive/image context", lambda: image_groups(3), (3, 2, 3), 3),
    Case("TriangularCoupling", lambda: spline_coupling("TriangularCoupling", 4), rounding=1e-13),
    Case("TriangularCoupling/flipped", lambda: spline_coupling("TriangularCoupling", 5, True), (5,), rounding=1e-13),
    Case("TriangularCoupling/D=2", lambda: spline_coupling("TriangularCoupling", 2), (2,), rounding=1e-13),
    Case("TriangularCoupling/D=1", lambda: spline_coupling("TriangularCoupling", 1), (1,), rounding=1e-13),
    Case(
        "TriangularCoupling/D=1 flipped", lambda: spline_coupling("TriangularCoupling", 1, True), (1,), rounding=1e-13
    ),
    Case(
        "TriangularCoupling/context",
        lambda: spline_coupling("TriangularCoupling", 3, context_dim=2),
        (3,),
        2,
        rounding=1e-13,
    ),
    Case("TriangularCoupling/affine", lambda: pf.TriangularCoupling(mlp(2, 4), pf.Affine(), 4)),
    Case("TriangularCoupling/image", image_triangular, (3, 2, 2), rounding=1e-13),
    Case("MaskedCoupling", lambda: masked(0, 1, 0, 1)),
    Case("MaskedCoupling/D=1", lambda: masked(0), (1,)),
    Case("MaskedCoupling/all kept", lambda: masked(1, 1, 1), (3,)),
    Case("LatticeCoupling", lambda: lattice_coupling(2), (2, 2, 3)),
    Case("LatticeCoupling/flipped", lambda: lattice_coupling(1, True), (1, 2, 3)),
    Case("LatticeCoupling/context", lambda: lattice_coupling(1, context_dim=3), (1, 2, 3), 3),
    Case("Permute", lambda: pf.Permute([2, 0, 3, 1]), identity_at_zero=False),
    Case("Permute/image", lambda: pf.Permute([2, 0, 1]), (3, 2, 2), identity_at_zero=False),
    Case("LULinear", lambda: pf.LULinear(4)),
    Case("LULinear/D=1", lambda: pf.LULinear(1), (1,)),
    Case("LULinear/image", lambda: pf.LULinear(3), (3, 2, 2)),
    Case("InvertibleConv", lambda: pf.InvertibleConv(4), identity_at_zero=False),
    Case("InvertibleConv/D=1", lambda: pf.InvertibleConv(1), (1,), identity_at_zero=False),
    Case("InvertibleConv/image", lambda: pf.InvertibleConv(3), (3, 2, 2), identity_at_zero=False),
    Case("Rotation", lambda: pf.Rotation(4)),
    Case("Rotation/D=1", lambda: pf.Rotation(1), (1,)),
    Case("Rotation/D=2", lambda: pf.Rotation(2, angle=0.5), (2,)),
    Case("Rotation/image", lambda: pf.Rotation(3), (3, 2, 2)),
    Case("ActNorm", lambda: pf.ActNorm(4)),
    Case("ActNorm/image", lambda: pf.ActNorm(3), (3, 2, 2)),
    Case("BatchNorm", batch_norm, (3, 2, 2), identity_at_zero=False),
    Case("Within/squeeze", lambda: pf.Within(pf.Squeeze(), pf.LULinear(4)), (1, 4, 2)),
    Case("Within/checkerboard", checkerboard, (2, 3, 2), 3),
    Case("Within/two scales", two_scales, (2, 2, 2)),
    Case("OnChannels", lambda: pf.OnChannels([3, 0, 2], pf.Coupling(mlp(1, 4), pf.Affine())), (5,)),
    Case("OnChannels/image", lambda: pf.OnChannels([2], pf.ActNorm(1)), (3, 2, 2)),
    Case("OnChannels/context", lambda: pf.OnChannels([1, 3], pf.Coupling(mlp(1, 2, 3), pf.Affine())), (4,), 3),
    Case("OnHalf", lambda: pf.OnHalf(pf.Coupling(mlp(1, 4), pf.Affine())), (5,)),
    Case("OnHalf/D=1", lambda: pf.OnHalf(pf.ActNorm(1)), (1,)),
    Case("OnHalf/context", lambda: pf.OnHalf(pf.Coupling(mlp(1, 2, 3), pf.Affine())), (4,), 3),
    Case("Precondition", fitted_precondition, identity_at_zero=False, float64_log_det=True),
    Case("Precondition/bends", bent_precondition, identity_at_zero=False, float64_log_det=True),
    Case("Precondition/image", lambda: pf.Precondition(3), (3, 2, 2), float64_log_det=True),
    Case("Standardize", fitted_standardize, identity_at_zero=False),
    Case("Standardize/image", lambda: pf.Standardize(3), (3, 2, 2)),
]

REARRANGEMENTS: list[tuple[pf.Rearrangement, tuple[int, ...]]] = [
    (pf.Squeeze(), (1, 2, 4)),
    (pf.Squeeze(), (3, 4, 2)),
    (pf.Checkerboard(), (1, 3, 4)),
    (pf.Checkerboard(), (3, 2, 2)),
    (pf.Flatten((3, 2, 4)), (3, 2, 4)),
]

ELEMENTWISE: list[pf.Elementwise] = [
    pf.Shift(),
    pf.Affine(),
    pf.Affine(clamp=0.5),
    pf.RationalQuadratic(),
    pf.RationalQuadratic(bins=2, bound=0.5, min_bin=0.1, min_slope=0.1),
    pf.RationalQuadratic(bins=24, bound=6.0),
    pf.CubicRational(),
    pf.CubicRational(min_slope=0.1, clamp=1.0),
    pf.SinhArcsinh(),
    pf.SinhArcsinh(clamp=0.5),
]


@dataclass(frozen=True)
class Column:
    """A column of a table, and the kind that it is to be found to be; `asked` is what a person would ask for."""

    name: str  # the class, then what is special about it
    values: Callable[[np.random.Generator], list[object] | np.ndarray]
    asked: str | None = None

    @property
    def kind(self) -> str:
        return self.name.split("/")[0]


def with_gaps(values: np.ndarray) -> list[object]:
    """Every seventh cell is missing."""
    return [None if i % 7 == 0 else value for i, value in enumerate(values.tolist())]


def dates(rng: np.random.Generator) -> np.ndarray:
    return np.datetime64("2020-01-01") + rng.integers(0, 1000, 400).astype("timedelta64[D]")


COLUMNS = [
    Column("Dropped", lambda rng: np.array([f"n{i}" for i in range(400)])),
    Column("Empty", lambda rng: [None] * 400),
    Column("Category", lambda rng: rng.choice(["a", "b", "c"], 400)),
    Column("Category/missing", lambda rng: with_gaps(rng.choice(["a", "b", "c"], 400))),
    Column("Category/numbers", lambda rng: rng.integers(0, 3, 400), "category"),
    Column("Constant", lambda rng: np.full(400, 2.5)),
    Column("Constant/missing", lambda rng: with_gaps(np.full(400, 7))),
    Column("Date", dates),
    Column("Date/text", lambda rng: dates(rng).astype(str)),
    Column("Date/missing", lambda rng: with_gaps(dates(rng).astype(str))),
    Column("Integer", lambda rng: rng.poisson(200, 400)),
    Column("Integer/missing", lambda rng: with_gaps(rng.poisson(200, 400))),
    Column("Circular", lambda rng: rng.uniform(0, 360, 400), "circular:360"),
    Column("Circular/whole", lambda rng: rng.integers(0, 360, 400), "circular:360"),
    Column("Rounded", lambda rng: np.round(rng.normal(0, 1, 400), 1)),
    Column("Rounded/asked", lambda rng: rng.integers(0, 90, 400) * 0.5, "quantised:0.5"),
    Column("Bounded", lambda rng: rng.beta(0.5, 0.5, 400)),
    Column("Bounded/asked", lambda rng: rng.uniform(2, 3, 400), "bounded:2:3"),
    Column("Positive", lambda rng: np.exp(rng.normal(0, 2, 400))),
    Column("Positive/missing", lambda rng: with_gaps(np.exp(rng.normal(0, 2, 400)))),
    Column("Real", lambda rng: rng.normal(size=400)),
    Column("Real/missing", lambda rng: with_gaps(rng.normal(size=400))),
    Column("WithAtoms", lambda rng: np.where(rng.random(400) < 0.3, 0.0, rng.normal(size=400))),
    Column(
        "WithCoarse",
        lambda rng: np.where(rng.random(400) < 0.9, rng.integers(0, 99, 400), rng.integers(0, 99, 400) + 0.25),
    ),
    Column("Uneven", lambda rng: rng.choice(rng.choice(2000, 120, replace=False), 400)),
]
