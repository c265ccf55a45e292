"""ImageDensity: a density over numbers becomes one over images of bytes, whose log-mass is in nats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import as_generator, first_floating
from ..bijections.dequantization import ALPHA, check_alpha, from_unit, to_unit
from ..density import Density, InnerFlow, Tensors
from ..io.pixels import Shape, in_layout
from ..io.registry import Builder, describe, register
from .noise import uniforms
from .shades import Shades
from .space import Images

KIND = "images"  # in model files
_TOGETHER = 2**22  # pixels that are worked on at a time


class ImageDensity(Density):
    """The mass of images of bytes, by a density over their pixels with uniform noise (dequantisation).

    A byte b with noise u in [0, 1) is x = (b + u) / 256, and with a logit y = log(p / (1 - p)), where p = alpha +
    (1 - 2 alpha) x, as in the code of Dinh et al. 2016 (the paper prints alpha + (1 - alpha) x). With q the inner
    density of y,

        log P(image) >= E_u log q(y) + sum log |dy/dx| - D log 256,

    a bound of which the noise is one sample: `log_prob` takes a noise that is a function of the image, so that it
    repeats, and `draws` of several average q, which tightens the bound. Divided by -D log 2 these are bits per
    dimension, equal to (NLL + D log 256) / (D log 2) with the negative log-likelihood NLL of x.

    Samples are rounded down to bytes, and those beyond the range of bytes are moved to its end: with a logit the inner
    density can give numbers up to alpha / (1 - 2 alpha) beyond [0, 1), a mass that `log_prob` does not count.

    Of images of few shades, as masks and scans are, a density of x would have no bound: b is then the number of the
    shade, of S in place of 256. Other bytes count to the nearest shade, at a millionth of its mass.

    Args:
        inner: over tensors (C, H', W'), such as a flow of `patch_flow`; or over vectors of as many numbers.
        size: (H, W) of the images. Where they are smaller than (H', W'), they are padded by black pixels, whose
            likelihood is counted, so that the mass stays a bound. None takes (H', W').
        shape: (C, H, W) of the images of an inner density over vectors.
        alpha: of the logit, above 0 and below 1/2; None takes x as it is.
        layout: of the images that `sample` gives; see `Images`.
        shades: the bytes that images are made of, at least 2 in increasing order; None for all.
        classes: names of the classes of which a context is one. The inner density then sees K numbers, of which that of
            the class is 1 and all others are 0.

    Raises:
        ValueError: an argument is out of range, or the shapes do not agree.

    Example:
        >>> from pushforward import Chain, Flow
        >>> uniform = torch.distributions.Uniform(torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
        >>> density = ImageDensity(Flow(Chain(), (1, 2, 2), uniform), alpha=None)
        >>> density.bits_per_dim(torch.tensor([[[0, 255], [3, 4]]], dtype=torch.uint8))
        tensor([8.])
    """

    def __init__(
        self,
        inner: Density,
        *,
        size: Sequence[int] | None = None,
        shape: Shape | None = None,
        alpha: float | None = ALPHA,
        layout: str | None = None,
        shades: Sequence[int] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        check_alpha(alpha)
        space = inner.space
        self._inner_shape = space.shape if isinstance(space, Tensors) else (len(space.names),)
        self.padded = self._padded(shape)
        channels, height, width = self.padded
        self.size = (height, width) if size is None else (int(size[0]), int(size[1]))
        if not (1 <= self.size[0] <= height and 1 <= self.size[1] <= width):
            raise ValueError(f"images of {self.size[0]} x {self.size[1]} do not fit into {height} x {width}")
        self.inner = inner
        self.alpha = alpha
        self._states = len(classes)
        self.space: Images = Images(  # type: ignore[override]
            (channels, *self.size), layout, classes, shades=Shades.of(shades), wrap=_over_pixels
        )

    def _padded(self, shape: Shape | None) -> Shape:
        """The shape (C, H', W') that the inner density is over."""
        if shape is None and len(self._inner_shape) == 3:
            return self._inner_shape  # type: ignore[return-value]
        if shape is None or math.prod(shape) != math.prod(self._inner_shape):
            raise ValueError(
                f"the inner density must be over (C, H, W), or over as many numbers as the shape {shape} has; it is "
                f"over {self._inner_shape}"
            )
        return shape

    @property
    def dimensions(self) -> int:
        """D, the number of bytes of an image, without padding."""
        return math.prod(self.space.shape)

    def log_prob(self, x: Any, context: Any = None, *, draws: int = 1) -> Tensor:
        """The log-mass of each image in nats, an estimate of a lower bound: N images -> (N,).

        Args:
            x: bytes (N, H, W), (N, H, W, C) or (N, C, H, W).
            context: one class or one for each image; see `Images.contexts`.
            draws: how many noises of each image to average over, at least 1; the bound rises with their number.

        Raises:
            ValueError: the images are others, or an argument is out of range.
        """
        if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
            raise ValueError(f"draws must be a whole number of at least 1, got {draws!r}")
        images, contexts = self._rows(x, context)
        spans = _spans(len(images), self.padded)
        return torch.cat([self._score(images[s], None if contexts is None else contexts[s], draws) for s in spans])

    def bits_per_dim(self, x: Any, context: Any = None, *, draws: int = 1) -> Tensor:
        """-log_prob / (D log 2): N images -> (N,), an estimate of an upper bound; arguments as of `log_prob`."""
        return -self.log_prob(x, context, draws=draws) / (self.dimensions * math.log(2))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Any = None,
        *,
        generator: torch.Generator | int | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draws n images of bytes, or n for each context (*M, K): -> (n, *M, *row_shape).

        Args:
            n: how many, at least 0.
            context: one class or several; see `Images.contexts`.
            generator: the source of randomness, or a seed; torch's global one when None.
            temperature: what draws of the base are multiplied by: below 1 images are more typical and less varied, and
                do not follow `log_prob`. Of a flow alone.

        Raises:
            ValueError: n is negative, a class is unknown, or the temperature is not positive.
        """
        contexts, total = self.space.expand_context(n, context)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be a positive number, got {temperature!r}")
        encoded = self.encode_contexts(contexts)
        device = self._like().device
        generator = as_generator(generator, device)
        images = torch.empty(total, self.padded[0], *self.size, dtype=torch.uint8, device=device)
        more = {} if temperature == 1 else {"temperature": temperature}
        for span in _spans(total, self.padded) if total else ():
            count = span.stop - span.start
            if encoded is None:
                y = self.inner.sample(count, generator=generator, **more)
            else:
                y = self.inner.sample(1, encoded[span], generator=generator, **more)
            images[span] = self.to_bytes(y.reshape(count, *self.padded))
        return self.space.unflatten_samples(self.as_rows(images), n, context)

    def initialize(self, x: Any, context: Any = None) -> None:
        """Sets what depends on data from a batch of images, once."""
        y, contexts = self._numbers(x, context)
        self.inner.initialize(y, contexts)

    def latent(self, x: Any, context: Any = None) -> Tensor | None:
        """N images -> z (N, C, H', W') of a flow inside; None where there is no latent space."""
        return self.inner.latent(*self._numbers(x, context))

    def inner_flows(self, x: Any, context: Any = None) -> list[InnerFlow]:
        """The flows of the inner density, with the pixels as they see them."""
        return self.inner.inner_flows(*self._numbers(x, context))

    def to_numbers(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Padded bytes and noise (N, C, H', W') -> y (N, C, H', W'), and log|dy/db| (N,) of the bytes."""
        like, shades = self._like(), self.space.shades
        images = images.to(like.device)
        x = (shades.cells(images).double() + noise.to(like.device)) / len(shades)
        y, log_slope = from_unit(x, self.alpha)
        log_det = log_slope.flatten(1).sum(1) - math.prod(self.padded) * math.log(len(shades))
        log_det = log_det + shades.log_share(images)
        return y.to(like.dtype), log_det.to(like.dtype)

    def pad(self, images: Tensor) -> Tensor:
        """Bytes (N, C, H, W) -> (N, C, H', W'), with pixels of the darkest shade around them."""
        margins = self._margins()
        return F.pad(images, margins, value=self.space.shades.values[0]) if any(margins) else images

    def to_bytes(self, y: Tensor) -> Tensor:
        """Numbers (N, C, H', W') as of `to_numbers` -> bytes (N, C, H, W), without the padding."""
        x = to_unit(y, self.alpha)
        top, left = self._margins()[2], self._margins()[0]
        x = x[:, :, top : top + self.size[0], left : left + self.size[1]]
        shades = self.space.shades
        return shades.bytes((len(shades) * x).floor().clamp(0, len(shades) - 1).to(torch.uint8))

    def as_rows(self, images: Tensor) -> Tensor:
        """Bytes (N, C, H, W) -> (N, *row_shape), in the layout of the space."""
        return in_layout(images, self.space.layout).contiguous()

    def _score(self, images: Tensor, contexts: Tensor | None, draws: int) -> Tensor:
        scores = []
        for draw in range(draws):
            y, log_det = self.to_numbers(images, uniforms(images, draw))
            scores.append(self.inner.log_prob(self._inner_rows(y), contexts) + log_det)
        return scores[0] if draws == 1 else torch.stack(scores).logsumexp(0) - math.log(draws)

    def _numbers(self, x: Any, context: Any) -> tuple[Tensor, Tensor | None]:
        """Images and contexts as given -> as the inner density sees them."""
        images, contexts = self._rows(x, context)
        return self._inner_rows(self.to_numbers(images, uniforms(images, 0))[0]), contexts

    def _inner_rows(self, y: Tensor) -> Tensor:
        return y.reshape(-1, *self._inner_shape)

    def _rows(self, x: Any, context: Any) -> tuple[Tensor, Tensor | None]:
        """-> padded bytes (N, C, H', W'), and the contexts (N, K) as the inner density sees them."""
        images = self.pad(self.space.planes(x))
        contexts, _ = self.space.contexts(context)
        if contexts is not None and len(contexts) not in (1, len(images)):
            raise ValueError(f"expected a context for each of the {len(images):,} images, got {len(contexts):,}")
        encoded = self.encode_contexts(contexts)
        return images, None if encoded is None else encoded.expand(len(images), -1)

    def encode_contexts(self, contexts: Tensor | None) -> Tensor | None:
        """Contexts (M, K) of the space -> those of the inner density."""
        if contexts is None:
            return None
        like = self._like()
        encoded = F.one_hot(contexts[:, 0].to(torch.int64), self._states) if self._states else contexts
        return encoded.to(like.device, like.dtype)

    def _like(self) -> Tensor:
        return first_floating(self.parameters(), self.buffers())

    def _margins(self) -> tuple[int, int, int, int]:
        """The padding left, right, above and below."""
        (height, width), (_, padded_height, padded_width) = self.size, self.padded
        top, left = (padded_height - height) // 2, (padded_width - width) // 2
        return left, padded_width - width - left, top, padded_height - height - top


def _spans(count: int, shape: Shape) -> list[slice]:
    """The pieces of so many images; at least one, which may be empty."""
    size = max(16, _TOGETHER // math.prod(shape) // 16 * 16)
    return [slice(start, min(start + size, count)) for start in range(0, max(count, 1), size)]


def _over_pixels(inner: Density, space: Images) -> ImageDensity:
    """The density over images of one over their pixels, as `Images.encode` gives them, and with classes as numbers."""
    density = ImageDensity(inner, shape=space.shape, alpha=None, shades=space.shades.values)
    density.space = space
    return density


def _settings(density: ImageDensity) -> dict[str, Any]:
    return {
        "inner": describe(density.inner), "size": list(density.size), "shape": list(density.padded),
        "alpha": density.alpha, "layout": density.space.layout, "classes": list(density.space.classes),
        "shades": None if density.space.shades.are_all else list(density.space.shades.values),
    }  # fmt: skip


def _build(settings: dict[str, Any], builder: Builder) -> ImageDensity:
    size, shape, alpha = (settings.get(name) for name in ("size", "shape", "alpha"))
    for name, value, count in (("size", size, 2), ("shape", shape, 3)):
        if not isinstance(value, list) or len(value) != count or not all(type(v) is int and v > 0 for v in value):
            raise ValueError(f"{name} must be {count} positive whole numbers, got {value!r}")
    if not (alpha is None or isinstance(alpha, float)):
        raise ValueError(f"alpha must be a number or null, got {alpha!r}")
    layout, classes = settings.get("layout"), settings.get("classes")
    if not isinstance(layout, str) or not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise ValueError(f"expected a layout and names of classes, got {layout!r} and {classes!r}")
    shades = settings.get("shades")  # which older files lack
    if not (shades is None or isinstance(shades, list)):
        raise ValueError(f"shades must be a list of bytes or null, got {shades!r}")
    inner = builder.build(settings.get("inner"))
    images: dict[str, Any] = {"size": size, "shape": tuple(shape or ()), "layout": layout, "classes": classes}
    return ImageDensity(inner, alpha=alpha, shades=shades, **images)


register(KIND, ImageDensity, _settings, _build)
