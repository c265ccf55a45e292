"""Writes the golden files of images: `python tests/golden/make_images.py`. Run once; files that exist are kept.

What stands in the JSON is told in `make_v1_more.py`; x of a density of images are bytes divided by 255.
"""

import json
from pathlib import Path
from typing import Any

import torch

import pushforward as pf

FOLDER = Path(__file__).parent
SHAPE = (1, 4, 8)


def glow(**more: Any) -> pf.Flow:
    return pf.glow(SHAPE, depth=2, width=4, seed=1, **more)


MODELS = {
    "glow_v2": (glow, "Glow of two scales"),
    "patch_flow_v2": (
        lambda: pf.patch_flow(SHAPE, depths=(2, 1), widths=(4, 5), context_dim=2, seed=2),
        "Couplings of patches, with a context",
    ),
    "patch_flow_split_v2": (
        lambda: pf.patch_flow((2, 4, 8), depths=(3, 2), widths=(4, 5), bins=3, mixing="split", seed=5),
        "Couplings of patches by splines, in splits of their pixels",
    ),
    "multiscale_spline_flow_v2": (
        lambda: pf.multiscale_spline_flow((2, 4, 8), widths=(4, 5), coarse_width=12, bins=3, context_dim=2, seed=6),
        "Splines from coarse to fine, with a context",
    ),
    "multiscale_spline_flow_sigmoids_v2": (
        lambda: pf.multiscale_spline_flow((1, 4, 8), widths=(4, 5), coarse_width=12, bins=3, sigmoids=3, seed=7),
        "Splines from coarse to fine, behind a scale, and sigmoids less their means",
    ),
    "real_nvp_image_v2": (
        lambda: pf.real_nvp_image(SHAPE, width=4, blocks=1, checkerboards=2, seed=3),
        "The architecture of the Real NVP paper, packed checkerboards",
    ),
    "real_nvp_image_batch_v2": (
        lambda: pf.real_nvp_image(SHAPE, levels=1, width=4, blocks=1, norm="batch", lattice="full", seed=4),
        "The architecture of the Real NVP paper, batch normalisation and full lattices",
    ),
    "images_v2": (
        lambda: pf.ImageDensity(glow(context_dim=2), size=(3, 7), classes=["a", "b"]),
        "Bytes of padded images of two classes",
    ),
    "images_plain_v2": (lambda: pf.ImageDensity(glow(), alpha=None, layout="CHW"), "Bytes without a logit"),
}


def write(name: str) -> None:
    path = FOLDER / f"{name}.safetensors"
    if path.exists():
        return
    make, covers = MODELS[name]
    model: Any = make()
    generator = torch.Generator().manual_seed(0)
    of_bytes = isinstance(model, pf.ImageDensity)
    classes = of_bytes and model.space.classes
    x = torch.randint(0, 256, (64, *model.space.shape), generator=generator)
    rows = x.to(torch.uint8) if of_bytes else x / 64 - 2
    context = None
    if classes:
        context = torch.arange(64)[:, None] % 2
    elif not of_bytes and model.context_dim:
        context = torch.randn(64, model.context_dim, generator=generator)
    model.initialize(rows, context)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator), alpha=0.05)
    pf.save(model, path)
    given = None if context is None else context[:3].double()
    flow = model.inner if of_bytes else model
    expected = {
        "kind": "flow", "covers": covers, "recipe": flow.recipe, "dtype": "float32",
        "tolerance": {"own": 1e-5, "double": 1e-9},
        "x": (x[:3].double() / 255 if of_bytes else rows[:3].double()).tolist(),
        "context": None if given is None else given.tolist(),
    }  # fmt: skip
    again = pf.load(path).eval()
    for dtype, place in ((torch.float32, expected), (torch.float64, expected.setdefault("double", {}))):
        again = again.to(dtype)
        inputs = rows[:3] if of_bytes else rows[:3].to(dtype), None if given is None else given.to(dtype)
        with torch.no_grad():
            place["log_prob"] = again.log_prob(*inputs).tolist()
            if not of_bytes:
                z, log_det = again.f(*inputs)
                place |= {"z": z.tolist(), "log_det": log_det.tolist()}
    path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in MODELS:
        write(name)
