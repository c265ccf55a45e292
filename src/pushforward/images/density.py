"""ImageDensity: a density over numbers becomes one over images of bytes, whose log-mass is in nats."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import as_generator, like
from ..density import Density, InnerFlow, Tensors
from ..flow import Flow
from ..io.pixels import Shape, in_layout, words_of
from ..io.registry import Builder, describe, register
from ..recipes import check_shape
from ..recipes.build import check_size
from .dequantization import VariationalDequantization
from .encoding import ALPHA, BYTES, ByteEncoding, spans
from .noise import uniforms
from .space import Images, count_of

KIND = "images"  # in model files


class ImageDensity(Density):
    """The mass of images of bytes, by a density over their pixels with uniform noise (dequantisation).

    A `ByteEncoding` makes a number y of each byte b and its noise u in [0, 1): the logit of the Real NVP paper, or,
    with the masses of bytes, a normal quantile. With q the inner density of y,

        log P(image) >= E_u log q(y) + sum log |dy/du|,

    a bound of which the noise is one sample: `log_prob` takes a noise that is a function of the image, so that it
    repeats, and `draws` of several average q, which tightens the bound. A mass that seems above 1 is taken as 1.
    Divided by -D log 2 these are bits per dimension, equal to (NLL + D log 256) / (D log 2) with the negative log-
    likelihood NLL of x = (b + u) / 256.

    Samples are the bytes that numbers belong to. With a logit the inner density can give numbers up to
    alpha / (1 - 2 alpha) beyond [0, 1): these are moved to its end, a mass that `log_prob` does not count. With masses
    each number belongs to a byte.

    Args:
        inner: over tensors (C, H', W'), such as a flow of `glow`; or over vectors of as many numbers.
        size: (H, W) of the images. Where they are smaller than (H', W'), they are padded by black pixels, whose
            likelihood is counted, so that the mass stays a bound. None takes (H', W').
        shape: (C, H, W) of the images of an inner density over vectors.
        alpha, masses: of the `ByteEncoding`; masses (256, C, h, w) are of padded images.
        dequantization: what learned to move the noise; None for uniform noise.
        layout: of the images that `sample` gives; see `Images`.
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
        masses: Tensor | None = None,
        dequantization: VariationalDequantization | None = None,
        layout: str | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not isinstance(inner, Density) or not isinstance(inner.space, Tensors):
            raise ValueError(f"inner must be a density over tensors, such as a flow, got {type(inner).__name__}")
        self._inner_shape = inner.space.shape
        self.padded = self._padded(shape)
        channels, height, width = self.padded
        self.size = _checked_size((height, width) if size is None else size, self.padded)
        self.inner = inner
        self.encoding = ByteEncoding(alpha=alpha, masses=masses)
        if masses is not None and (masses.shape[1] != channels or masses.shape[2] > height or masses.shape[3] > width):
            raise ValueError(f"masses of shape {tuple(masses.shape)} do not fit images of shape {self.padded}")
        if dequantization is not None:
            if not isinstance(dequantization, VariationalDequantization):
                raise ValueError(f"dequantization must be a VariationalDequantization or None, got {dequantization!r}")
            if dequantization.shape != self.padded:
                raise ValueError(
                    f"the dequantization is of images of {dequantization.shape}, these are of {self.padded}"
                )
        self.dequantization = dequantization
        self.space: Images = Images(  # type: ignore[override]
            (channels, *self.size), layout, classes, encoding=self._own_encoding, wrap=_over_numbers
        )
        self._states = len(self.space.classes)

    def __repr__(self) -> str:
        """In a line; `inner` shows its layers."""
        recipe = getattr(self.inner, "recipe", None)
        name = recipe["name"] if recipe else type(self.inner).__name__
        of = f" of {count_of(self.space.classes)}" if self.space.classes else ""
        count = sum(p.numel() for p in self.parameters())
        return f"ImageDensity({words_of(self.space.shape)}{of}, {name}, {count:,} parameters)"

    def _padded(self, shape: Shape | None) -> Shape:
        """The shape (C, H', W') that the inner density is over."""
        if shape is None and len(self._inner_shape) == 3:
            return self._inner_shape  # type: ignore[return-value]
        if shape is None or math.prod(check_shape(shape)) != math.prod(self._inner_shape):
            raise ValueError(
                f"the inner density must be over (C, H, W), or over as many numbers as the shape {shape} has; it is "
                f"over {self._inner_shape}"
            )
        return check_shape(shape)

    @property
    def dimensions(self) -> int:
        """D, the number of bytes of an image, without padding."""
        return math.prod(self.space.shape)

    def log_prob(self, x: Any, context: Any = None, *, draws: int = 1) -> Tensor:
        """The log-mass of each image in nats, an estimate of a lower bound: N images -> (N,).

        Args:
            x: bytes (N, H, W), (N, H, W, C) or (N, C, H, W).
            context: one class or one for each image; see `Images.contexts`.
            draws: how many noises of each image to average over, at least 1; the mean bound rises with their number.

        Raises:
            ValueError: the images are others, or an argument is out of range.
        """
        if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
            raise ValueError(f"draws must be a whole number of at least 1, got {draws!r}")
        images, contexts = self._rows(x, context)
        pieces = spans(len(images), self.padded)
        scores = [self._score(images[s], None if contexts is None else contexts[s], draws) for s in pieces]
        return torch.cat(scores).clamp(max=0)

    @torch.no_grad()
    def bits_per_dim(self, x: Any, context: Any = None, *, draws: int = 1) -> Tensor:
        """-log_prob / (D log 2): N images -> (N,), without gradients; arguments as of `log_prob`.

        It is how many bits a byte of an image takes to store with this model: 8 where the model knows nothing. As the
        mass is estimated with noise within bytes, it is an upper bound, up to chance.
        """
        return (0 - self.log_prob(x, context, draws=draws)) / (self.dimensions * math.log(2))

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
            ValueError: n is negative, a class is unknown, or the temperature is not positive, or another than 1 of an
                inner density that is no flow.
        """
        contexts, total = self.space.expand_context(n, context)
        if not (isinstance(temperature, float | int) and 0 < temperature < math.inf):
            raise ValueError(f"temperature must be a positive number, got {temperature!r}")
        if temperature != 1 and not isinstance(self.inner, Flow):
            raise ValueError(
                f"a temperature needs a density with a flow inside, got {temperature} of {type(self.inner).__name__}"
            )
        encoded = self.encode_contexts(contexts)
        device = like(self).device
        generator = as_generator(generator, device)
        images = torch.empty(total, self.padded[0], *self.size, dtype=torch.uint8, device=device)
        more: dict[str, Any] = {} if temperature == 1 else {"temperature": temperature}
        for span in spans(total, self.padded) if total else ():
            count = span.stop - span.start
            if encoded is None:
                y = self.inner.sample(count, generator=generator, **more)
            else:
                y = self.inner.sample(1, encoded[span], generator=generator, **more)
            images[span] = self.to_bytes(y)
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

    def to_numbers(self, images: Tensor, noise: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Padded bytes and noise (N, C, H', W'), the inner density's context (N, K) -> numbers y of the same shape,
        and what to add to log q(y) for an estimate of the log-mass of the bytes (N,)."""
        reference = like(self)
        images, noise = images.to(reference.device), noise.to(reference.device)
        moved, of_noise = (noise, 0.0) if self.dequantization is None else self.dequantization(images, noise, context)
        y, log_slope = self.encoding(images, moved)
        return y.to(reference.dtype), (log_slope.flatten(1).sum(1) + of_noise).to(reference.dtype)

    def pad(self, images: Tensor) -> Tensor:
        """Bytes (N, C, H, W) -> (N, C, H', W'), with black pixels around them."""
        return pad_to(images, self.padded[1:])

    def to_bytes(self, y: Tensor) -> Tensor:
        """Numbers of N images, in the shape of the inner density or (C, H', W'), -> bytes (N, C, H, W), not padded."""
        top, left = _corner(self.size, self.padded[1:])
        return self.encoding.inverse(y.reshape(-1, *self.padded))[
            :, :, top : top + self.size[0], left : left + self.size[1]
        ]

    def as_rows(self, images: Tensor) -> Tensor:
        """Bytes (N, C, H, W) -> (N, *row_shape), in the layout of the space."""
        return in_layout(images, self.space.layout).contiguous()

    def _own_encoding(self) -> ByteEncoding:
        """That of images without their padding."""
        if self.encoding.masses is None:
            return ByteEncoding(alpha=None)
        return self.encoding.cropped(_corner(self.size, self.padded[1:]), self.size, self.padded[1:])

    def estimate(self, images: Tensor, noise: Tensor, context: Tensor | None = None) -> Tensor:
        """An estimate of the log-mass by one noise: arguments as of `to_numbers` -> (N,), in nats."""
        y, log_det = self.to_numbers(images, noise, context)
        return self.inner.log_prob(self._inner_rows(y), context) + log_det

    def _score(self, images: Tensor, contexts: Tensor | None, draws: int) -> Tensor:
        scores = [self.estimate(images, uniforms(images, draw), contexts) for draw in range(draws)]
        return scores[0] if draws == 1 else torch.stack(scores).logsumexp(0) - math.log(draws)

    def _numbers(self, x: Any, context: Any) -> tuple[Tensor, Tensor | None]:
        """Images and contexts as given -> as the inner density sees them."""
        images, contexts = self._rows(x, context)
        return self._inner_rows(self.to_numbers(images, uniforms(images, 0), contexts)[0]), contexts

    def _inner_rows(self, y: Tensor) -> Tensor:
        return y.reshape(-1, *self._inner_shape)

    def _rows(self, x: Any, context: Any) -> tuple[Tensor, Tensor | None]:
        """-> padded bytes (N, C, H', W'), and the contexts (N, K) as the inner density sees them."""
        images = self.pad(self.space.planes(x))
        return images, self.contexts_of(len(images), context)

    def contexts_of(self, count: int, context: Any) -> Tensor | None:
        """One context, or one for each of some images, as the space takes it -> those of the inner density (N, K).

        Raises:
            ValueError: there are neither one nor as many as images.
        """
        contexts, _ = self.space.contexts(context)
        if contexts is not None and len(contexts) not in (1, count):
            raise ValueError(f"expected a context for each of the {count:,} images, got {len(contexts):,}")
        encoded = self.encode_contexts(contexts)
        return None if encoded is None else encoded.expand(count, -1)

    def encode_contexts(self, contexts: Tensor | None) -> Tensor | None:
        """Contexts (M, K) of the space -> those of the inner density."""
        if contexts is None:
            return None
        reference = like(self)
        encoded = F.one_hot(contexts[:, 0].to(torch.int64), self._states) if self._states else contexts
        return encoded.to(reference.device, reference.dtype)


