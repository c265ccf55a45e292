"""The flow that "auto" takes for images of a shape; what was measured for it stands in benchmarks/results/auto.md."""

from __future__ import annotations

from typing import Any

import torch

from ..io.pixels import Shape
from ..recipes import check_levels, padded_size

_COARSEST, _MOST_COARSE = 8, 1024  # the side that images are halved to, and the most numbers that may be left


def auto_recipe(shape: Shape, pad: bool, on_gpu: bool) -> tuple[str, dict[str, Any]]:
    """The recipe of "auto" and its arguments.

    Images are halved until a side is at most 8, while they can be. Where more than 1,024 numbers are left then, and on
    a GPU, where `multiscale_spline_flow` was not measured, it is `patch_flow`.

    Raises:
        ValueError: they cannot be halved.

    Example:
        >>> auto_recipe((1, 28, 28), pad=False, on_gpu=False)
        ('multiscale_spline_flow', {'widths': [32, 64]})
    """
    levels = 1
    while min(shape[1:]) >> levels > _COARSEST and (pad or all(side % 2 ** (levels + 1) == 0 for side in shape[1:])):
        levels += 1
    height, width = padded_size(shape[1:], levels) if pad else check_levels(shape, levels)[1:]
    if on_gpu or shape[0] * (height >> levels) * (width >> levels) > _MOST_COARSE:
        return "patch_flow", _patches(shape, pad, on_gpu)
    fine, coarse = (32, 64) if shape[0] == 1 else (20, 32)  # of colours each has networks of its own
    return "multiscale_spline_flow", {"widths": [fine] * (levels - 1) + [coarse]}


def _patches(shape: Shape, pad: bool, on_gpu: bool) -> dict[str, Any]:
    """Arguments of `patch_flow`: two scales, or one where images can be halved only once; twice as wide on a GPU."""
    channels, height, width = shape
    depths, widths = [8, 4], [32, 48] if channels == 1 else [48, 96]
    if on_gpu:
        depths, widths = [12, 6], [2 * each for each in widths]
    if not pad and (height % 4 or width % 4):
        depths, widths = [12], widths[:1]
    return {"depths": depths, "widths": widths, "bins": 4, "mixing": "split"}


def is_gpu(device: torch.device | None) -> bool:
    """Whether a device is a GPU of CUDA."""
    return device is not None and device.type == "cuda"
