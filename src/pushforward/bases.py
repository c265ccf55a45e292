"""Base densities p_Z: simple distributions of the latent z that can be evaluated and sampled."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Transform, VonMises, constraints
from torch.distributions.transforms import _InverseTransform

from .bijections import sum_event
from .bijections.elementwise import inverse_soft_clamp, soft_clamp

_LOG_SCALE_CLAMP = 7.0


class Base(nn.Module, ABC):
    """A density over z of a fixed shape.

    Attributes:
        shape: the shape of one z.
        has_rsample: whether `sample` under a gradient is differentiable in the base's own parameters.
    """

    shape: tuple[int, ...]
    has_rsample: bool = True

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """z (B, *shape) -> log p(z) (B,), in nats."""

    @abstractmethod
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws n rows: (n, *shape)."""


class StandardNormal(Base):
    """Independent normals with mean 0 and variance 1.

    Args:
        shape: the shape of one z; an integer D stands for (D,).

    Example:
        >>> StandardNormal(2).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    _device_and_dtype: Tensor

    def __init__(self, shape: int | Sequence[int]) -> None:
        super().__init__()
        self.shape = as_shape(shape)
        self._log_normaliser = 0.5 * math.log(2 * math.pi) * math.prod(self.shape)
        self.register_buffer("_device_and_dtype", torch.empty(0), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        """z (B, *shape) -> log p(z) (B,), in nats."""
        return -0.5 * sum_event(z * z) - self._log_normaliser

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws n rows: (n, *shape)."""
        like = self._device_and_dtype
        return torch.randn(n, *self.shape, generator=generator, dtype=like.dtype, device=like.device)


