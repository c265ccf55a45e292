"""The registry: a line for each kind of density; the generic tests of `test_densities.py` check every line.

A concrete class without a line fails `test_densities.py::test_every_class_has_a_line`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pushforward as pf
from flows import stirred
from pushforward.baselines import (
    Frequencies,
    GaussianMixtureDensity,
    Independent,
    LatentClasses,
    MixedKernel,
    fit_baselines,
)
from pushforward.images.encoding import byte_masses
from pushforward.images.fit import Dequantized
from pushforward.images.independent import IndependentPixels, fit_pixels
from pushforward.tables.mass import MassFunction

Proposal = Callable[[pf.Density, int], tuple[Any, Tensor]]


@dataclass(frozen=True, eq=False)
class Line:
    """How to build one density, and what the generic tests need to know of it.

    Attributes:
        name: the class, and what is special about this one.
        make: builds it, always the same.
        contexts: of a conditional density, some: a tensor (M, K), or a dictionary of columns; None for no context.
        propose: density, n -> n rows and the log-density (n,) of the proposal they were drawn from, which covers all
            rows that the density can have; None draws wide Student t numbers around the density's own.
        recipe: whether `load` rebuilds it; one that was composed by hand is loaded into another of the same make.
        in_files: whether it can be saved by itself.
    """

    name: str
    make: Callable[[], pf.Density]
    contexts: Any = None
    propose: Proposal | None = None
    recipe: bool = True
    in_files: bool = True

    @property
    def is_table(self) -> bool:
        return self.name.startswith("TableDensity")

    @cache  # noqa: B019  # lines live as long as the tests
    def built(self) -> pf.Density:
        """The one that tests share, and leave as it is."""
        torch.manual_seed(1)
        return self.make().eval()

    def context(self, i: int) -> Any:
        """The one context of number i: (1, K), or a table of one row."""
        if self.contexts is None:
            return None
        if isinstance(self.contexts, Tensor):
            return self.contexts[i : i + 1]
        return {name: values[i : i + 1] for name, values in self.contexts.items()}

    def rows(self, n: int, seed: int = 5) -> tuple[Any, Any]:
        """n rows of the density and a context for each, as `log_prob` takes them."""
        density = self.built()
        if self.contexts is None:
            return density.sample(n, generator=seed), None
        if not isinstance(self.contexts, Tensor):
            some = {name: values[np.arange(n) % len(values)] for name, values in self.contexts.items()}
            return density.sample(1, some, generator=seed), None  # the columns are a part of the rows
        some = self.contexts[torch.arange(n) % len(self.contexts)]
        return density.sample(1, some, generator=seed)[0], some


def initialized(flow: pf.Flow, scale: float = 3.0, centre: float = 2.0) -> pf.Flow:
    """With what layers take from data, as after the first step of a training."""
    generator = torch.Generator().manual_seed(3)
    x = scale * torch.randn(64, *flow.shape, generator=generator) + centre
    context = torch.randn(64, flow.context_dim, generator=generator) if flow.context_dim else None
    pf.initialize(flow, x, context)
    return flow


def contexts(width: int) -> Tensor:
    return torch.randn(4, width, generator=torch.Generator().manual_seed(9))


def real_nvp(features: int, seed: int = 0, **settings: Any) -> pf.Flow:
    return initialized(pf.real_nvp(features, depth=3, width=8, seed=seed, **settings))


class Sites(nn.Module):
    """A conditioner over images: one linear map at each site."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels_in, channels_out)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.tanh(self.linear(h.movedim(1, -1))).movedim(-1, 1)


def image_flow() -> pf.Flow:
    coupling = pf.Coupling(Sites(1, 4), pf.Affine())
    return initialized(pf.Flow(pf.Chain(pf.ActNorm(3), coupling, pf.LULinear(3)), (3, 2, 1)))


