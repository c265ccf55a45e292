"""Recipes of images: exact log-determinants, scales by recursion, sizes that are checked, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pushforward as pf
from pushforward.recipes import IMAGE_RECIPES
from pushforward.recipes.images import _split

SMALL: dict[str, dict[str, Any]] = {
    "real_nvp_image": {"width": 6, "blocks": 1},
    "glow": {"depth": 2, "width": 6},
    "patch_flow": {"depths": [2, 1], "widths": [6, 6]},
    "multiscale_spline_flow": {"widths": [6, 6], "coarse_width": 12, "bins": 3},
}
VARIANTS = [
    *((name, {}) for name in SMALL),
    ("real_nvp_image", {"lattice": "full"}),
    ("real_nvp_image", {"norm": "batch"}),
    ("real_nvp_image", {"levels": 1}),
    ("glow", {"levels": 3}),
    ("patch_flow", {"bins": 3}),
    ("patch_flow", {"bins": 3, "mixing": "split"}),
    ("multiscale_spline_flow", {"widths": [6, 6, 6]}),
]
variants = pytest.mark.parametrize(("name", "more"), VARIANTS, ids=lambda v: v if isinstance(v, str) else str(v))


def build(name: str, shape: tuple[int, int, int], **more: Any) -> pf.Flow:
    """A flow away from its start, initialised from data."""
    flow = IMAGE_RECIPES[name](shape, **SMALL[name] | {"seed": 0} | more).double().eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=torch.float64), alpha=0.1)
    context = None if not flow.context_dim else torch.randn(64, 3).double()
    flow.initialize(2 * torch.randn(64, *shape, generator=generator, dtype=torch.float64) + 1, context)
    return flow


@variants
def test_the_log_det_is_that_of_the_jacobian_and_the_inverse_undoes_the_map(name: str, more: dict[str, Any]) -> None:
    shape = (
        (1, 8, 8) if 3 in (more.get("levels"), len(more.get("widths", ()))) else (2, 8, 8)
    )  # two levels on 8 x 8 x 2
    flow = build(name, shape, **more)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z, log_det = flow.f(x)
    jacobian = torch.autograd.functional.jacobian(lambda row: flow.f(row[None])[0].flatten(), x[0])
    expected = torch.linalg.slogdet(jacobian.reshape(z[0].numel(), -1))[1]
    assert abs(float(log_det[0].detach() - expected)) < 1e-10
    torch.testing.assert_close(flow.g(z), x, rtol=1e-9, atol=1e-9)


def flattening(flow: pf.Flow, x: Tensor) -> tuple[Tensor, Tensor]:
    """The multi-scale Glow as a loop that collects latents: x (B, C, H, W) -> z (B, D), log_det (B,)."""
    layer: Any = flow.bijection
    parts, log_det = [], torch.zeros(len(x), dtype=x.dtype)
    while True:
        b, c, h, w = x.shape
        x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, h // 2, w // 2)
        *steps, last = layer.inner.bijections
        deeper = isinstance(last, pf.OnHalf)
        for step in steps if deeper else [*steps, last]:
            x, more = step(x)
            log_det = log_det + more
        if not deeper:
            return torch.cat([*parts, x.flatten(1)], 1), log_det
        latent, x = x.chunk(2, 1)
        parts.append(latent.flatten(1))
        layer = last.inner


def test_the_recursion_is_the_plain_multi_scale_flow_up_to_the_order_of_latents() -> None:
    flow = build("glow", (3, 8, 8), levels=3)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    z, log_det = flow.f(x)
    plain, plain_log_det = flattening(flow, x)
    assert torch.equal(z.flatten(1).sort().values, plain.sort().values)
    torch.testing.assert_close(log_det, plain_log_det, rtol=1e-13, atol=1e-12)


def test_packed_and_full_checkerboards_move_the_same_pixels() -> None:
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64)
    zeros = [torch.nn.Conv2d(c, p, 1).double() for c, p in ((2, 4), (2, 4))]
    for flip in (False, True):
        packed = pf.Within(pf.Checkerboard(), pf.Coupling(lambda h, c: zeros[0](h) * 0 + 1, pf.Affine(), flip))
        full = pf.LatticeCoupling(lambda h, c: zeros[1](h) * 0 + 1, pf.Affine(), flip)
        for mine, theirs in zip(packed(x), full(x), strict=True):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", SMALL)
def test_sizes_that_cannot_be_halved_name_the_padding_that_fits(name: str) -> None:
    levels: dict[str, Any] = {"levels": 3}
    if "widths" in SMALL[name]:
        levels = {"widths": [6, 6, 6]} | ({"depths": [1, 1, 1]} if name == "patch_flow" else {})
    with pytest.raises(ValueError, match="28 x 28 cannot be halved 3 times; 32 x 32 can"):
        IMAGE_RECIPES[name]((1, 28, 28), **levels)
    with pytest.raises(ValueError, match=r"must be \(C, H, W\)"):
        IMAGE_RECIPES[name]((28, 28))


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="norm must be act or batch"):
        pf.real_nvp_image((1, 8, 8), norm="layer")
    with pytest.raises(ValueError, match="lattice must be packed or full"):
        pf.real_nvp_image((1, 8, 8), lattice="half")
    with pytest.raises(ValueError, match="a width for each of the 2 scales"):
        pf.patch_flow((1, 8, 8), widths=[8])
    for name in ("depths", "widths"):
        for bad in (3, "ab", None, []):
            with pytest.raises(ValueError, match=f"{name} must be a list of whole numbers, one for each scale, got"):
                pf.patch_flow((1, 8, 8), **{name: bad})  # type: ignore[arg-type]
        for entry in (0, -1, 2.5, "a"):
            with pytest.raises(ValueError, match=f"{name[:-1]} must be a whole number from 1 to .*, got {entry!r}"):
                pf.patch_flow((1, 8, 8), **{name: [entry, 1]})  # type: ignore[arg-type]
    for bad in (3, None, []):
        with pytest.raises(ValueError, match="widths must be a list of whole numbers, one for each scale, got"):
            pf.multiscale_spline_flow((1, 8, 8), widths=bad)  # type: ignore[arg-type]
    for name, value, message in (
        ("widths", [0, 1], "width must be a whole number from 1 to .*, got 0"),
        ("coarse_width", 0, "coarse_width must be a whole number from 1 to .*, got 0"),
        ("bins", 1, "bins must be at least 2, got 1"),
        ("sigmoids", -1, "sigmoids must be a whole number from 0 to 1000, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            pf.multiscale_spline_flow((1, 8, 8), **{name: value})  # type: ignore[arg-type]
    for recipe in IMAGE_RECIPES.values():
        with pytest.raises(ValueError, match="seed must be a whole number or None, got 'a'"):
            recipe((1, 8, 8), seed="a")
    with pytest.raises(ValueError, match="mixing must be conv or split"):
        pf.patch_flow((1, 8, 8), mixing="lu")
    with pytest.raises(ValueError, match="depth must be a whole number"):
        pf.glow((1, 8, 8), depth=0)


def test_sizes_may_be_those_of_numpy() -> None:
    widths = np.array([6, 6])
    flow = pf.multiscale_spline_flow((1, np.int64(8), 8), widths=widths, coarse_width=np.int64(12), bins=3)  # type: ignore[arg-type]
    assert flow.recipe is not None
    assert flow.recipe["arguments"]["widths"] == [6, 6]
    assert pf.multiscale_spline_flow((1, 8, 8), widths=[*widths]).shape == (1, 8, 8)


def test_a_flow_from_coarse_to_fine_measures_the_scale_of_pixels() -> None:
    flow = pf.multiscale_spline_flow((2, 8, 8), **SMALL["multiscale_spline_flow"])
    x = 1e3 + 50 * torch.randn(64, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    flow.initialize(x)
    assert float(flow.f(x)[0].detach().std()) == pytest.approx(1, abs=0.05)  # within the splines' bound


def test_a_flow_from_coarse_to_fine_sees_no_pixel_that_comes_later() -> None:
    flow = build("multiscale_spline_flow", (1, 8, 8))
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda row: flow.f(row[None])[0].flatten(), x[0]).view(64, 64) != 0
    order = torch.zeros(1, 1, 8, 8)  # when a pixel comes
    order[..., 1::2, 1::2], order[..., ::2, 1::2], order[..., 1::2, ::2] = 4, 5, 6
    order[..., 2::4, 2::4], order[..., ::4, 2::4], order[..., 2::4, ::4] = 1, 2, 3
    order = order.flatten() * 64 + torch.arange(64) * (order.flatten() == 0)  # the coarsest, number by number
    is_later = order[None] > order[:, None]
    is_other = (order[None] == order[:, None]) & ~torch.eye(64, dtype=torch.bool)
    assert not (jacobian & (is_later | is_other)).any()
    assert jacobian.diagonal().all()
    assert jacobian[9].sum() > 4  # the pixel in row 1 and column 1, by the coarser lattice


@pytest.mark.parametrize(("channels", "levels"), [(4, 1), (12, 1), (16, 2), (48, 2)])
def test_splits_are_halves_and_tell_all_pixels_and_channels_apart(channels: int, levels: int) -> None:
    orders = [_split(channels, levels, number) for number in range(6 * levels)]
    assert all(sorted(order) == list(range(channels)) for order in orders)
    firsts = [set(order[: channels // 2]) for order in orders]
    apart = {(a, b) for a in range(channels) for b in range(a) if any((a in half) != (b in half) for half in firsts)}
    assert apart == {(a, b) for a in range(channels) for b in range(a)}


def test_a_split_of_patches_is_a_checkerboard_of_pixels() -> None:
    x = torch.arange(64.0).view(1, 1, 8, 8)
    fine = pf.Squeeze().forward(x)
    first = fine[:, _split(4, 1, 0)[:2]].flatten().long()
    assert all((pixel // 8 + pixel % 8) % 2 == 0 for pixel in first.tolist())
    coarse = pf.Squeeze().forward(fine)
    first = coarse[:, _split(16, 2, 1)[:8]].flatten().long()
    assert all((pixel // 8 + pixel % 8) % 2 == 0 for pixel in first.tolist())
    first = coarse[:, _split(16, 2, 0)[:8]].flatten().long()
    assert all((pixel // 16 + pixel % 8 // 2) % 2 == 0 for pixel in first.tolist())


@variants
def test_files_rebuild_the_flow(name: str, more: dict[str, Any], tmp_path: Path) -> None:
    flow = build(name, (1, 8, 8), **more, context_dim=3).float()
    x, context = torch.randn(3, 1, 8, 8), torch.randn(3, 3)
    pf.save(flow, tmp_path / "flow.safetensors")
    again = pf.load(tmp_path / "flow.safetensors").eval()
    with torch.no_grad():
        assert torch.equal(flow.log_prob(x, context), again.log_prob(x, context))
        assert not torch.allclose(flow.log_prob(x, context), flow.log_prob(x, context + 1))