class GaussianMixture(Base):
    """A mixture of diagonal Gaussians whose means, scales and weights are learned with the flow.

    Scales are exp(s) with s softly clamped to |s| < 7.

    Args:
        shape: the shape of one z; an integer D stands for (D,).
        components: K, the number of Gaussians.
        means: (K, *shape), the start; standard normal draws when None.
        scales: standard deviations, broadcast to (K, *shape), the start; 1 when None.
        weights: (K,), positive, the start; equal when None. They are normalised to sum 1.
        learnable: False keeps the start fixed.
        generator: the source of the initial means.

    Raises:
        ValueError: a size or a value is out of range.

    Example:
        >>> base = GaussianMixture(2, 2, means=torch.tensor([[-3.0, 0.0], [3.0, 0.0]]))
        >>> base.responsibilities(torch.tensor([[3.0, 0.0]])).round()
        tensor([[0., 1.]], grad_fn=<RoundBackward0>)
    """

    has_rsample = False

    def __init__(
        self,
        shape: int | Sequence[int],
        components: int,
        *,
        means: Tensor | None = None,
        scales: Tensor | float | None = None,
        weights: Tensor | None = None,
        learnable: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.shape = as_shape(shape)
        if components < 1:
            raise ValueError(f"components must be at least 1, got {components}")
        size = (components, *self.shape)
        if means is None:
            means = torch.empty(size).normal_(generator=generator)
        means = torch.as_tensor(means, dtype=torch.get_default_dtype())
        if means.shape != size:
            raise ValueError(f"means must have shape {size}, got {tuple(means.shape)}")
        log_scales = torch.as_tensor(1.0 if scales is None else scales, dtype=means.dtype).log()
        if scales is not None and not bool((log_scales.abs() < _LOG_SCALE_CLAMP).all()):
            raise ValueError(
                f"scales must lie between exp(-{_LOG_SCALE_CLAMP:g}) and exp({_LOG_SCALE_CLAMP:g}), got {scales}"
            )
        raw = inverse_soft_clamp(log_scales, _LOG_SCALE_CLAMP)
        weights = torch.ones(components) if weights is None else torch.as_tensor(weights, dtype=means.dtype)
        if weights.shape != (components,) or (weights.device.type != "meta" and not bool((weights > 0).all())):
            raise ValueError(f"weights must be {components} positive numbers, got {weights}")
        self.means = nn.Parameter(means.clone(), requires_grad=learnable)
        self.raw_log_scales = nn.Parameter(raw.expand(size).clone(), requires_grad=learnable)
        self.logits = nn.Parameter(weights.log(), requires_grad=learnable)

    @property
    def weights(self) -> Tensor:
        """The mixture weights (K,), summing to 1."""
        return self.logits.softmax(0)

    @property
    def scales(self) -> Tensor:
        """The standard deviations (K, *shape)."""
        return self._log_scales().exp()

    def _log_scales(self) -> Tensor:
        return soft_clamp(self.raw_log_scales, _LOG_SCALE_CLAMP)

    def _joint(self, z: Tensor) -> Tensor:
        """z (B, *shape) -> log p(z, k) (B, K)."""
        log_scales = self._log_scales().flatten(1)
        standard = (z.flatten(1)[:, None] - self.means.flatten(1)) * (-log_scales).exp()
        log_normaliser = 0.5 * math.log(2 * math.pi) * math.prod(self.shape)
        log_density = -0.5 * standard.square().sum(-1) - log_scales.sum(-1) - log_normaliser
        return log_density + F.log_softmax(self.logits, 0)

    def log_prob(self, z: Tensor) -> Tensor:
        """z (B, *shape) -> log p(z) (B,), in nats."""
        return self._joint(z).logsumexp(1)

    def responsibilities(self, z: Tensor) -> Tensor:
        """Posterior of the component: z (B, *shape) -> p(k | z) (B, K)."""
        return self._joint(z).softmax(1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws n rows: (n, *shape)."""
        if n == 0:  # `multinomial` draws one number at least
            return self.means[:0]
        return self._around(torch.multinomial(self.weights, n, True, generator=generator), generator)

    def sample_component(self, component: int, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws n rows of one component: (n, *shape).

        Raises:
            ValueError: there is no such component.
        """
        if not 0 <= component < len(self.logits):
            raise ValueError(f"component must be one of 0..{len(self.logits) - 1}, got {component}")
        return self._around(torch.full((n,), component, device=self.means.device), generator)

    def _around(self, components: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(
            len(components), *self.shape, generator=generator, dtype=self.means.dtype, device=self.means.device
        )
        return self.means[components] + noise * self.scales[components]


class FromDistribution(Base):
    """Any `torch.distributions` object over the latent, as a base.

    Its tensors are kept (as copies, without training) and follow the flow's device and dtype.

    Args:
        distribution: with batch and event shape that together give `shape`.
        shape: the shape of one z; an integer D stands for (D,).

    Raises:
        ValueError: the shapes do not agree, or the distribution is discrete or lives on a circle.

    Example:
        >>> base = FromDistribution(torch.distributions.Laplace(torch.zeros(2), torch.ones(2)), 2)
        >>> base.log_prob(torch.zeros(1, 2))
        tensor([-1.3863])
    """

    _device_and_dtype: Tensor

    def __init__(self, distribution: Distribution, shape: int | Sequence[int]) -> None:
        super().__init__()
        self.shape = as_shape(shape)
        self.register_buffer("_device_and_dtype", torch.empty(0), persistent=False)
        batch, event = tuple(distribution.batch_shape), tuple(distribution.event_shape)
        if batch + event not in (self.shape, ()):
            raise ValueError(
                f"the base must cover one latent of shape {self.shape}, got a distribution with batch shape {batch} "
                f"and event shape {event}"
            )
        if problem := _why_no_density(distribution):
            raise ValueError(f"the base must be a density over numbers: {type(distribution).__name__} {problem}")
        self.distribution = copy.deepcopy(_copyable(distribution, {}))
        if batch + event == ():
            self.distribution = self.distribution.expand(self.shape)
            batch = self.shape
        if batch:
            self.distribution = Independent(self.distribution, len(batch))
        self.has_rsample = bool(distribution.has_rsample)
        for part in _parts(self.distribution):
            if isinstance(part, Distribution):
                part._validate_args = False  # one row outside of the support would raise; a density is 0 there

    def log_prob(self, z: Tensor) -> Tensor:
        """z (B, *shape) -> log p(z) (B,), in nats; -inf outside of the support."""
        try:
            support = self.distribution.support
        except NotImplementedError:
            support = None
        if support is None:
            return self.distribution.log_prob(z)
        inside = support.check(z)
        # Rows outside are calculated at the mean, so that no gradient through them is NaN.
        is_inside = inside.view(*inside.shape, *[1] * (z.ndim - inside.ndim))
        try:
            within = torch.where(is_inside, z, self.distribution.mean)
        except NotImplementedError:
            within = z
        log_prob = torch.where(inside, self.distribution.log_prob(within), -math.inf)
        # Where squares overflow, torch's formulas take infinity from infinity. NaN stays NaN.
        is_far = z.flatten(1).abs().amax(1) > torch.finfo(z.dtype).max ** 0.5
        log_prob = log_prob.masked_fill(log_prob.isnan() & is_far, -math.inf)
        return log_prob.masked_fill(z.flatten(1).isnan().any(1), math.nan)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws n rows: (n, *shape)."""
        draw = self.distribution.rsample if self.has_rsample else self.distribution.sample
        if generator is None:
            return draw((n,)).to(self._device_and_dtype)
        # torch.distributions draw from the global generator: lend it a seed from ours, and put it back.
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return draw((n,)).to(self._device_and_dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> FromDistribution:
        super()._apply(fn, recurse)
        for part in _parts(self.distribution):
            for key, value in vars(part).items():
                vars(part)[key] = _applied(value, fn)
        return self


def _why_no_density(distribution: Distribution) -> str:
    """Why a distribution is no density over numbers; "" if it is one."""
    if isinstance(distribution, VonMises):
        return "lives on a circle, and is repeated with every turn"
    try:
        support = distribution.support
    except NotImplementedError:
        return ""
    return "is discrete" if support is not None and support.is_discrete else ""


def _applied(value: Any, fn: Any) -> Any:
    """A value with fn applied to its tensors, also to those in lists, dictionaries and modules."""
    if isinstance(value, Tensor):
        return fn(value)
    if type(value) in (list, tuple):
        return type(value)(_applied(part, fn) for part in value)
    if type(value) is dict:
        return {key: _applied(part, fn) for key, part in value.items()}
    return value._apply(fn) if isinstance(value, nn.Module) and not isinstance(value, Base) else value


def as_base(base: Base | Distribution | None, shape: tuple[int, ...]) -> Base:
    """None -> StandardNormal; a `torch.distributions` object -> FromDistribution; a Base is checked and returned.

    Raises:
        ValueError: it is something else, or does not fit the shape.
    """
    if base is None:
        return StandardNormal(shape)
    if isinstance(base, Distribution):
        return FromDistribution(base, shape)
    if not isinstance(base, Base):
        raise ValueError(f"base must be a pushforward Base or a torch.distributions object, got {type(base).__name__}")
    if base.shape != shape:
        raise ValueError(f"the base must have the flow's shape {shape}, got {base.shape}")
    return base


def as_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    """D or a sequence of sizes -> a tuple of sizes.

    Raises:
        ValueError: it is empty or a size is below 1.
    """
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    if not sizes or not all(isinstance(s, Integral) and not isinstance(s, bool) and s >= 1 for s in sizes):
        raise ValueError(f"shape must be a positive integer or a sequence of them, got {shape!r}")
    return tuple(map(int, sizes))


class _Reversed(Transform):
    """The inverse of a transform. Copies of torch's own forget what they are the inverse of."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform
        self.bijective = transform.bijective

    @property
    def sign(self) -> Any:
        """Of the derivative; an inverse has that of what it inverts."""
        return self.transform.sign

    @property
    def domain(self) -> constraints.Constraint:  # type: ignore[override]
        return cast(constraints.Constraint, self.transform.codomain)

    @property
    def codomain(self) -> constraints.Constraint:  # type: ignore[override]
        return cast(constraints.Constraint, self.transform.domain)

    def _call(self, x: Tensor) -> Tensor:
        return self.transform._inverse(x)  # type: ignore[return-value]

    def _inverse(self, y: Tensor) -> Tensor:
        return self.transform._call(y)  # type: ignore[return-value]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log|dy/dx|, as torch defines it."""
        return -cast(Tensor, self.transform.log_abs_det_jacobian(y, x))

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of y for a shape of x."""
        return self.transform.inverse_shape(shape)

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of x for a shape of y."""
        return self.transform.forward_shape(shape)


def _copyable(value: Any, seen: dict[int, Any]) -> Any:
    """A distribution, or a part of one, in which inverse transforms are such as can be copied; tensors are shared."""
    if type(value) in (list, tuple):
        return type(value)(_copyable(v, seen) for v in value)
    if type(value) is dict:
        return {key: _copyable(part, seen) for key, part in value.items()}
    if isinstance(value, Tensor) and not value.is_leaf:
        return value.detach()
    if not isinstance(value, Distribution | Transform):
        return value
    if id(value) not in seen:
        if isinstance(value, _InverseTransform):
            seen[id(value)] = _Reversed(_copyable(value.inv, seen))
        else:
            seen[id(value)] = result = copy.copy(value)
            vars(result).update({key: _copyable(part, seen) for key, part in vars(result).items()})
    return seen[id(value)]


def _parts(value: Any, seen: set[int] | None = None) -> Iterator[Distribution | Transform]:
    """The distributions and transforms that one is made of, itself included, each once."""
    seen = set() if seen is None else seen
    if isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part, seen)
    elif isinstance(value, dict):
        yield from _parts(list(value.values()), seen)
    elif isinstance(value, Distribution | Transform) and id(value) not in seen:
        seen.add(id(value))
        yield value
        for part in list(vars(value).values()):
            yield from _parts(part, seen)
