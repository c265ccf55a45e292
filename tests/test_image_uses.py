"""Uses of a density of images, and their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pushforward as pf
from commands import good
from flows import stirred
from pushforward.baselines import fit_gaussian
from pushforward.images import inpaint, interpolate, nearest, redraw_scales, typicality
from pushforward.images.uses import latent_scales


def some_bytes(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def density_of(recipe: Any = pf.glow, channels: int = 1, classes: tuple[str, ...] = ()) -> pf.ImageDensity:
    how = {"depths": [2, 1], "widths": [6, 6]} if recipe is pf.patch_flow else {"depth": 2, "width": 6}
    flow = recipe((channels, 8, 8), seed=0, context_dim=len(classes), **how)
    density = pf.ImageDensity(flow, classes=classes)
    density.initialize(some_bytes(64, *density.space.row_shape), torch.arange(64) % len(classes) if classes else None)
    return stirred(density, 0.05).double().eval()  # type: ignore[return-value]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_corners_of_an_interpolation_are_the_images(channels: int) -> None:
    density = density_of(channels=channels)
    corners = some_bytes(4, *density.space.row_shape)
    between = interpolate(density, corners, 5)
    assert between.shape == (5, 5, *density.space.row_shape)
    assert torch.equal(torch.stack([between[0, 0], between[0, -1], between[-1, 0], between[-1, -1]]), corners)
    assert len(between.flatten(0, 1).flatten(1).unique(dim=0)) == 25
    with pytest.raises(ValueError, match="expected 4 images and at least 2 steps, got 3 and 5"):
        interpolate(density, corners[:3], 5)


def test_classes_go_with_the_nearest_corner() -> None:
    density = density_of(classes=("a", "b"))
    corners = some_bytes(4, 8, 8)
    between = interpolate(density, corners, 4, ["a", "b", "b", "a"])
    assert torch.equal(torch.stack([between[0, 0], between[0, -1], between[-1, 0], between[-1, -1]]), corners)


def test_scales_are_those_of_the_recursion() -> None:
    flow = pf.glow((1, 8, 8), levels=3, depth=1, width=4, seed=0)
    scales = latent_scales(flow.bijection, flow.shape)
    assert scales.unique(return_counts=True)[1].tolist() == [32, 16, 16]
    assert int(latent_scales(pf.patch_flow((1, 8, 8), seed=0).bijection, (1, 8, 8)).max()) == 0
    splines = pf.multiscale_spline_flow((3, 8, 8), widths=[4, 4], coarse_width=4, seed=0)
    scales = latent_scales(splines.bijection, (3, 8, 8))
    assert scales.unique(return_counts=True)[1].tolist() == [3 * 48, 3 * 12, 3 * 4]
    assert (scales[:, ::2, ::2] > 0).all()
    assert (scales[:, 1::2] == 0).all()
    assert (scales[:, ::4, ::4] == 2).all()
    paper = pf.real_nvp_image((1, 8, 8), levels=2, width=4, blocks=0, seed=0)
    assert latent_scales(paper.bijection, (1, 8, 8)).unique(return_counts=True)[1].tolist() == [32, 32]


def test_scales_are_drawn_anew_from_the_finest_on() -> None:
    density, images = density_of(), some_bytes(3, 8, 8)
    drawn = redraw_scales(density, images, generator=0)
    assert drawn.shape == (3, 3, 8, 8)
    assert torch.equal(drawn[0], images)
    with torch.no_grad():
        z = [density.latent(rows) for rows in drawn]
    coarse = latent_scales(density.inner.bijection, (1, 8, 8)) == 1
    assert z[0] is not None
    kept = (z[1] - z[0]).abs()[:, coarse].mean()  # type: ignore[operator]
    changed = (z[2] - z[0]).abs()[:, coarse].mean()  # type: ignore[operator]
    assert float(kept) < 0.3 * float(changed)
    assert torch.equal(drawn, redraw_scales(density, images, generator=0))
    with pytest.raises(ValueError, match="all latents of this flow are of one scale"):
        redraw_scales(density_of(pf.patch_flow), images)


@pytest.mark.slow
def test_known_pixels_stay_and_others_are_likely() -> None:
    rng = np.random.default_rng(0)
    level = rng.uniform(40, 200, (300, 1, 1))
    images = (level + rng.normal(0, 6, (300, 8, 8))).clip(0, 255).astype(np.uint8)  # both halves have one level
    small = {"depths": [3, 2], "widths": [12, 12]}
    density = pf.fit_images(images, recipe="patch_flow", model=small, steps=200, progress="none")
    known = torch.zeros(8, 8, dtype=torch.bool)
    known[:, :4] = True
    holes = torch.from_numpy(images[:20]).clone()
    holes[:, :, 4:] = 0
    filled = inpaint(density, holes, known, steps=80, generator=0)
    assert torch.equal(filled[:, :, :4], torch.from_numpy(images[:20, :, :4]))
    levels = torch.from_numpy(level[:20, 0, 0])
    correlation = torch.corrcoef(torch.stack([filled[:, :, 4:].double().mean((1, 2)), levels]))[0, 1]
    assert float(correlation) > 0.8
    with pytest.raises(ValueError, match=r"expected a mask of shape \(8, 8\)"):
        inpaint(density, holes, known[:4])


def over_vectors(kind: str) -> pf.ImageDensity:
    """A density of 4 x 4 images, whose pixels have one level, with one over vectors inside."""
    level = torch.randint(30, 220, (400, 1, 1), generator=torch.Generator().manual_seed(0))
    images = (level + some_bytes(400, 4, 4) // 32).to(torch.uint8)
    untrained = pf.ImageDensity(pf.real_nvp(16, depth=2, width=8, seed=0, standardize=False), shape=(1, 4, 4))
    if kind == "flow":
        return untrained
    y, _ = untrained.to_numbers(images[:, None], torch.full((400, 1, 4, 4), 0.5))
    inner: pf.Density = fit_gaussian(y.flatten(1).double().numpy())
    return pf.ImageDensity(pf.Mixture([inner, inner]) if kind == "mixture" else inner, shape=(1, 4, 4))


@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
def test_pixels_are_filled_in_without_a_latent_space(kind: str, tmp_path: Path) -> None:
    density = over_vectors(kind)
    holes = torch.tensor([60, 180], dtype=torch.uint8).view(2, 1, 1).repeat(1, 4, 4)
    known = torch.zeros(4, 4, dtype=torch.bool)
    known[:, :2] = True
    holes[:, ~known] = 0
    filled = inpaint(density, holes, known, steps=200, generator=0)
    assert torch.equal(filled[:, known], holes[:, known])
    assert filled[:, ~known].double().mean(1).tolist() == pytest.approx([60, 180], abs=12)
    for use in (lambda: interpolate(density, filled[[0, 1, 0, 1]]), lambda: redraw_scales(density, filled)):
        with pytest.raises(ValueError, match=r"this needs a latent space: .* with one flow inside, got"):
            use()
    with pytest.raises(ValueError, match="a temperature needs a density with a flow inside"):
        density.sample(2, temperature=0.5)
    assert not pf.plots.has_scales(density)
    model = tmp_path / "model.safetensors"
    pf.save(density, model)
    drawn = good("plot", model, "--out", tmp_path / "plots")["pictures"]
    assert [Path(path).name for path in drawn] == ["samples.png"]


def test_a_flow_over_vectors_has_all_uses_but_scales() -> None:
    density, images = over_vectors("flow"), some_bytes(4, 4, 4)
    between = interpolate(density, images, 3)
    assert torch.equal(between[[0, 0, 2, 2], [0, 2, 0, 2]], images)
    assert inpaint(density, images, torch.eye(4, dtype=torch.bool), steps=3, generator=0).shape == (4, 4, 4)
    with pytest.raises(ValueError, match="all latents of this flow are of one scale"):
        redraw_scales(density, images)


def test_arguments_of_uses_are_checked() -> None:
    density, images = over_vectors("flow"), some_bytes(4, 4, 4)
    known = torch.ones(4, 4, dtype=torch.bool)
    for bad in ({"steps": 0}, {"steps": 2.5}, {"lr": 0.0}, {"tolerance": 0.0}):
        with pytest.raises(ValueError, match="expected at least 1 step, a rate and a tolerance above 0"):
            inpaint(density, images, known, **bad)
    with pytest.raises(ValueError, match=r"expected 4 images and at least 2 steps, got 4 and 2\.5"):
        interpolate(density, images, 2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"1 to 4 neighbours, got .*, 1\.5"):
        nearest(images, images, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a context for each of the 4 images, got 3"):
        inpaint(density_of(classes=("a", "b")), some_bytes(4, 8, 8), torch.ones(8, 8), [0, 1, 0])
    assert float(typicality(np.zeros(1), np.arange(-4.0, 5.0))) == 1.0


def test_nearest_images() -> None:
    train = some_bytes(50, 6, 6)
    index, distance = nearest(train[[7, 3]], train, count=2)
    assert index[:, 0].tolist() == [7, 3]
    assert distance[:, 0].tolist() == [0.0, 0.0]
    rest = (train.double() - train[7].double()).square().mean((1, 2)).sqrt()
    assert float(distance[0, 1]) == pytest.approx(float(rest.sort().values[1]), rel=1e-5)
    with pytest.raises(ValueError, match="expected images of one shape"):
        nearest(train[:, :5], train)
    with pytest.raises(ValueError, match=r"expected images of uint8, .* got torch\.float32"):
        nearest(train / 255, train)


def test_images_that_are_too_likely_are_not_typical() -> None:
    reference = torch.randn(999, generator=torch.Generator().manual_seed(0))
    p = typicality(torch.tensor([float(reference.median()), 8.0, -8.0, 1.0]), reference)
    assert float(p[0]) == 1.0
    assert p[1:3].tolist() == pytest.approx([0.001, 0.001])
    assert 0.2 < float(p[3]) < 0.45
    own = typicality(torch.randn(2000, generator=torch.Generator().manual_seed(1)), reference)
    assert float((own <= 0.1).double().mean()) == pytest.approx(0.1, abs=0.03)


def test_pictures() -> None:
    density, images = density_of(channels=3), some_bytes(6, 8, 8, 3)
    ax = pf.plots.images(images, columns=3, title="some")
    assert ax.images[0].get_array().shape == (22, 32, 3)  # type: ignore[union-attr]
    assert ax.get_title(loc="left") == "some"
    assert pf.plots.images(images[..., 0]).images[0].get_array().ndim == 2  # type: ignore[union-attr]
    assert pf.plots.interpolation(density, images[:4], steps=3).images[0].get_array().shape[:2] == (32, 32)  # type: ignore[union-attr]
    other = pf.plots.scales(density, images)
    assert other.images[0].get_array().shape[:2] == (32, 62)  # type: ignore[union-attr]
    assert pf.plots.images(images, ax=other) is other