def composed_flow(features: int = 2) -> pf.Flow:
    rest = features - features // 2
    net = pf.MLP(features // 2, 2 * rest, width=8)
    chain = pf.Chain(pf.Standardize(features), pf.Coupling(net, pf.Affine()), pf.Rotation(features))
    return initialized(pf.Flow(chain, features, pf.GaussianMixture(features, 3)))


def unlike_flows() -> pf.Mixture:
    spline = initialized(pf.spline_flow(2, depth=2, width=8, bins=4, seed=2))
    return pf.Mixture([real_nvp(2), spline, real_nvp(2, seed=1, components=2)], weights=[0.2, 0.5, 0.3])


def unlike_conditional() -> pf.Mixture:
    spline = initialized(pf.spline_flow(2, depth=2, width=8, bins=4, context_dim=3, seed=2))
    return pf.Mixture([real_nvp(2, context_dim=3), spline], weights=[0.25, 0.75])


def gaussians(context_dim: int = 0) -> GaussianMixtureDensity:
    generator = torch.Generator().manual_seed(0)
    width = 2 + context_dim
    root = torch.randn(3, width, width, generator=generator).double()
    means = 2 * torch.randn(3, width, generator=generator).double()
    covariances = root @ root.mT + 0.5 * torch.eye(width).double()
    return GaussianMixtureDensity(
        torch.tensor([0.5, 0.3, 0.2]).double(), means, covariances, context_dim=context_dim, label="three"
    )


def frequencies() -> Frequencies:
    return Frequencies([2, 3], torch.tensor([0.2, 0.8, 0.1, 0.6, 0.3]).double().log())


def latent_classes(is_full: bool = False, given: bool = False) -> LatentClasses:
    """Three classes over states of 2 and 3 and two numbers; given are a column of 4 states and a number."""
    generator = torch.Generator().manual_seed(0)
    sizes, d = ([2, 3, 4], 3) if given else ([2, 3], 2)
    mass = [torch.randn(size, 3, generator=generator).double().log_softmax(0) for size in sizes]
    root = torch.randn(3, d, d, generator=generator).double()
    covariances = root @ root.mT + 0.5 * torch.eye(d).double()
    return LatentClasses(
        [2, 3],
        torch.tensor([0.5, 0.3, 0.2]).double(),
        torch.cat(mass),
        2 * torch.randn(3, d, generator=generator).double(),
        covariances if is_full else covariances.diagonal(dim1=1, dim2=2).clone(),
        context_sizes=sizes[2:],
        context_numbers=d - 2,
    )


def mixed_kernel(given: bool = False) -> MixedKernel:
    """Twenty rows of the same columns, some without a state or a number."""
    generator = torch.Generator().manual_seed(0)
    sizes, d = ([2, 3, 4], 3) if given else ([2, 3], 2)
    starts = torch.tensor([0, *sizes]).cumsum(0)
    states = torch.stack([torch.randint(k, (20,), generator=generator) for k in sizes], 1) + starts[:-1]
    states[:2, 0] = starts[-1]
    states[1:3, -1] = starts[-1]
    numbers = 3 * torch.randn(20, d, generator=generator).double() + 5
    mass = [torch.randn(size, generator=generator).double().log_softmax(0) for size in sizes]
    is_present = torch.rand(20, d, generator=generator) < 0.8
    return MixedKernel(
        [2, 3], states, numbers, is_present, torch.cat(mass), torch.full((d,), 5.0).double(),
        torch.full((d,), 3.0).double(), bandwidth=0.5, share=0.3, context_sizes=sizes[2:], context_numbers=d - 2,
    )  # fmt: skip


GIVEN = torch.tensor([[2.0, 0.5], [0.0, 4.0], [3.0, -1.0], [4.0, 6.0]]).double()  # the last state is unknown


def states_and_numbers(*sizes: int, context: Tensor | None = None) -> Proposal:
    """States drawn with equal chances, numbers around those of the density."""

    def propose(density: pf.Density, n: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(11)
        states = torch.stack([torch.randint(k, (n,), generator=generator) for k in sizes], 1).double()
        log_q = torch.full((n,), -math.log(math.prod(sizes))).double()
        own = density.sample(2000, context, generator=1).reshape(2000, -1)[:, len(sizes) :].double()
        if own.shape[1]:
            numbers, log_numbers = wide_t(own, n)
            states, log_q = torch.cat([states, numbers], 1), log_q + log_numbers
        return states, log_q

    return propose


def wide_t(own: Tensor, n: int, degrees: float = 4.0) -> tuple[Tensor, Tensor]:
    """Student t numbers around some rows (N, D): -> (n, D), their log-density (n,)."""
    state = torch.get_rng_state()
    torch.manual_seed(12)
    t = torch.distributions.StudentT(degrees)
    noise = t.sample((n, own.shape[1])).double()
    torch.set_rng_state(state)
    factor = 1.2 * torch.linalg.cholesky(own.mT.cov().reshape(own.shape[1], -1))
    x = own.mean(0) + noise @ factor.mT
    return x, t.log_prob(noise).sum(1) - factor.diagonal().log().sum()


# Tables: columns whose law is known, so that rows of a wider one are easily drawn.

COLOURS = np.array(["red", "green", "blue"])


def table_rows(n: int, seed: int) -> dict[str, np.ndarray]:
    """A category, an integer, an amount with an atom at 0, a number that is missing at times."""
    rng = np.random.default_rng(seed)
    i = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    spent = np.where(rng.random(n) < 0.4, 0.0, np.exp(0.5 * rng.normal(size=n) + 0.3 * i))
    size = np.where(rng.random(n) < 0.2, np.nan, 10 + 2 * rng.normal(size=n) + i)
    return {"colour": COLOURS[i], "count": rng.binomial(6, 0.3 + 0.1 * i), "spent": spent, "size": size}


def propose_table(density: pf.Density, n: int) -> tuple[dict[str, np.ndarray], Tensor]:
    rng = np.random.default_rng(13)
    colour, count = rng.integers(3, size=n), rng.integers(7, size=n)
    log_q = np.full(n, -math.log(3 * 7))
    spent, log_spent = wide(rng, n, 0.3, 1.0)
    is_zero, is_missing = rng.random(n) < 0.4, rng.random(n) < 0.25
    log_q += np.where(is_zero, math.log(0.4), math.log(0.6) + log_spent - spent)
    size, log_size = wide(rng, n, 10.5, 3.0)
    log_q += np.where(is_missing, math.log(0.25), math.log(0.75) + log_size)
    rows = {"colour": COLOURS[colour], "count": count, "spent": np.where(is_zero, 0.0, np.exp(spent))}
    return rows | {"size": np.where(is_missing, np.nan, size)}, torch.from_numpy(log_q)


def propose_given_colour(density: pf.Density, n: int) -> tuple[dict[str, np.ndarray], Tensor]:
    """Rows of the first context."""
    rows, log_q = propose_table(density, n)
    return rows | {"colour": np.repeat(COLOURS[:1], n)}, log_q + math.log(3)


def wide(rng: np.random.Generator, n: int, mean: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Student t numbers of 4 degrees of freedom, and their log-densities."""
    noise = rng.standard_t(4, size=n)
    log_q = torch.distributions.StudentT(4.0).log_prob(torch.from_numpy(noise)).numpy() - math.log(spread)
    return mean + spread * noise, log_q


def table(**settings: Any) -> pf.Density:
    training = {"steps": 60, "depth": 2, "width": 16, "progress": "none"}
    return pf.fit_table(table_rows(1500, 0), **(training | settings), stack=False)


def inside(**settings: Any) -> pf.Density:
    """What is inside the density of a table: a density of states and numbers."""
    density = table(**settings)
    assert isinstance(density, pf.TableDensity)
    return density.inner


def mixture_inside() -> pf.Density:
    """A table whose rows are a mixture of a flow's density and of simple ones."""
    density = table()
    assert isinstance(density, pf.TableDensity)
    rows = density.space.read(table_rows(1500, 0))
    encoded = density.space.encode(rows)
    simple = fit_baselines(encoded, density.space.sizes, None, seed=0)
    return density.space.wrap(pf.Mixture([density.inner, simple["gaussian"]], weights=[0.7, 0.3]))


def image_density(classes: int = 0) -> pf.ImageDensity:
    """Bytes of images of two rows, whose logits stay far from what lies beyond the range of bytes."""
    flow = pf.glow((1, 2, 2), levels=1, depth=2, width=4, context_dim=classes, seed=0)
    generator = torch.Generator().manual_seed(3)
    context = torch.eye(classes)[torch.arange(64) % classes] if classes else None
    pf.initialize(flow, 0.4 * torch.randn(64, 1, 2, 2, generator=generator) + 0.3, context)
    return pf.ImageDensity(flow, classes=[f"kind {i}" for i in range(classes)])


def equalized_density() -> pf.ImageDensity:
    """Images whose bytes have the masses of those of another density, with noise that was learned."""
    bytes_of = stirred(image_density()).sample(500, generator=2)[:, None]
    flow = pf.glow((1, 2, 2), levels=1, depth=2, width=4, seed=0)
    pf.initialize(flow, torch.randn(64, 1, 2, 2, generator=torch.Generator().manual_seed(3)))
    learned = pf.VariationalDequantization((1, 2, 2), width=4, generator=torch.Generator().manual_seed(4))
    return pf.ImageDensity(flow, masses=byte_masses([bytes_of]), dequantization=learned)


def independent_pixels() -> IndependentPixels:
    density = stirred(image_density())
    return fit_pixels(density.sample(500, generator=2), density.space)  # type: ignore[arg-type]


def propose_bytes(density: pf.Density, n: int) -> tuple[Tensor, Tensor]:
    """Bytes around those of the density, rounded from Student t numbers; those beyond the range at its ends."""
    assert isinstance(density, pf.ImageDensity | IndependentPixels)
    context = [0] if density.space.classes else None
    own = density.space.flatten_samples(density.sample(2000, context, generator=1)).double()
    mean, spread = own.mean(0), 1.5 * own.std(0)
    t = torch.distributions.StudentT(4.0)
    grid = torch.arange(257.0).double()
    state = torch.get_rng_state()
    torch.manual_seed(12)
    drawn = (mean + spread * t.sample((n, *mean.shape)).double()).floor().clamp(0, 255)
    torch.set_rng_state(state)
    below = student_cdf((grid - mean[..., None]) / spread[..., None])
    below[..., 0], below[..., -1] = 0.0, 1.0
    mass = below.diff(dim=-1).clamp_min(1e-300).log()
    picked = mass.expand(n, *mass.shape).gather(-1, drawn.long()[..., None])[..., 0]
    return drawn.to(torch.uint8), picked.flatten(1).sum(1)


def propose_dequantized(density: pf.Density, n: int) -> tuple[Tensor, Tensor]:
    """Bytes of the images inside, with uniform noise."""
    assert isinstance(density, Dequantized)
    images, log_mass = propose_bytes(density.density, n)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(13), dtype=torch.float64)
    return (images + noise)[:, None].float(), log_mass


def student_cdf(u: Tensor) -> Tensor:
    """Of 4 degrees of freedom."""
    s = u / (4 + u.square()).sqrt()
    return 0.5 + 0.75 * (s - s**3 / 3)


COLOUR_STATES = torch.tensor([[0.0], [1.0], [2.0], [0.0]])

DENSITIES = [
    Line("Flow", lambda: stirred(real_nvp(3))),
    Line("Flow/D=1", lambda: stirred(real_nvp(1))),
    Line("Flow/spline", lambda: stirred(initialized(pf.spline_flow(2, depth=2, width=8, bins=4, seed=0)))),
    Line("Flow/composed", lambda: stirred(composed_flow()), recipe=False),
    Line("Flow/conditional", lambda: stirred(real_nvp(2, context_dim=3)), contexts=contexts(3)),
    Line("Flow/image", lambda: stirred(image_flow()), recipe=False),
    Line("Mixture/unlike", lambda: stirred(unlike_flows())),
    Line("Mixture/conditional", lambda: stirred(unlike_conditional()), contexts=contexts(3)),
    Line("Mixture/ensemble", lambda: stirred(pf.Ensemble([real_nvp(2, seed=k) for k in range(3)]))),
    Line("Mixture/nested", lambda: pf.Mixture([stirred(unlike_flows()), gaussians()], weights=[0.6, 0.4])),
    Line("Frequencies", frequencies, propose=states_and_numbers(2, 3)),
    Line("GaussianMixtureDensity", gaussians),
    Line("GaussianMixtureDensity/conditional", lambda: gaussians(2), contexts=contexts(2).double()),
    Line("Independent", lambda: Independent([frequencies(), gaussians()]), propose=states_and_numbers(2, 3)),
    Line("LatentClasses", latent_classes, propose=states_and_numbers(2, 3)),
    Line("LatentClasses/full", lambda: latent_classes(is_full=True), propose=states_and_numbers(2, 3)),
    Line(
        "LatentClasses/conditional",
        lambda: latent_classes(given=True),
        contexts=GIVEN,
        propose=states_and_numbers(2, 3, context=GIVEN[:1]),
    ),
    Line(
        "LatentClasses/full conditional",
        lambda: latent_classes(is_full=True, given=True),
        contexts=GIVEN,
        propose=states_and_numbers(2, 3, context=GIVEN[:1]),
    ),
    Line("MixedKernel", mixed_kernel, propose=states_and_numbers(2, 3)),
    Line(
        "MixedKernel/conditional",
        lambda: mixed_kernel(given=True),
        contexts=GIVEN,
        propose=states_and_numbers(2, 3, context=GIVEN[:1]),
    ),
    Line(
        "MassFunction", lambda: stirred(MassFunction([2, 3], seed=0)), propose=states_and_numbers(2, 3), in_files=False
    ),
    Line("StatesThenNumbers", inside, propose=states_and_numbers(3, 7, 2, 2)),
    Line(
        "StatesThenNumbers/conditional",
        lambda: inside(given=["colour"]),
        contexts=COLOUR_STATES,
        propose=states_and_numbers(7, 2, 2, context=COLOUR_STATES[:1]),
    ),
    Line("ImageDensity", lambda: stirred(image_density()), propose=propose_bytes),
    Line(
        "ImageDensity/classes",
        lambda: stirred(image_density(4)),
        contexts=torch.arange(4)[:, None],
        propose=propose_bytes,
    ),
    Line("ImageDensity/equalized", equalized_density, propose=propose_bytes),
    Line("Dequantized", lambda: Dequantized(equalized_density()), propose=propose_dequantized, in_files=False),
    Line("IndependentPixels", independent_pixels, propose=propose_bytes, in_files=False),
    Line("TableDensity", table, propose=propose_table),
    Line("TableDensity/mixture inside", mixture_inside, propose=propose_table),
    Line("TableDensity/members", lambda: table(members=2, steps=30), propose=propose_table),
    Line(
        "TableDensity/conditional",
        lambda: table(given=["colour"]),
        contexts={"colour": COLOURS},
        propose=propose_given_colour,
    ),
    Line("TableDensity/given numbers", lambda: table(given=["size", "colour"]), contexts=table_rows(5, 1)),
]
