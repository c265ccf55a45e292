"""What `plot` draws of a model of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import ImageDensity
from ..io import models
from ..io.atomic import writing
from ..io.images import ImageData
from .curves import histories
from .on_images import class_by_class, labels_of, read_for
from .output import apart_from, listed, prepare_folder, say

_SHOWN, _COLUMNS = 100, 10  # images of a picture, and of a row of it
_CORNERS, _TOP = 4, 8  # images that are interpolated between, or whose scales are drawn anew


def plot(model: str, data: str | None, out: str, skip_bad_rows: bool = False) -> dict[str, Any]:
    """Draws samples, interpolations and scales of a model of images, and its training."""
    from .. import plots

    density: ImageDensity = models.load(model)
    apart_from(data, out)
    images = None if data is None else read_for(density, data, skip_bad_rows)
    folder = prepare_folder(out)
    classes = density.space.classes
    each = max(_TOP, _SHOWN // max(1, len(classes)))
    each -= each % _COLUMNS if each > _COLUMNS else 0  # so that each class begins a row
    columns = min(each, _COLUMNS)
    drawn = density.sample(each, list(classes) if classes else None, generator=0)
    rows = density.space.flatten_samples(class_by_class(density, drawn))[:_SHOWN]
    in_order = f": {listed(list(classes), 5)}" if classes else ""
    pictures: list[str] = []

    def keep(picture: Any, name: str) -> None:
        with writing(folder / name):
            plots.save_figure(picture, folder / name)
        pictures.append(str(folder / name))

    keep(plots.images(rows, columns=columns, title=f"samples{in_order}"), "samples.png")
    labels = np.repeat(classes, each)[:_SHOWN].tolist() if classes else None
    real = rows
    if images is not None:
        source = _some_of_each(images, each)
        shown = density.space.read(source.images)
        of = f": {listed(list(source.classes), 5)}" if source.classes else ""
        keep(plots.images(shown, columns=columns, title=f"data{of}"), "data.png")
        if classes and source.labels is None:
            say("data", f"{data} has no classes, which this model needs: samples are drawn in its place")
        else:
            real, labels = shown, labels_of(density, source, str(data))
    if len(real) >= _CORNERS and plots.has_map(density.inner):
        at, context = _evenly(len(real), _CORNERS, labels)
        keep(plots.interpolation(density, real[at], context=context), "interpolation.png")
    if plots.has_scales(density):
        at, context = _evenly(len(real), _TOP, labels)
        keep(plots.scales(density, real[at], context=context), "scales.png")
    else:
        say("scales", "are not drawn: this flow has latents of one scale, glow and real_nvp_image of several")
    curves = (density.training_summary or {}).get("curves")
    if curves:
        keep(histories(curves, dimensions=density.dimensions), "history.png")
    say("written", ", ".join(pictures))
    return {"out": out, "pictures": pictures}


def _some_of_each(images: ImageData, each: int) -> ImageData:
    """The first images of each class, class by class; at most as many as a picture shows."""
    if images.labels is None:
        return images.part(np.arange(min(len(images), _SHOWN))).taken()
    first = [np.flatnonzero(images.labels == i)[:each] for i in range(len(images.classes))]
    return images.part(np.concatenate(first)[:_SHOWN]).taken()


def _evenly(count: int, wanted: int, labels: list[str] | None) -> tuple[NDArray[np.intp], list[str] | None]:
    """The numbers of some of so many rows, from first to last, and their labels."""
    at = np.linspace(0, count - 1, min(count, wanted)).round().astype(np.intp)
    return at, None if labels is None else [labels[i] for i in at]
