"""fit_images: from images of bytes to their density."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..arguments import as_device, as_generator, like
from ..convnets import LearnedSigmoids
from ..density import Density, Tensors
from ..flow import Flow
from ..io.pixels import Shape
from ..recipes import IMAGE_RECIPES, padded_size
from ..recipes.build import check_size
from ..training import Epoch, fit
from ..training.auto import steps_for
from ..training.progress import reporter
from ..training.settings import LENGTHS, check_training, passes_as_steps, with_defaults
from .auto import auto_recipe, is_gpu
from .data import LabelledImages, Source, check_labels
from .density import ImageDensity
from .dequantization import VariationalDequantization
from .encoding import spans
from .noise import LARGEST, random_noise, uniforms

# Measured on MNIST with `patch_flow`: small batches and high rates mattered more than its sizes.
TRAINING: dict[str, Any] = {"batch": 16, "lr": 8e-3, "weight_decay": 1e-4, "clip": 1.0}
# On a GPU a step of few images leaves most of it idle, and wider conditioners learn more in each.
TRAINING_ON_GPU = TRAINING | {"batch": 256, "lr": 6e-3, "weight_decay": 1e-2}
_LEVELS = 2  # scales where the recipe leaves it open
Recipe = str | Callable[..., Flow]


def fit_images(
    images: Source,
    labels: Any = None,
    *,
    val: Source = None,
    val_labels: Any = None,
    classes: Sequence[str] | None = None,
    recipe: Recipe = "auto",
    model: Mapping[str, Any] | None = None,
    pad: bool = False,
    flips: bool = False,
    encoding: str = "equalized",
    dequantization: str = "uniform",
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: str | Callable[[Epoch], None] = "auto",
    **training: Any,
) -> ImageDensity:
    """Learns the density of images of bytes of one size.

    Images are drawn with new noise each time. The averaged weights with the best likelihood of the validation images
    are kept.

    Args:
        images: uint8 (N, H, W), (N, H, W, C) or (N, C, H, W); what `read_images` reads or gave: a folder, a file.
        labels: the classes of the images (N,), whole numbers or names, for a density given the class; True takes those
            of the source; None for a density of all images. Of a part of images (`ImageData.part`) those of the part.
        val: validation images; None holds out `val_fraction` of the images, at most 2,000.
        val_labels: their classes, as `labels`, of which some may be absent.
        classes: names of the classes, in the order of whole numbers; None takes those of the source, or the numbers.
            They may be more than the labels.
        recipe: what builds the flow: "auto" (`multiscale_spline_flow`; with a GPU for `device`, and for large images
            that can hardly be halved, `patch_flow` with splines), the name of a recipe of images, or a function
            (shape, context_dim=, seed=, ...) -> `Flow` over the shape (C, H, W).
        model: further arguments of the recipe.
        pad: put black pixels around images that cannot be halved often enough. Their likelihood counts as the image's,
            so that bits per dimension are higher by what is not learned of them: next to nothing with equalized bytes.
        flips: draw half of the images mirrored left to right.
        encoding: of bytes as numbers: "equalized" spreads the bytes of each pixel by how often they occur, so that
            training begins at about the density of independent pixels; "logit" is that of the Real NVP paper, with
            alpha = 0.05. See `ByteEncoding`.
        dequantization: the noise that makes numbers of bytes: "uniform", or "variational", learned with the flow; see
            `VariationalDequantization`.
        device: where the density is trained and stays, such as "cuda"; None leaves the flow where the recipe made it.
        seed: of weights, drawn images, noise and the held-out images.
        progress: as in `fit`, in bits per dimension; a function is called with an `Epoch` in nats of the log-mass of an
            image.
        training: every other argument of `train`, such as steps, epochs, seconds, batch, lr or checkpoint. By default
            batches of 16, a rate of 8e-3 with a cosine, weight decay 1e-4, gradients clipped at 1; with a GPU for
            `device`, batches of 256, 6e-3, 1e-2 and 1, and wider networks in "auto".

    Returns:
        The density, with a summary of its training: that of `Fit`, and `bits_per_dim` of the validation images. Ctrl-C
        ends the training early.

    Raises:
        ValueError: there are fewer than 2 images; sizes that cannot be halved; labels that do not fit; `noise` is set;
                an argument is none of its words; as `train`.
        TypeError: there is no such setting of the training.
        OSError: a source cannot be read.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
        >>> small = {"depths": [1], "widths": [4]}
        >>> density = fit_images(images, model=small, recipe="patch_flow", steps=5, progress="none")
        >>> density.sample(3).shape
        torch.Size([3, 8, 8])
    """
    began = time.perf_counter()
    check_training(training | {"seed": seed})
    check_labels(labels, classes, val, val_labels)
    if training.get("noise"):
        raise ValueError("noise= is for vectors and tables: images have that of dequantization=")
    fraction = training.pop("val_fraction", 0.1)
    data = LabelledImages.of(images, labels, classes)
    if len(data) < 2:
        raise ValueError(f"at least 2 images are needed to fit a density, got {len(data)}")
    if val is None:
        data, holdout = data.split(fraction, seed)
    else:
        holdout = LabelledImages.of(val, val_labels, data.classes or None)
    device = None if device is None else as_device(device)
    preprocessing = _Preprocessing(encoding, dequantization)
    if model is not None and not isinstance(model, Mapping):
        raise ValueError(f"model must be arguments of the recipe by name, got {model!r}")
    density = _untrained(data, recipe, dict(model or {}), pad, flips, preprocessing, seed, device)
    defaults = TRAINING_ON_GPU if is_gpu(device) else TRAINING
    unset = {name for name in defaults if name != "clip"}  # of which None stands for the default
    given = {name: value for name, value in training.items() if value is not None or name not in unset}
    settings: dict[str, Any] = with_defaults(_with_length(given, len(data), defaults["batch"]), defaults)
    settings |= {"seed": seed}
    if settings.get("seconds") is not None:  # reading and building count
        settings["seconds"] = max(settings["seconds"] - (time.perf_counter() - began), 1e-3)
    passes = settings["batch"] / len(data)
    records: list[Epoch] = []
    with reporter(progress, density.dimensions) as report:

        def show(epoch: Epoch) -> None:
            records.append(replace(epoch, epoch=epoch.step * passes))
            report(records[-1])

        draws, val_rows = _Draws(density, data, flips), _validation(density, data, holdout)
        result = fit(Dequantized(density), draws, val_rows, progress=show, val_fraction=0.0, **settings)
    result.epochs = records
    density.training_summary = {**result.summary, "rows": len(data)}
    best = result.summary["best_val_nll"]
    if best is not None:
        density.training_summary["bits_per_dim"] = best / (density.dimensions * np.log(2))
    return density


class _Preprocessing(NamedTuple):
    """How `fit_images` is to make numbers of bytes; its arguments."""

    encoding: str = "equalized"
    dequantization: str = "uniform"


def _untrained(
    data: LabelledImages,
    recipe: Recipe,
    model: dict[str, Any],
    pad: bool,
    flips: bool,
    preprocessing: _Preprocessing,
    seed: int,
    device: torch.device | None = None,
) -> ImageDensity:
    """The density, with weights to start from."""
    channels, height, width = data.shape
    for name, value in (("pad", pad), ("flips", flips)):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")
    if preprocessing.encoding not in ("equalized", "logit"):
        raise ValueError(f"encoding must be equalized or logit, got {preprocessing.encoding!r}")
    if preprocessing.dequantization not in ("uniform", "variational"):
        raise ValueError(f"dequantization must be uniform or variational, got {preprocessing.dequantization!r}")
    if recipe == "auto":
        recipe, defaults = auto_recipe((channels, height, width), pad, is_gpu(device))
        model = defaults | model
    size = padded_size((height, width), _levels(model)) if pad else (height, width)
    shape = (channels, *size)
    flow = _made(recipe, shape, model, {"context_dim": len(data.classes), "seed": seed})
    learned = None
    if preprocessing.dequantization == "variational":
        generator = torch.Generator().manual_seed(seed)
        learned = VariationalDequantization(shape, context_dim=len(data.classes), generator=generator)
    density = ImageDensity(
        flow, size=(height, width), dequantization=learned, layout=data.layout,
        masses=data.masses(size, flips) if preprocessing.encoding == "equalized" else None, classes=data.classes,
    )  # fmt: skip
    return density.to(device or like(flow).device)


def _levels(model: Mapping[str, Any]) -> int:
    """The scales that the arguments of a recipe ask for."""
    widths = model.get("widths")
    return check_size("levels", len(widths) if isinstance(widths, list | tuple) else model.get("levels", _LEVELS))


def _made(recipe: Any, shape: Shape, model: dict[str, Any], own: dict[str, Any]) -> Flow:
    """The flow that a recipe makes of arguments by the user and our own.

    Raises:
        ValueError: there is no such recipe, it does not take the arguments, or makes something else.
    """
    for name in ("shape", *own):
        if name in model:
            raise ValueError(f"model must not hold {name}, which the images and other arguments tell")
    if not callable(recipe) and recipe not in IMAGE_RECIPES:
        raise ValueError(f"recipe must be auto, one of {', '.join(IMAGE_RECIPES)}, or a function, got {recipe!r}")
    make = recipe if callable(recipe) else IMAGE_RECIPES[recipe]
    name = recipe if isinstance(recipe, str) else getattr(recipe, "__name__", type(recipe).__name__)
    parameters = inspect.signature(make).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for argument in sorted((model | own).keys() - parameters.keys()):
            takers = [n for n, other in IMAGE_RECIPES.items() if argument in inspect.signature(other).parameters]
            hint = f"=, as recipe={' or '.join(takers)} would" if isinstance(recipe, str) and takers else ""
            raise ValueError(f"the recipe {name} takes no {argument}{hint}")
    flow = make(shape, **model, **own)
    width = own["context_dim"]
    if not isinstance(flow, Flow) or flow.shape != shape or flow.context_dim not in (None, width):
        got = f"one over {flow.shape} and {flow.context_dim}" if isinstance(flow, Flow) else type(flow).__name__
        raise ValueError(f"the recipe {name} must return a Flow over {shape} and contexts of width {width}, got {got}")
    return flow


def _with_length(training: dict[str, Any], count: int, usual: int) -> dict[str, Any]:
    """Settings with a length in steps or seconds: of a function that draws, `train` sees no end.

    Args:
        training: settings as given.
        count: of the images.
        usual: the batch where none is given.
    """
    batch = training.get("batch") or usual
    if all(training.get(name) is None for name in LENGTHS):
        return training | {"steps": steps_for(count, batch)}
    return passes_as_steps(training, count, batch)


@dataclass(frozen=True)
class _Draws:
    """Fresh rows of `Dequantized` for each pass: random images with new noise."""

    density: ImageDensity
    data: LabelledImages
    flips: bool

    @property
    def same_when_resumed(self) -> dict[str, Any]:
        """What a training that goes on from a checkpoint must have in common with the one before; see `train`."""
        return {
            "flips": self.flips,
            "images": len(self.data),
            "images_digest": self.data.digest(),
            "classes": list(self.data.classes),
        }

    def __call__(self, n: int, generator: torch.Generator) -> Any:
        """n rows, or (rows, contexts)."""
        index = torch.randint(len(self.data), (n,), generator=generator)
        images, contexts = self.data.images(index), self.data.contexts(index)
        if self.flips:
            mirrored = torch.rand(n, generator=generator) < 0.5
            images[mirrored] = images[mirrored].flip(-1)
        images = self.density.pad(images).to(like(self.density).device)
        return _beside(self.density, images + random_noise(images, generator), contexts)


def _validation(density: ImageDensity, data: LabelledImages, holdout: LabelledImages | None) -> Any:
    """Validation rows, with the noise that they are scored with, or (rows, contexts); None without."""
    if holdout is None:
        return None
    if holdout.shape != data.shape:
        raise ValueError(f"expected validation images of shape {data.shape}, got {holdout.shape}")
    if data.labels is not None and holdout.labels is None:
        raise ValueError("the validation images need labels, too: give val_labels")
    images, contexts = density.pad(holdout.images(slice(None))), holdout.contexts(slice(None))
    return _beside(density, (images + uniforms(images, 0)).float(), contexts)


def _beside(density: ImageDensity, x: Tensor, contexts: Tensor | None) -> Any:
    """Rows, or (rows, contexts), on the device of a density."""
    device = like(density).device
    return x.to(device) if contexts is None else (x.to(device), contexts.to(device))


class Dequantized(Density):
    """What the training of a density of images sees: rows are padded bytes plus noise in [0, 1)."""

    def __init__(self, density: ImageDensity) -> None:
        super().__init__()
        self.density = density
        self.space = Tensors(density.padded)

    def log_prob(self, x: Tensor, context: Any = None) -> Tensor:
        """Rows (N, C, H', W'), contexts (N, K) as the inner density sees them -> (N,), in nats."""
        parts = [(x[s], None if context is None else context[s]) for s in spans(len(x), self.density.padded)]
        return torch.cat([self.density.estimate(*_bytes_and_noise(rows), contexts) for rows, contexts in parts])

    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """n draws (n, C, H', W'), for each of M contexts (M, K) (n, M, C, H', W').

        Their noise is uniform, whatever was learned of it.
        """
        device = like(self).device
        generator = as_generator(generator, device)
        y = self.density.inner.sample(n, context, generator=generator)
        images = self.density.encoding.inverse(y.flatten(0, -4)).view(y.shape)
        return images + torch.rand(y.shape, generator=generator, device=device).clamp_(max=LARGEST)

    def initialize(self, x: Tensor, context: Any = None) -> None:
        """Sets what depends on data from a batch of rows, once, and puts thresholds between bytes."""
        self.density.inner.initialize(self.density.to_numbers(*_bytes_and_noise(x), context)[0], context)
        _place_thresholds(self.density)


@torch.no_grad()
def _place_thresholds(density: ImageDensity) -> None:
    """Puts the thresholds of each `LearnedSigmoids` in a flow between the bytes of its pixels.

    The flow is given images of such numbers: what a layer sees of them are its thresholds.
    """

    def place(layer: Any, seen: tuple[Tensor, ...]) -> None:
        layer.place(seen[0])

    flow = density.inner
    if not isinstance(flow, Flow):
        return
    layers = [layer for layer in flow.modules() if isinstance(layer, LearnedSigmoids)]
    for count in {len(layer.thresholds) for layer in layers}:
        numbers = density.encoding.between_bytes(count, density.padded).to(like(flow))
        classes = len(density.space.classes)
        hooks = [layer.register_forward_pre_hook(place) for layer in layers if len(layer.thresholds) == count]
        try:
            flow.f(numbers, numbers.new_zeros(count, classes) if classes else None)
        finally:
            for hook in hooks:
                hook.remove()


def _bytes_and_noise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes plus noise -> both."""
    images = x.floor()
    return images.to(torch.uint8), x - images