def _checked_size(size: Any, padded: Shape) -> tuple[int, int]:
    """The size (H, W) of images that are padded to a shape.

    Raises:
        ValueError: it is none, or does not fit.
    """
    height, width = padded[1:]
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(side) is int for side in size):
        raise ValueError(f"size must be (H, W), two whole numbers, got {size!r}")
    if not (1 <= size[0] <= height and 1 <= size[1] <= width):
        raise ValueError(f"images of {size[0]} x {size[1]} do not fit into {height} x {width}")
    return size[0], size[1]


def pad_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bytes (N, C, H, W) with black pixels around them, (N, C, *size)."""
    (top, left), (height, width) = _corner(images.shape[2:], size), images.shape[2:]
    margins = (left, size[1] - width - left, top, size[0] - height - top)
    return F.pad(images, margins) if any(margins) else images


def _corner(size: Sequence[int], padded: Sequence[int]) -> tuple[int, int]:
    """The row and the column at which images of a size begin within padded ones."""
    return (padded[0] - size[0]) // 2, (padded[1] - size[1]) // 2


def _over_numbers(inner: Density, space: Images) -> ImageDensity:
    """The density over images of one over their numbers as `Images.encode` gives them, and contexts of `as_given`."""
    density = ImageDensity(inner, shape=space.shape, alpha=None, masses=space.encoding.masses)
    density.space = copy.copy(space)
    density.space.classes = ()
    return density


def _settings(density: ImageDensity) -> dict[str, Any]:
    masses, learned = density.encoding.masses, density.dequantization
    return {
        "inner": describe(density.inner), "size": list(density.size), "shape": list(density.padded),
        "alpha": density.encoding.alpha, "masses": None if masses is None else list(masses.shape[1:]),
        "dequantization": None if learned is None else {"width": learned.width, "context_dim": learned.context_dim},
        "layout": density.space.layout, "classes": list(density.space.classes),
    }  # fmt: skip


def _build(settings: dict[str, Any], builder: Builder) -> ImageDensity:
    size, shape, alpha = (settings.get(name) for name in ("size", "shape", "alpha"))
    masses, learned = settings.get("masses"), settings.get("dequantization")  # which older files lack
    lists = [("size", size, 2), ("shape", shape, 3)] + ([] if masses is None else [("masses", masses, 3)])
    for name, value, count in lists:
        if not isinstance(value, list) or len(value) != count or not all(type(v) is int and v > 0 for v in value):
            raise ValueError(f"{name} must be {count} positive whole numbers, got {value!r}")
    if not (alpha is None or isinstance(alpha, float)):
        raise ValueError(f"alpha must be a number or null, got {alpha!r}")
    layout, classes = settings.get("layout"), settings.get("classes")
    if not isinstance(layout, str) or not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise ValueError(f"expected a layout and names of classes, got {layout!r} and {classes!r}")
    if settings.get("shades") is not None:
        raise ValueError("images of few shades were kept in another way for a while: this file must be fitted anew")
    inner = builder.build(settings.get("inner"))
    images: dict[str, Any] = {"size": size, "shape": tuple(shape or ()), "layout": layout, "classes": classes}
    ImageDensity(inner, **images)  # a shape that does not fit is refused before memory is taken for it
    if masses is not None:
        if not all(count <= most for count, most in zip(masses, images["shape"], strict=True)):
            raise ValueError(f"masses of shape {masses} do not fit images of shape {shape}")
        images["masses"] = torch.ones(BYTES, *masses)
    if learned is not None:
        known = {"width", "context_dim"}
        if (
            not isinstance(learned, dict)
            or learned.keys() != known
            or not all(type(v) is int for v in learned.values())
        ):
            raise ValueError(f"dequantization must have a width and a context_dim, got {learned!r}")
        for name, value in learned.items():
            check_size(name, value)
        images["dequantization"] = VariationalDequantization(images["shape"], **learned)
    return ImageDensity(inner, alpha=alpha, **images)


register(KIND, ImageDensity, _settings, _build)
