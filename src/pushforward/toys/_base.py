"""What the toys share: the abstract `Toy`, its checks, and the quadratures behind the exact densities and entropies."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, lru_cache
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

# Floats of work per chunk of points: 1 MB for each temporary, which stays in the cache, however many points there are.
CHUNK = 2**17


class Toy(ABC):
    """A two-dimensional distribution whose density is known, to train a flow on and to judge it by.

    Toys are frozen dataclasses: they compare and hash by their parameters. Samples are independent draws, component
    included, so `log_prob` is exactly the density of `sample`.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float, float, float]:
        """A window for plots, (xmin, xmax, ymin, ymax) in data units, that holds practically all of the mass."""

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw n independent points, n -> x (n, 2), in data units.

        The draw is made in float64 on the generator's device (the CPU without one) and then converted, so one seed
        gives the same points in every dtype. Without a generator, torch's global one is used.

        Raises:
            ValueError: if n is not an integer >= 0, or dtype is not a floating point type.
        """
        return self.sample_with_labels(n, generator=generator, dtype=dtype, device=device)[0]

    def sample_with_labels(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw n points and say which component each came from, n -> x (n, 2), labels (n,) int64.

        Labels count from 0; they are all 0 where there is just one component. The points are those of `sample`.

        Raises:
            ValueError: if n is not an integer >= 0, or dtype is not a floating point type.
        """
        check_integer("n", n, least=0)
        if not dtype.is_floating_point:
            raise ValueError(f"dtype must be a floating point type, got {dtype}")
        x, labels = self._draw(n, generator, dtype)
        return x.to(device=device, dtype=dtype), labels.to(device=device)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, x (*N, 2) -> log_prob (*N,), in the dtype of x.

        Computed in float64, in chunks of bounded memory, and differentiable in x. Minus infinity outside the support
        and at infinite x; NaN where x is NaN.

        Raises:
            ValueError: if x is not a floating point tensor whose last axis has length 2.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise ValueError(f"x must be a floating point tensor, got {x.dtype if isinstance(x, Tensor) else type(x)}")
        if x.ndim == 0 or x.shape[-1] != 2:
            raise ValueError(f"x must have shape (*N, 2), got {tuple(x.shape)}")
        # MPS has no float64.
        device = torch.device("cpu") if x.device.type == "mps" else x.device
        points = x.reshape(-1, 2).to(device=device, dtype=torch.float64)
        finite = points.isfinite().all(-1)
        safe = torch.where(finite[:, None], points, 0.0)
        log_prob = torch.cat([self._log_prob(part) for part in safe.split(max(1, CHUNK // self._work()))])
        limit = torch.where(points.isnan().any(-1), math.nan, -math.inf).to(log_prob)
        return torch.where(finite, log_prob, limit).to(device=x.device, dtype=x.dtype).reshape(x.shape[:-1])

    def entropy(self) -> float:
        """Differential entropy in nats: no model can reach a lower mean negative log-likelihood.

        In closed form where there is one, else by quadrature to 1e-6 or better; computed once for equal parameters.
        """
        return _cached_entropy(self)

    @abstractmethod
    def _draw(self, n: int, generator: torch.Generator | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """x (n, 2) float64 and labels (n,) int64; dtype is what x will be rounded to."""

    @abstractmethod
    def _log_prob(self, x: Tensor) -> Tensor:
        """x (N, 2) float64 and finite -> log_prob (N,) float64."""

    @abstractmethod
    def _entropy(self) -> float: ...

    def _work(self) -> int:
        """Floats that `_log_prob` holds per point, for the size of its chunks."""
        return 64


@lru_cache(maxsize=256)
def _cached_entropy(toy: Toy) -> float:
    with torch.no_grad():
        return toy._entropy()


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless value is a finite number > 0."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}")


def check_integer(name: str, value: int, *, least: int) -> None:
    """Raise ValueError unless value is an integer >= least."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")


def uniform(generator: torch.Generator | None, *shape: int) -> Tensor:
    """Uniform draws on [0, 1), float64 (*shape)."""
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=_home(generator))


def normal(generator: torch.Generator | None, *shape: int) -> Tensor:
    """Standard normal draws, float64 (*shape)."""
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=_home(generator))


def choice(generator: torch.Generator | None, n: int, count: int) -> Tensor:
    """Uniform draws from 0 .. count - 1, int64 (n,)."""
    return torch.randint(count, (n,), generator=generator, device=_home(generator))


def _home(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def polar(radius: Tensor | float, angle: Tensor) -> Tensor:
    """Points radius * (cos angle, sin angle), angle (*N,) -> (*N, 2)."""
    return torch.stack((radius * angle.cos(), radius * angle.sin()), -1)


@cache
def _legendre(count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    nodes, weights = [], []
    for i in range(count):
        # Newton's method from Tricomi's estimate of the i-th root converges in four steps.
        x, slope = math.cos(math.pi * (i + 0.75) / (count + 0.5)), 1.0
        for _ in range(8):
            below, value = 1.0, x
            for k in range(2, count + 1):
                below, value = value, ((2 * k - 1) * x * value - (k - 1) * below) / k
            slope = count * (x * value - below) / (x * x - 1)
            x -= value / slope
        nodes.append(x)
        weights.append(2 / ((1 - x * x) * slope * slope))
    return tuple(nodes), tuple(weights)


def gauss_legendre(count: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [-1, 1], count -> nodes (count,), weights (count,), float64."""
    # The cache holds floats: a cached tensor might have been made in inference mode, which autograd rejects later.
    nodes, weights = (torch.tensor(t, dtype=torch.float64, device=device) for t in _legendre(count))
    return nodes, weights


def composite(edges: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre on each panel between edges, edges (P + 1,) -> nodes (P * count,), weights (P * count,)."""
    nodes, weights = gauss_legendre(count, edges.device)
    half = edges.diff()[:, None] / 2
    return (edges[:-1, None] + half * (1 + nodes)).flatten(), (half * weights).flatten()


def half_circle_log_prob(x: Tensor, noise: float) -> Tensor:
    """Log density of (cos t, sin t), t uniform on [0, pi], plus N(0, noise^2 I): x (N, 2) -> (N,).

    The integrand in t is proportional to exp(k cos(t - a)), k = |x| / noise^2, a the angle of x. It is integrated by
    Gauss-Legendre over those t where it is within 40 nats of its largest value: few nodes do for any noise and any x.
    """
    nodes, weights = gauss_legendre(32, x.device)
    with torch.no_grad():
        # a in [-pi/2, 3 pi/2), centred on the arc; a copy 2 pi away reaches the arc's other end when x lies below it.
        angle = torch.remainder(torch.atan2(x[:, 1], x[:, 0]) + math.pi / 2, 2 * math.pi) - math.pi / 2
        twin = torch.where(angle < math.pi / 2, angle + 2 * math.pi, angle - 2 * math.pi)
        gap = torch.maximum(-angle, angle - math.pi).clamp_min(0)
        drop = 40 * noise**2 / torch.linalg.vector_norm(x, dim=-1)
        reach = 2 * torch.asin((torch.sin(gap / 2).square() + drop / 2).clamp_max(1).sqrt())
        # Extremely far away the window would round to nothing.
        reach = torch.maximum(reach, gap + 1e-12)
        centre = torch.stack((angle, twin), -1)
        low = (centre - reach[:, None]).clamp(0, math.pi)
        half = ((centre + reach[:, None]).clamp(0, math.pi) - low) / 2
        t = low[..., None] + half[..., None] * (1 + nodes)
        log_weight = (half[..., None] * weights).log()
        cos, sin = t.cos().flatten(1), t.sin().flatten(1)
    square = (x[:, :1] - cos).square() + (x[:, 1:] - sin).square()
    log_mean = torch.logsumexp(log_weight.flatten(1) - square / (2 * noise**2), -1)
    return log_mean - math.log(math.pi) - math.log(2 * math.pi * noise**2)


def points_log_prob(x: Tensor, points: Tensor, weights: Tensor, noise: float) -> Tensor:
    """Log density of a weighted sum of N(points, noise^2 I), x (N, 2), points (K, 2), weights (K,) -> (N,)."""
    # |x - p|^2 expanded: one matrix product, and |x|^2, the part that cancels badly far away, is kept out of the sum.
    bias = weights.log() - points.square().sum(-1) / (2 * noise**2)
    log_sum = torch.logsumexp(torch.addmm(bias, x, points.T / noise**2), -1)
    return log_sum - x.square().sum(-1) / (2 * noise**2) - math.log(2 * math.pi * noise**2)


def rings_log_prob(radius: Tensor, radii: Tensor, noise: float) -> Tensor:
    """Log density at distance radius (N,) of equally likely circles of radii (K,) plus N(0, noise^2 I) -> (N,).

    A noisy circle is a Rice distribution in the radius: N(r - R) I0(r R / noise^2), with I0 scaled against overflow.
    """
    gap = (radius[:, None] - radii).square() / (2 * noise**2)
    bessel = torch.special.i0e(radius[:, None] * radii / noise**2).log()
    return torch.logsumexp(bessel - gap, -1) - math.log(len(radii) * 2 * math.pi * noise**2)


def rings_entropy(radii: Tensor, noise: float) -> float:
    """Entropy in nats of the density of `rings_log_prob`: an integral over the radius alone."""
    end = float(radii.max()) + 10 * noise
    r, weights = composite(torch.linspace(0, end, math.ceil(end / noise) + 1, dtype=torch.float64), 8)
    log_p = torch.cat([rings_log_prob(part, radii, noise) for part in r.split(CHUNK // 16)])
    return -float((weights * 2 * math.pi * r * log_p.exp() * log_p).sum())


def tube_entropy(log_prob: Callable[[Tensor], Tensor], curve: Tensor, noise: float) -> float:
    """Entropy in nats of a density that lies within 10 noise of a curve sampled finely, curve (K, 2).

    Sums -p log p over a square lattice of step noise / 2, which converges faster than any power of the step since p is
    a function smoothed by a Gaussian. Only the tiles beside the curve are visited.
    """
    side, steps = 10 * noise, 20
    near = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))
    tiles = torch.unique(((curve / side).floor().long()[:, None] + near).reshape(-1, 2), dim=0)
    offsets = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    lattice = torch.cartesian_prod(offsets, offsets)
    total = 0.0
    for part in tiles.split(256):
        log_p = log_prob(((part[:, None] + lattice) * side).reshape(-1, 2))
        total -= float((log_p.exp() * log_p).sum())
    return total * (side / steps) ** 2


def gaussian_mean(function: Callable[[Tensor], Tensor], mean: tuple[float, float], std: tuple[float, float]) -> float:
    """Mean of a function (N, 2) -> (N,) under N(mean, diag(std^2)), by the trapezoid rule to 10 std on each side."""
    z = torch.linspace(-10, 10, 161, dtype=torch.float64)
    grid = torch.cartesian_prod(z, z)
    weights = torch.exp(-grid.square().sum(-1) / 2)
    values = function(grid * torch.tensor(std, dtype=torch.float64) + torch.tensor(mean, dtype=torch.float64))
    return float((weights * values).sum() / weights.sum())
