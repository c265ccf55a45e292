"""What `plot` draws of a model of images."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import ImageDensity
from ..io import models
from ..io.atomic import writing
from ..io.pixels import ImageData
from .curves import histories
from .on_images import class_by_class, labels_of, read_for
from .output import apart_from, prepare_folder, say

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
    some = list(classes[: _SHOWN // each])
    drawn = density.sample(each, some or None, generator=0)
    rows = density.space.flatten_samples(class_by_class(density, drawn))
    pictures: list[str] = []

    def keep(picture: Any, name: str) -> None:
        with writing(folder / name):
            plots.save_figure(picture, folder / name)
        pictures.append(str(folder / name))

    keep(plots.images(rows, columns=columns, title="samples", groups=dict.fromkeys(some, each)), "samples.png")
    labels = np.repeat(some, each).tolist() if classes else None
    real = rows
    if images is not None:
        source = _some_of_each(images, each)
        shown = density.space.read(source.images)
        groups = Counter(source.classes[i] for i in source.labels) if source.labels is not None else {}
        keep(plots.images(shown, columns=columns, title="data", groups=groups), "data.png")
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
        say("scales", "are not drawn: all latents of this flow are of one scale")
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
