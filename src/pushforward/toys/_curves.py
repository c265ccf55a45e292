"""The toys that are a curve plus Gaussian noise: moons, circles, rings and spirals."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ._base import (
    Toy,
    check_integer,
    check_positive,
    choice,
    composite,
    half_circle_log_prob,
    normal,
    points_log_prob,
    polar,
    rings_entropy,
    rings_log_prob,
    tube_entropy,
    uniform,
)


@final
@dataclass(frozen=True)
class TwoMoons(Toy):
    """Two interleaved half circles plus Gaussian noise: scikit-learn's `make_moons` with t continuous.

    The outer moon (label 0) is (cos t, sin t), the inner one (label 1) (1 - cos t, 1/2 - sin t), t uniform on [0, pi].
    Each point picks its moon by a fair coin, where `make_moons` takes exactly half of each.

    Args:
        noise: standard deviation of the noise on each axis, > 0, in data units.

    Raises:
        ValueError: if noise is not a finite number > 0.

    Example:
        >>> moons = TwoMoons(noise=0.05)
        >>> round(moons.entropy(), 3)
        0.289
    """

    name: ClassVar[str] = "moons"
    noise: float = 0.05

    def __post_init__(self) -> None:
        check_positive("noise", self.noise)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The moons and 5 noise around them, (xmin, xmax, ymin, ymax)."""
        pad = 5 * self.noise
        return -1 - pad, 2 + pad, -0.5 - pad, 1 + pad

    def _draw(self, n: int, generator: torch.Generator | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        labels = choice(generator, n, 2)
        outer = polar(1.0, math.pi * uniform(generator, n))
        x = torch.where(labels[:, None] == 0, outer, self._swap(outer))
        return x + self.noise * normal(generator, n, 2), labels

    def _log_prob(self, x: Tensor) -> Tensor:
        outer = half_circle_log_prob(x, self.noise)
        inner = half_circle_log_prob(self._swap(x), self.noise)
        return torch.logaddexp(outer, inner) - math.log(2)

    def _entropy(self) -> float:
        t = torch.linspace(0, math.pi, math.ceil(math.pi / self.noise) + 2, dtype=torch.float64)
        outer = polar(1.0, t)
        return tube_entropy(self.log_prob, torch.cat((outer, self._swap(outer))), self.noise)

    @staticmethod
    def _swap(x: Tensor) -> Tensor:
        """The half turn that takes each moon to the other."""
        return x.new_tensor((1.0, 0.5)) - x


@final
@dataclass(frozen=True)
class Circles(Toy):
    """Two concentric circles plus Gaussian noise: scikit-learn's `make_circles`, with independent labels.

    Args:
        noise: standard deviation of the noise on each axis, > 0, in data units.
        factor: radius of the inner circle (label 1), in (0, 1); the outer one (label 0) has radius 1.

    Raises:
        ValueError: if noise is not a finite number > 0, or factor is outside (0, 1).

    Example:
        >>> Circles(noise=0.05).log_prob(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        tensor([ -0.4539, -46.5396])
    """

    name: ClassVar[str] = "circles"
    noise: float = 0.05
    factor: float = 0.5

    def __post_init__(self) -> None:
        check_positive("noise", self.noise)
        check_positive("factor", self.factor)
        if self.factor >= 1:
            raise ValueError(f"factor must be between 0 and 1, got {self.factor!r}")

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The circles and 5 noise around them, (xmin, xmax, ymin, ymax)."""
        end = 1 + 5 * self.noise
        return -end, end, -end, end

    def _draw(self, n: int, generator: torch.Generator | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return _draw_rings(n, generator, self._radii(), self.noise)

    def _log_prob(self, x: Tensor) -> Tensor:
        return rings_log_prob(torch.linalg.vector_norm(x, dim=-1), self._radii().to(x), self.noise)

    def _entropy(self) -> float:
        return rings_entropy(self._radii(), self.noise)

    def _radii(self) -> Tensor:
        return torch.tensor((1.0, self.factor), dtype=torch.float64)


@final
@dataclass(frozen=True)
class Rings(Toy):
    """Several concentric circles, equally likely, plus Gaussian noise; labels count from the innermost.

    Args:
        noise: standard deviation of the noise on each axis, > 0, in data units.
        rings: number of circles, >= 1.
        spacing: the circles have radii spacing, 2 spacing, ..., > 0, in data units.

    Raises:
        ValueError: if noise or spacing is not a finite number > 0, or rings is not an integer >= 1.

    Example:
        >>> x, labels = Rings(rings=4).sample_with_labels(1000)
        >>> labels.unique()
        tensor([0, 1, 2, 3])
    """

    name: ClassVar[str] = "rings"
    noise: float = 0.08
    rings: int = 4
    spacing: float = 0.75

    def __post_init__(self) -> None:
        check_positive("noise", self.noise)
        check_integer("rings", self.rings, least=1)
        check_positive("spacing", self.spacing)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The circles and 5 noise around them, (xmin, xmax, ymin, ymax)."""
        end = self.rings * self.spacing + 5 * self.noise
        return -end, end, -end, end

    def _draw(self, n: int, generator: torch.Generator | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return _draw_rings(n, generator, self._radii(), self.noise)

    def _log_prob(self, x: Tensor) -> Tensor:
        return rings_log_prob(torch.linalg.vector_norm(x, dim=-1), self._radii().to(x), self.noise)

    def _entropy(self) -> float:
        return rings_entropy(self._radii(), self.noise)

    def _work(self) -> int:
        return 4 * self.rings

    def _radii(self) -> Tensor:
        return self.spacing * torch.arange(1, self.rings + 1, dtype=torch.float64)


@final
@dataclass(frozen=True)
class Spirals(Toy):
    """Two arms of an Archimedean spiral plus Gaussian noise, filled evenly along their length but for the centre.

    Arm 0 is t (-cos t, sin t) / 3 with t = 2 pi turns sqrt(u), u uniform on [0, 1]; arm 1 is its mirror image through
    the origin. FFJORD's 2spirals adds uniform noise to this, left out here. A density costs time in
    1 / noise, the entropy in 1 / noise^2.

    Args:
        noise: standard deviation of the noise on each axis, > 0, in data units.
        turns: turns of each arm, > 0.

    Raises:
        ValueError: if noise or turns is not a finite number > 0.

    Example:
        >>> x = Spirals().sample(5)
        >>> Spirals().log_prob(x).shape
        torch.Size([5])
    """

    name: ClassVar[str] = "spirals"
    noise: float = 0.1
    turns: float = 1.5

    def __post_init__(self) -> None:
        check_positive("noise", self.noise)
        check_positive("turns", self.turns)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The arms and 5 noise around them, (xmin, xmax, ymin, ymax)."""
        end = self._end() / 3 + 5 * self.noise
        return -end, end, -end, end

    def _draw(self, n: int, generator: torch.Generator | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        labels = choice(generator, n, 2)
        arm = self._arm(self._end() * uniform(generator, n).sqrt())
        return arm * (1 - 2 * labels[:, None]) + self.noise * normal(generator, n, 2), labels

    def _log_prob(self, x: Tensor) -> Tensor:
        points, weights = self._nodes(x.device)
        return points_log_prob(x, points, weights, self.noise)

    def _entropy(self) -> float:
        return tube_entropy(self.log_prob, self._nodes(torch.device("cpu"))[0], self.noise)

    def _work(self) -> int:
        return 16 * self._panels()

    def _end(self) -> float:
        return 2 * math.pi * self.turns

    @staticmethod
    def _arm(t: Tensor) -> Tensor:
        return polar(t / 3, math.pi - t)

    def _panels(self) -> int:
        end = self._end()
        return max(16, math.ceil((end + end**2 / 2) / 3 / (2 * self.noise)))

    def _nodes(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Points (K, 2) on both arms and their weights (K,), which sum to 1: 8 to a panel of length <= 2 noise."""
        panels, end = self._panels(), self._end()
        # Even steps in (1 + t)^2 are nearly even in arc length, whose rate is sqrt(1 + t^2) / 3 <= (1 + t) / 3.
        steps = torch.linspace(0, 1, panels + 1, dtype=torch.float64, device=device)
        t, weights = composite((1 + steps * (end**2 + 2 * end)).sqrt() - 1, 8)
        arm, density = self._arm(t), weights * t / end**2
        return torch.cat((arm, -arm)), torch.cat((density, density))


def _draw_rings(n: int, generator: torch.Generator | None, radii: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    labels = choice(generator, n, len(radii))
    angle = 2 * math.pi * uniform(generator, n)
    return polar(radii.to(labels.device)[labels], angle) + noise * normal(generator, n, 2), labels
