"""What `fit`, `score`, `check` and `sample` do with images in place of tables; see `on_image_plots` for `plot`."""

from __future__ import annotations

import hashlib
import math
import secrets
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import checks
from ..checks.stats import mean_and_se
from ..images import ImageDensity, fit_images
from ..images.independent import fit_pixels
from ..io import frames, models
from ..io.atomic import writing
from ..io.image_writer import check_target, folder_of
from ..io.images import read_images
from ..io.names import shown
from ..io.pixels import ImageData, as_bytes, size_text
from ..io.tables import SUFFIXES, TableWriter, check_suffix
from ..recipes import IMAGE_RECIPES
from ..training import Epoch
from ..training.checkpoint import FILE
from ..training.progress import reporter
from ..training.settings import check_settings
from .curves import thinned
from .on_fit import recorder
from .output import (
    ThrottledProgress,
    count,
    echo,
    finite,
    listed,
    plus_minus,
    prepare_file,
    prepare_folder,
    say,
    warn,
)
from .reading import SEED, TEST_FRACTION, percentiles, quantiles_of, quantiles_to_keep, tell_same

_MOST_TEST = 10_000
_MIN_IMAGES = 25  # after the test's tenth, enough to hold some out for validation
_SAMPLES = 64
_SAME = 0.02  # of the bits of held-out images, by which those of samples may differ
_LEAST = 1e-4  # bits per dimension that are shown, and the least that make a difference
_COUNTED = 50_000  # training images whose bytes are counted
_MOST_CHECKED = 1024  # bytes of an image: a check takes Jacobians and fits simple densities to all of them


