"""Two-dimensional toys with known densities, after scikit-learn and FFJORD (Grathwohl et al., arXiv 1810.01367)."""

import math
from dataclasses import dataclass
from typing import ClassVar, TypeVar, final

import torch
from torch import Tensor

from ._base import Toy, check_integer, check_positive, choice, gaussian_mean, normal, points_log_prob, polar, uniform
from ._curves import Circles, Rings, Spirals, TwoMoons

__all__ = [
    "TOYS",
    "Banana",
    "Checkerboard",
    "Circles",
    "EightGaussians",
    "Pinwheel",
    "Rings",
    "Spirals",
    "Toy",
    "TwoMoons",
    "toy",
]

Number = TypeVar("Number", float, Tensor)


@final
@dataclass(frozen=True)
class Pinwheel(Toy):
    """A star of elongated Gaussians, twisted by an angle that grows with the radius; the label is the arm.

    Each arm is f ~ N((1, 0), diag(radial_std^2, tangential_std^2)), turned to its place, twisted by
    -rate exp(|f|) and doubled in size. The original (Johnson et al. 2016, arXiv 1603.06277) twists by the first
    coordinate of f, which folds the plane onto itself far out in the tails; the radius differs from it by the square
    of a small number, and makes the twist a bijection that keeps areas: the density is exact, and one term per arm.

    Args:
        radial_std: spread along an arm, > 0, before doubling.
        tangential_std: spread across an arm, > 0, before doubling.
        arms: number of arms, >= 1.
        rate: strength of the twist, > 0, in radians at |f| = 0.

    Raises:
        ValueError: if arms is not an integer >= 1, or another parameter is not a finite number > 0.

    Example:
        >>> Pinwheel(arms=3).sample_with_labels(500)[1].unique()
        tensor([0, 1, 2])
    """

    name: ClassVar[str] = "pinwheel"
    radial_std: float = 0.3
    tangential_std: float = 0.1
    arms: int = 5
    rate: float = 0.25

    def __post_init__(self) -> None:
        check_positive("radial_std", self.radial_std)
        check_positive("tangential_std", self.tangential_std)
        check_integer("arms", self.arms, least=1)
        check_positive("rate", self.rate)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The arms up to 4.5 radial_std from their middle, (xmin, xmax, ymin, ymax)."""
        end = 2 * math.hypot(1 + 4.5 * self.radial_std, 2 * self.tangential_std)
        return -end, end, -end, end

    def _draw(self, n: int, generator: torch.Generator | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        labels = choice(generator, n, self.arms)
        z = normal(generator, n, 2)
        f = torch.stack((1 + self.radial_std * z[:, 0], self.tangential_std * z[:, 1]), -1)
        return 2 * _turn(f, labels * (2 * math.pi / self.arms) - self._twist(f)), labels

    def _log_prob(self, x: Tensor) -> Tensor:
        return self._star_log_prob(_turn(x / 2, self._twist(x / 2))) - math.log(4)

    def _entropy(self) -> float:
        # The twist keeps areas and doubling adds log 4. The arms of the star are alike: the first one speaks for all.
        spread = (self.radial_std, self.tangential_std)
        return gaussian_mean(lambda f: -self._star_log_prob(f), (1.0, 0.0), spread) + math.log(4)

    def _work(self) -> int:
        return 8 * self.arms

    def _twist(self, f: Tensor) -> Tensor:
        # Beyond radius 5, some 13 standard deviations out, the twist stays as it is lest exp overflow.
        return self.rate * torch.linalg.vector_norm(f, dim=-1).clamp_max(5).exp()

    def _star_log_prob(self, f: Tensor) -> Tensor:
        angles = torch.arange(self.arms, dtype=f.dtype, device=f.device) * (-2 * math.pi / self.arms)
        along, across = _turn(f[:, None], angles).unbind(-1)
        square = ((along - 1) / self.radial_std).square() + (across / self.tangential_std).square()
        scale = self.arms * 2 * math.pi * self.radial_std * self.tangential_std
        return torch.logsumexp(-square / 2, -1) - math.log(scale)


@final
@dataclass(frozen=True)
class Checkerboard(Toy):
    """Uniform on the dark squares of a board centred at the origin; the label numbers them, column by column.

    The square at the lower left is dark. The density is minus infinity, in nats, on light squares and off the board.

    Args:
        squares: squares along each side of the board, >= 1.
        side: side of one square, > 0, in data units.

    Raises:
        ValueError: if squares is not an integer >= 1, or side is not a finite number > 0.

    Example:
        >>> Checkerboard().log_prob(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
        tensor([-3.4657,    -inf])
    """

    name: ClassVar[str] = "checkerboard"
    squares: int = 4
    side: float = 2.0

    def __post_init__(self) -> None:
        check_integer("squares", self.squares, least=1)
        check_positive("side", self.side)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The board and a little air, so that its edge shows, (xmin, xmax, ymin, ymax)."""
        end = self.squares * self.side / 2 + 0.05 * self.side
        return -end, end, -end, end

    def _draw(self, n: int, generator: torch.Generator | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        labels = choice(generator, n, self._dark())
        # Every other cell, counted up column by column, is dark; on an even board odd columns are one row off.
        column = 2 * labels // self.squares
        row = 2 * labels % self.squares + ((column % 2) if self.squares % 2 == 0 else 0)
        # Rounding to dtype must not carry a point over the edge of its square, where the density is 0.
        margin = self.squares * torch.finfo(dtype).eps
        inside = uniform(generator, n, 2).clamp(margin, 1 - margin)
        return (torch.stack((column, row), -1) + inside - self.squares / 2) * self.side, labels

    def _log_prob(self, x: Tensor) -> Tensor:
        cell = (x / self.side + self.squares / 2).floor()
        dark = ((cell >= 0) & (cell < self.squares)).all(-1) & (cell.sum(-1) % 2 == 0)
        return torch.full_like(x[:, 0], -self._entropy()).masked_fill(~dark, -math.inf)

    def _entropy(self) -> float:
        return math.log(self._dark() * self.side**2)

    def _dark(self) -> int:
        return (self.squares**2 + 1) // 2


@final
@dataclass(frozen=True)
class EightGaussians(Toy):
    """Eight equal round Gaussians evenly spaced on a circle; the label counts them anticlockwise from (radius, 0).

    Args:
        noise: standard deviation of each Gaussian on each axis, > 0, in data units.
        radius: radius of the circle of the means, > 0, in data units.

    Raises:
        ValueError: if noise or radius is not a finite number > 0.

    Example:
        >>> EightGaussians().log_prob(torch.tensor([2.0, 0.0]))
        tensor(-1.1447)
    """

    name: ClassVar[str] = "gaussians"
    noise: float = 0.25
    radius: float = 2.0

    def __post_init__(self) -> None:
        check_positive("noise", self.noise)
        check_positive("radius", self.radius)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The means and 5 noise around them, (xmin, xmax, ymin, ymax)."""
        end = self.radius + 5 * self.noise
        return -end, end, -end, end

    def _draw(self, n: int, generator: torch.Generator | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        labels = choice(generator, n, 8)
        return polar(self.radius, labels * (math.pi / 4)) + self.noise * normal(generator, n, 2), labels

    def _log_prob(self, x: Tensor) -> Tensor:
        means = polar(self.radius, torch.arange(8, dtype=x.dtype, device=x.device) * (math.pi / 4))
        return points_log_prob(x, means, x.new_full((8,), 1 / 8), self.noise)

    def _entropy(self) -> float:
        # The eight are alike: the first one speaks for all.
        return gaussian_mean(lambda x: -self._log_prob(x), (self.radius, 0.0), (self.noise, self.noise))


@final
@dataclass(frozen=True)
class Banana(Toy):
    """A Gaussian bent along a parabola (Haario, Saksman, Tamminen 1999), with mean 0.

    x0 ~ N(0, width^2) and x1 | x0 ~ N(curvature (x0^2 - width^2), noise^2): a shear, so the density is exact.

    Args:
        noise: standard deviation of x1 about the parabola, > 0, in data units.
        width: standard deviation of x0, > 0, in data units.
        curvature: coefficient of x0^2, > 0, in inverse data units.

    Raises:
        ValueError: if a parameter is not a finite number > 0.

    Example:
        >>> Banana(noise=1.0).entropy() == math.log(2 * math.pi * math.e)
        True
    """

    name: ClassVar[str] = "banana"
    noise: float = 0.3
    width: float = 1.0
    curvature: float = 0.5

    def __post_init__(self) -> None:
        check_positive("noise", self.noise)
        check_positive("width", self.width)
        check_positive("curvature", self.curvature)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The parabola to 4.2 width on each side and 4.2 noise around it, (xmin, xmax, ymin, ymax)."""
        end, pad = 4.2 * self.width, 4.2 * self.noise
        return -end, end, self._ridge(0.0) - pad, self._ridge(end) + pad

    def _draw(self, n: int, generator: torch.Generator | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        z = normal(generator, n, 2)
        x0 = self.width * z[:, 0]
        x = torch.stack((x0, self._ridge(x0) + self.noise * z[:, 1]), -1)
        return x, torch.zeros(n, dtype=torch.int64, device=x.device)

    def _log_prob(self, x: Tensor) -> Tensor:
        across = (x[:, 1] - self._ridge(x[:, 0])) / self.noise
        square = (x[:, 0] / self.width).square() + across.square()
        return -square / 2 - math.log(2 * math.pi * self.width * self.noise)

    def _entropy(self) -> float:
        return math.log(2 * math.pi * math.e * self.width * self.noise)

    def _ridge(self, x0: Number) -> Number:
        return self.curvature * (x0**2 - self.width**2)


TOYS: dict[str, type[Toy]] = {
    cls.name: cls for cls in (TwoMoons, Circles, Spirals, Pinwheel, Checkerboard, EightGaussians, Rings, Banana)
}


def toy(name: str, **kwargs: float) -> Toy:
    """The toy of this name, with its parameters.

    Raises:
        ValueError: if there is no toy of this name; the message lists those there are.
        TypeError: if the toy takes no such parameter.

    Example:
        >>> toy("moons", noise=0.1)
        TwoMoons(noise=0.1)
    """
    if name not in TOYS:
        raise ValueError(f"name must be one of {', '.join(TOYS)}, got {name!r}")
    return TOYS[name](**kwargs)


def _turn(x: Tensor, angle: Tensor) -> Tensor:
    """Rotate points x (*N, 2) anticlockwise by angle (*N,), with broadcasting."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((x[..., 0] * cos - x[..., 1] * sin, x[..., 0] * sin + x[..., 1] * cos), -1)
