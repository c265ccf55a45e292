"""Images of few shades: masks, drawings, scans of 16 greys."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pushforward as pf
from pushforward.images.independent import fit_pixels
from pushforward.images.shades import Shades, find_shades
from test_images import uniform

THREE = (10, 100, 255)
EACH_BYTE = torch.arange(256, dtype=torch.uint8).view(256, 1, 1)
SMALL: dict[str, Any] = {"model": {"depths": [2, 1], "widths": [8, 8]}, "progress": "none", "recipe": "patch_flow"}


def blobs(n: int = 300, values: tuple[int, ...] = (0, 255)) -> np.ndarray:
    """Images 8 x 8 with a rectangle of some other shade on the first one."""
    rng = np.random.default_rng(0)
    images = np.full((n, 8, 8), values[0], dtype=np.uint8)
    for image in images:
        top, left = rng.integers(0, 4, 2)
        image[top : top + 4, left : left + 4] = rng.choice(values[1:])
    return images


@torch.no_grad()
def test_the_mass_of_all_bytes_is_one_and_a_shade_has_nearly_all_of_its_cell() -> None:
    density = pf.ImageDensity(uniform(1, 1, 1), alpha=None, shades=THREE).double()
    mass = density.log_prob(EACH_BYTE).exp()
    assert mass.sum().item() == pytest.approx(1)
    assert mass[list(THREE)].numpy() == pytest.approx([1 / 3] * 3, rel=2e-6)
    others = mass[[i for i in range(256) if i not in THREE]]
    assert (others > 0).all()
    assert others.max() < 1e-7


@torch.no_grad()
def test_samples_have_the_shades_alone() -> None:
    density = pf.ImageDensity(uniform(1, 4, 4), alpha=None, shades=THREE)
    drawn = density.sample(200, generator=0)
    assert sorted(set(drawn.flatten().tolist())) == list(THREE)
    assert [float((drawn == v).float().mean()) for v in THREE] == pytest.approx([1 / 3] * 3, abs=0.05)


@torch.no_grad()
def test_padding_is_of_the_darkest_shade_and_costs_no_more_than_a_shade() -> None:
    whole = pf.ImageDensity(uniform(1, 4, 4), alpha=None, shades=THREE)
    padded = pf.ImageDensity(uniform(1, 4, 4), alpha=None, shades=THREE, size=(3, 3))
    image = torch.full((1, 3, 3), 100, dtype=torch.uint8)
    assert padded.pad(image[None])[0, 0, 0, 0] != 0
    assert padded.log_prob(image).item() == pytest.approx(
        whole.log_prob(torch.full((1, 4, 4), 100, dtype=torch.uint8)).item(), abs=1e-3
    )


@pytest.mark.parametrize("dequantization", ["uniform", "variational"])
def test_fit_finds_the_shades_and_learns_what_independent_pixels_cannot(dequantization: str) -> None:
    images = blobs()
    density = pf.fit_images(images, steps=120, dequantization=dequantization, **SMALL)
    assert density.space.shades.values == (0, 255)
    assert density.space.describe() == "grey images of 8 x 8, of 2 shades"
    bits = float(density.bits_per_dim(images).detach().mean())
    simple = -float(fit_pixels(images, density.space).log_prob(images).mean()) / (64 * math.log(2))
    assert bits < simple < 1
    assert set(np.unique(density.sample(20, generator=0).numpy())) <= {0, 255}
    strange = images[:1].copy()
    strange[0, 0, 0] = 77
    lost = (density.log_prob(images[:1]) - density.log_prob(strange)).item()
    assert 10 < lost < 100


def test_all_bytes_are_taken_where_asked_or_where_there_are_many() -> None:
    many = np.random.default_rng(0).integers(0, 200, (50, 8, 8)).astype(np.uint8)
    assert pf.fit_images(many, steps=1, **SMALL).space.shades.are_all
    assert pf.fit_images(blobs(), steps=1, shades=range(256), **SMALL).space.shades.are_all
    assert pf.fit_images(blobs(), steps=1, shades=np.array([0, 9, 255]), **SMALL).space.shades.values == (0, 9, 255)


def test_what_is_found() -> None:
    assert find_shades([blobs(values=(3, 5)), blobs(values=(3, 200))]).values == (3, 5, 200)
    assert find_shades([np.zeros(1000, np.uint8)]).are_all  # one shade says nothing of others
    assert find_shades([np.arange(60, dtype=np.uint8)]).are_all  # each seen once: there will be more


@torch.no_grad()
def test_a_saved_density_scores_the_same(tmp_path: Path) -> None:
    images = blobs(values=THREE)
    density = pf.fit_images(images, steps=5, dequantization="variational", **SMALL)
    pf.save(density, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    assert again.space.shades.values == THREE
    assert torch.equal(again.log_prob(images), density.log_prob(images))
    assert density.space.matches(again.space)
    assert not density.space.matches(pf.ImageDensity(uniform(1, 8, 8)).space)


@torch.no_grad()
def test_independent_pixels_of_few_shades_are_a_distribution() -> None:
    space = pf.ImageDensity(uniform(1, 1, 1), shades=THREE).space
    train: Tensor = torch.tensor(THREE, dtype=torch.uint8).repeat_interleave(torch.tensor([5, 3, 2])).view(10, 1, 1)
    pixels = fit_pixels(train, space)
    assert pixels.log_prob(EACH_BYTE).exp().sum().item() == pytest.approx(1)
    assert set(pixels.sample(100, generator=0).flatten().tolist()) <= set(THREE)


def test_simple_densities_see_shades_as_evenly_spaced() -> None:
    space = pf.ImageDensity(uniform(1, 1, 1), shades=THREE).space
    encoded = space.encode(torch.tensor(THREE, dtype=torch.uint8).view(3, 1, 1)).flatten()
    assert (encoded * 3).floor().tolist() == [0, 1, 2]


@pytest.mark.parametrize("values", [(), (5,), (5, 5), (9, 3), (0, 256), (-1, 3)])
def test_shades_that_are_none_are_told(values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 2 different bytes in increasing order"):
        Shades(values)


@pytest.mark.parametrize("values", [["a", "b"], [0.5, 1.0], [[0, 1], [2, 3]]])
def test_a_density_of_what_are_no_bytes_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="at least 2 different bytes in increasing order"):
        pf.ImageDensity(uniform(1, 2, 2), shades=values)


def test_variational_dequantization_needs_two_shades() -> None:
    with pytest.raises(ValueError, match="shades must be from 2 to 256, got 1"):
        pf.VariationalDequantization(pf.ConvNet(1, 11), alpha=None, shades=1)
