"""What "auto" takes for images, and what its networks see of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pushforward as pf
from pushforward.images.auto import auto_recipe
from pushforward.images.data import LabelledImages
from pushforward.images.fit import Dequantized, _Preprocessing, _untrained
from test_fit_images import halves


@pytest.mark.parametrize("classes", [False, True])
def test_networks_see_pixels_by_thresholds_between_their_bytes(classes: bool) -> None:
    images, labels = halves(60)
    data = LabelledImages.of(images, labels if classes else None, None)
    density = _untrained(data, "multiscale_spline_flow", {"widths": [4, 4]}, False, False, _Preprocessing(), 0)
    rows = torch.from_numpy(images[:40, None]).float() + 0.5
    Dequantized(density).initialize(rows, torch.eye(2)[labels[:40]] if classes else None)
    borders = density.encoding.between_bytes(4, (1, 8, 8)).float()
    scale: Any = density.inner.bijection.bijections[0]  # type: ignore[attr-defined]
    seen = (borders - scale.mean) / scale.std
    layers = [layer for layer in density.modules() if isinstance(layer, pf.LearnedSigmoids)]
    assert len(layers) == 6
    torch.testing.assert_close(layers[0].thresholds, seen[..., ::2, ::2])
    torch.testing.assert_close(layers[1].thresholds[:, 1:], seen[..., 1::2, 1::2])
    torch.testing.assert_close(layers[3].thresholds, seen[..., ::4, ::4])


@pytest.mark.parametrize(
    ("shape", "pad", "on_gpu", "recipe", "widths"),
    [
        ((1, 28, 28), False, False, "multiscale_spline_flow", [32, 64]),
        ((3, 32, 64), False, False, "multiscale_spline_flow", [20, 32]),
        ((1, 8, 8), False, False, "multiscale_spline_flow", [64]),
        ((1, 30, 30), False, False, "multiscale_spline_flow", [64]),
        ((1, 30, 30), True, False, "multiscale_spline_flow", [32, 64]),
        ((3, 202, 202), False, False, "patch_flow", [48]),
        ((1, 28, 28), False, True, "patch_flow", [64, 96]),
    ],
)
def test_auto_halves_images_until_little_is_left(
    shape: tuple[int, int, int], pad: bool, on_gpu: bool, recipe: str, widths: list[int]
) -> None:
    name, model = auto_recipe(shape, pad, on_gpu)
    assert (name, model["widths"]) == (recipe, widths)