def fit(
    data: str, out: str, recipe: str, by_class: bool, pad: bool, flips: bool, mode: str | None,
    dequantization: str | None, device: str | None, skip_bad_rows: bool, seed: int, progress: str,
    model: dict[str, Any], training: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Learns the density of images, tests it on images held out, and saves it."""
    if recipe != "auto" and recipe not in IMAGE_RECIPES:
        raise ValueError(f"--recipe {recipe} is for tables; for images there are auto, {', '.join(IMAGE_RECIPES)}")
    check_settings(training)
    prepare_file(out, (".safetensors",))
    images = _read(data, mode, skip_bad_rows)
    if by_class and images.labels is None:
        raise ValueError(f"{data} has no classes: --by-class needs subfolders, or labels beside the images")
    if images.classes and not by_class:
        say("", "not used: --by-class learns a density of each class")
    test, rest = _parted(images)
    say("split", f"{len(rest):,} images to train and validate, {len(test):,} to test")
    _say_resumed(training)
    curves: list[list[Epoch]] = []
    with reporter(progress, math.prod(images.images.shape[1:])) as report:
        density = fit_images(
            rest, by_class or None, recipe=recipe, model=model, pad=pad, flips=flips, seed=seed,
            dequantization=dequantization or "uniform", device=device, progress=recorder(report, curves), **training,
        )  # fmt: skip
    facts = dict(density.training_summary or {}) | {
        "data": Path(data).name, "rows": len(images), "skipped_rows": len(images.skipped), "train_rows": len(rest),
        "test_rows": len(test), "parameters": sum(p.numel() for p in density.parameters()),
    }  # fmt: skip
    _say_interrupted(facts, training)
    why = ", stopped early: validation no longer improved" if facts["stopped"] == "early" else ""
    say(
        "trained", f"{count(facts['steps'], 'step')}, {facts['seconds']:.1f} s{why}; {facts['parameters']:,} parameters"
    )
    kept = {"curves": [thinned(curve) | {"of": ""} for curve in curves], "test_digest": _digest(test)}
    _save(density, out, facts | kept)  # before the verdict: whatever happens to that, the training is not lost
    verdict, log_mass = _judge(density, test, rest, by_class)
    facts |= verdict
    _save(density, out, facts | kept | {"quantiles": quantiles_to_keep(log_mass)})
    ask = "check" if density.dimensions <= _MOST_CHECKED else "plot"
    paths = f"{shlex.quote(out)} {'--data ' if ask == 'plot' else ''}{shlex.quote(data)}"
    say("", f"May I use its samples? Ask pushforward {ask} {paths}")
    say("written", out)
    return facts | {"classes": list(density.space.classes), "out": out}


def _say_resumed(training: dict[str, Any]) -> None:
    """Tells where a training that was stopped is to go on from, if its settings are the same."""
    folder = training.get("checkpoint")
    if folder is not None and (Path(folder) / FILE).exists():
        say("resuming", f"from {folder}")


def _say_interrupted(facts: dict[str, Any], training: dict[str, Any]) -> None:
    """Tells of Ctrl-C in a training with a summary, and how to go on.

    Raises:
        KeyboardInterrupt: it came before there was anything to keep.
    """
    if facts["stopped"] != "interrupted":
        return
    if not facts["steps"]:
        echo("interrupted before the first validation: nothing is written", err=True)
        raise KeyboardInterrupt
    again = "; the same command goes on from there" if training.get("checkpoint") is not None else ""
    say("interrupted", f"the best model so far is kept{again}")


def _read(data: str, mode: str | None, skip_bad: bool) -> ImageData:
    """Reads images, and says what they are."""
    images = read_images(data, mode=mode, skip_bad=skip_bad)
    channels, *size = as_bytes(images.images[:1])[0].shape[1:]
    kind, number = "grey" if channels == 1 else "colour", len(images.classes)
    classes = f", {number:,} class{'' if number == 1 else 'es'}" if number else ""
    say("data", f"{data}: {count(len(images), f'{kind} image')} of {size_text(size)}{classes}")
    if images.classes:
        sizes = np.bincount(np.asarray(images.labels), minlength=len(images.classes))
        say("classes", listed([f"{name} ({n:,})" for name, n in zip(images.classes, sizes.tolist(), strict=True)]))
    _tell(images)
    if len(images) < _MIN_IMAGES:
        raise ValueError(
            f"{data} has {count(len(images), 'image')}; at least {_MIN_IMAGES} are needed, so that some can be held "
            "out to notice overfitting"
        )
    return images


def _parted(images: ImageData) -> tuple[ImageData, ImageData]:
    """-> a tenth of the images, which is held out, in memory; the others, where they are."""
    held_out, others = _split(len(images))
    return images.part(held_out).taken(), images.part(others)


def _split(rows: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The numbers of the images that are held out, and of the others."""
    order = np.random.default_rng(SEED).permutation(rows)
    holdout = min(round(TEST_FRACTION * rows), _MOST_TEST)
    return np.sort(order[:holdout]), np.sort(order[holdout:])


def _digest(images: ImageData) -> str:
    """Of the bytes of images."""
    return hashlib.sha256(np.ascontiguousarray(images.images).tobytes()).hexdigest()


def _parts_of_fit(density: ImageDensity, images: ImageData) -> tuple[ImageData, ImageData] | None:
    """-> the images that the fit held out, and the others, where these are all of the fit."""
    holdout, others = _parted(images)
    same = len(holdout) and _digest(holdout) == (density.training_summary or {}).get("test_digest")
    return (holdout, others) if same else None


@torch.no_grad()
def _judge(
    density: ImageDensity, test: ImageData, train: ImageData, by_class: bool
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Tells the bits of held-out images beside those of independent pixels; figures, and the log-masses."""
    log_mass = density.log_prob(test.images, test.labels if by_class else None).double().cpu().numpy()
    own = _as_bits(density, log_mass)
    some = train.part(np.linspace(0, len(train) - 1, min(len(train), _COUNTED)).astype(np.intp)).taken()
    labels = (some.labels, test.labels) if by_class else (None, None)
    simple = _as_bits(
        density, fit_pixels(some.images, density.space, labels[0]).log_prob(test.images, labels[1]).numpy()
    )
    gain = simple - own
    figures: dict[str, Any] = {"pixels_bits": float(simple.mean())}
    figures["test_bits"], figures["test_se"] = mean_and_se(own)
    figures["gain"], figures["gain_se"] = mean_and_se(gain)
    say("held out", f"model               {plus_minus(figures['test_bits'], figures['test_se'])} bits per dimension")
    say("", f"independent pixels  {plus_minus(*mean_and_se(simple))}")
    is_known = abs(figures["gain"]) > max(2 * figures["gain_se"], _LEAST)
    figures["verdict"] = ("good" if figures["gain"] > 0 else "bad") if is_known else "doubtful"
    figures["why"] = (
        f"{plus_minus(abs(figures['gain']), figures['gain_se'])} bits per dimension "
        f"{'better' if figures['gain'] > 0 else 'worse'} than independent pixels"
    )
    say("verdict", f"{figures['verdict']} likelihood: {figures['why']}; it says nothing about samples")
    figures["sample_bits"], sample_se = mean_and_se(_bits_of_samples(density, test.labels if by_class else None))
    say("samples", f"have {figures['sample_bits']:.4f} bits per dimension, held-out images {figures['test_bits']:.4f}, "
        f"{_compared(figures, sample_se)}")  # fmt: skip
    return figures, log_mass


def _compared(figures: dict[str, Any], sample_se: float) -> str:
    """Whether samples have as many bits as held-out images, in words."""
    excess = figures["sample_bits"] - figures["test_bits"]
    if abs(excess) <= max(_LEAST, _SAME * figures["test_bits"]):
        return "about as many"
    if abs(excess) <= 3 * math.hypot(figures["test_se"], sample_se):
        return "which is within chance of so few"
    return "more: they are blurred or noisy" if excess > 0 else "fewer: they are simpler than images"


def _bits_of_samples(density: ImageDensity, labels: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Bits per dimension of samples (S,), of the classes of held-out images as often as these are."""
    contexts = None if labels is None else labels[np.linspace(0, len(labels) - 1, _SAMPLES).astype(int)]
    drawn = density.space.flatten_samples(density.sample(_SAMPLES if contexts is None else 1, contexts, generator=0))
    return density.bits_per_dim(drawn, contexts).double().cpu().numpy()


def _as_bits(density: ImageDensity, log_mass: NDArray[np.float64]) -> NDArray[np.float64]:
    return (0 - log_mass) / (density.dimensions * math.log(2))


def score(
    model: str, data: str, out: str, outlier: bool, given: str | None, skip_bad_rows: bool
) -> dict[str, Any]:  # fmt: skip
    """Writes the log-mass and the bits per dimension of each image, and its percentile where asked to.

    Of a model of each class, images have those of their own class, or of the one given; where their classes are not
    known, the mass is the mean over all classes, and the likeliest class is told.
    """
    prepare_file(out, SUFFIXES)
    check_suffix(out, "write")
    density: ImageDensity = models.load(model)
    _check_given(density, model, given)
    quantiles = quantiles_of(density, model) if outlier else None
    images = read_for(density, data, skip_bad_rows)
    of_fit = _parts_of_fit(density, images)
    if of_fit is not None and "test_bits" in (facts := density.training_summary or {}):
        say("data", f"{data} are the images of the fit, which are likelier than new ones: the {len(of_fit[0]):,} held "
            f"out then have {facts['test_bits']:.4f} bits per dimension")  # fmt: skip
    columns: dict[str, Any] = (
        {"file": [*map(shown, images.paths)]} if images.paths else {"image": np.arange(len(images))}
    )
    if images.labels is not None:
        columns["class"] = [images.classes[i] for i in images.labels]
    if given is not None:
        columns["scored_as"] = [given] * len(images)
        say("given", f"all are scored as images of the class {given}")
    log_mass, likeliest = _log_mass(density, images, data, given)
    if likeliest is not None:
        columns["likeliest_class"] = likeliest
        say("classes", "of the images are not known: their mass is the mean over all classes, each as likely")
    bits = _as_bits(density, log_mass)
    columns |= {"log_mass": log_mass.round(3), "bits_per_dim": bits.round(5)}
    if quantiles is not None:
        columns["percentile"] = percentiles(log_mass, quantiles).round(1)
    with writing(out), TableWriter(out) as writer:
        writer.write(frames.read(columns))
    say("scored", f"{count(len(images), 'image')}: {plus_minus(*mean_and_se(bits))} bits per dimension")
    if images.labels is not None and len(images.classes) > 1:
        for i, name in enumerate(images.classes):
            of = bits[images.labels == i]
            say("", f"{name}  {count(len(of), 'image')}: {plus_minus(*mean_and_se(of))}")
    say("written", out)
    mean, se = mean_and_se(bits)
    return {"rows": len(images), "bits": mean, "se": se, "out": out, "skipped_rows": len(images.skipped)}


def _check_given(density: ImageDensity, model: str, given: str | None) -> None:
    if given is not None and not density.space.classes:
        raise ValueError(f"{model} is not one of each class: leave out --given")


def read_for(density: ImageDensity, data: str, skip_bad: bool) -> ImageData:
    """Reads images for a model; tells what was converted or left out."""
    mode = "L" if density.space.shape[0] == 1 else "RGB"
    images = read_images(data, mode=mode, skip_bad=skip_bad, size=density.size, classes=density.space.classes)
    _tell(images)
    return images


def _tell(images: ImageData) -> None:
    for note in images.notes:
        warn(note)
    if images.skipped:
        files = count(len(images.skipped), "file")
        say("left out", f"{files} that cannot be read, or of another size or mode: {listed(images.skipped, 3)}")


@torch.no_grad()
def _log_mass(
    density: ImageDensity, images: ImageData, data: str, given: str | None
) -> tuple[NDArray[np.float64], list[str] | None]:
    """Log-masses (N,), given the class of each image where it is known; else the mean over all, and the likeliest."""
    classes = density.space.classes
    if not classes or given is not None or images.labels is not None:
        context = labels_of(density, images, data) if given is None else given
        return density.log_prob(images.images, context).double().numpy(), None
    each = torch.stack([density.log_prob(images.images, name).double() for name in classes])
    return (each.logsumexp(0) - math.log(len(classes))).numpy(), [classes[i] for i in each.argmax(0).tolist()]


def labels_of(density: ImageDensity, images: ImageData, data: str) -> list[str] | None:
    """The names of the classes of images, for a density that is given them."""
    if not density.space.classes:
        return None
    if images.labels is None:
        raise ValueError(f"the model is one of each class: {data} must have the classes as subfolders or labels")
    return [images.classes[i] for i in images.labels]


def check(
    model: str, data: str, train: str | None, html: str | None, max_rows: int, given: str | None, seed: int,
    skip_bad_rows: bool,
) -> dict[str, Any]:  # fmt: skip
    """Prints the report on a model of images; writes it as a page where asked to."""
    if html is not None:
        prepare_file(html, (".html", ".htm"))
    density: ImageDensity = models.load(model)
    if density.dimensions > _MOST_CHECKED:
        raise ValueError(
            f"check takes images of at most {_MOST_CHECKED:,} bytes, these have {density.dimensions:,}: see score, plot"
        )
    _check_given(density, model, given)
    tell_same(data, train)
    parts = [read_for(density, path, skip_bad_rows) for path in (data, train) if path is not None]
    numbers = np.arange(len(parts[0]))
    if train is None:
        of_fit = _parts_of_fit(density, parts[0])
        if of_fit is not None:
            say("data", f"{data} are the images of the fit: the {len(of_fit[0]):,} held out then are checked")
            numbers = _split(len(parts[0]))[0]
            parts = [of_fit[0], of_fit[1].taken()]
    if given is not None:
        say("given", f"all are taken as images of the class {given}")
    rows = [density.space.read(part.images) for part in parts]
    contexts = [
        density.space.contexts(labels_of(density, part, path) if given is None else given)[0]
        for part, path in zip(parts, (data, train or data), strict=False)
    ]
    report = checks.check(
        density, *rows, context=contexts[0], train_context=contexts[1] if len(contexts) > 1 else None,
        max_rows=max_rows, seed=seed, progress=ThrottledProgress("checking"), row_numbers=numbers.tolist(),
    )  # fmt: skip
    echo(report.text())
    if parts[0].paths:
        path_of = dict(zip(numbers.tolist(), parts[0].paths, strict=True))
        least = [path_of[each["row"]] for each in report["tails"].figures["least_likely"][:5]]
        say("files", f"least likely: {listed(least)}")
    if html is not None:
        with writing(html):
            report.to_html(html, title=f"{Path(model).name} on {Path(data).name}")
        say("written", html)
    return {"model": model, "data": data, "train": train, **report.to_json()} | ({"html": html} if html else {})


def sample(
    model: str, count: int | None, given: str | None, out: str, seed: int | None, temperature: float | None
) -> dict[str, Any]:
    """Writes draws as a grid, a folder or an array."""
    path = Path(out)
    check_target(path)
    prepare_folder(path.parent if path.suffix else path)
    density: ImageDensity = models.load(model)
    classes = density.space.classes
    if classes and given is None:
        raise ValueError(f"{model} is one of each class: say which, as --given {classes[0]}; or --given all")
    _check_given(density, model, given)
    seed = secrets.randbelow(2**32) if seed is None else seed
    n = count or _SAMPLES
    context = list(classes) if given == "all" and "all" not in classes else given
    each = -(-n // len(classes)) if isinstance(context, list) else n
    drawn = density.sample(each, context, generator=seed, temperature=1.0 if temperature is None else temperature)
    by_class = class_by_class(density, drawn)
    images = density.space.flatten_samples(by_class)
    has_rows = isinstance(context, list) and path.suffix.lower() == ".png"
    with writing(out):
        if isinstance(context, list) and not path.suffix:
            for i, name in enumerate(context):
                density.space.write(by_class[i], path / folder_of(name))
        else:
            density.space.write(images, path, names=classes if has_rows else ())
    of = f" of {given}" if given else ""
    if isinstance(context, list):
        of = (
            f", {each:,} of each class, {'each in rows of its own' if has_rows else 'in this order'}: {listed(context)}"
        )
    say("sampled", f"{len(images):,} image{'' if len(images) == 1 else 's'}{of}; seed {seed}")
    say("written", out)
    return {"rows": len(images), "seed": seed, "out": out}


def class_by_class(density: ImageDensity, drawn: Tensor) -> Tensor:
    """Samples (n, *row_shape) of one class or (n, K, *row_shape) of K -> (K, n, *row_shape)."""
    return drawn.reshape(len(drawn), -1, *density.space.row_shape).swapaxes(0, 1)


def _save(density: ImageDensity, out: str, training: dict[str, Any]) -> None:
    with writing(out):
        models.save(density, out, training=finite(training))
