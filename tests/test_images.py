"""ImageDensity: bits that are right, noise that repeats, layouts, classes, padding, temperature."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pushforward as pf
from flows import stirred
from pushforward.images.encoding import byte_masses
from pushforward.images.independent import fit_pixels
from pushforward.images.noise import LARGEST, uniforms


def some_bytes(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def uniform(*shape: int) -> pf.Flow:
    base = torch.distributions.Independent(
        torch.distributions.Uniform(torch.zeros(shape), torch.ones(shape)), len(shape)
    )
    return pf.Flow(pf.Chain(), shape, base)


def small(shape: tuple[int, int, int] = (1, 8, 8), **more: Any) -> pf.ImageDensity:
    flow = pf.patch_flow(shape, depths=[2, 1], widths=[6, 6], context_dim=len(more.get("classes", ())), seed=0)
    density = pf.ImageDensity(flow, **more)
    shape = density.space.shape
    images = some_bytes(64, *shape)
    density.initialize(images, torch.arange(64) % len(density.space.classes) if density.space.classes else None)
    return stirred(density, 0.05).eval()  # type: ignore[return-value]


@torch.no_grad()
def test_a_uniform_base_without_logit_has_exactly_8_bits() -> None:
    density = pf.ImageDensity(uniform(3, 4, 6), alpha=None)
    bits = density.bits_per_dim(some_bytes(20, 4, 6, 3))
    assert torch.equal(bits, torch.full((20,), 8.0))
    torch.testing.assert_close(density.log_prob(some_bytes(5, 4, 6, 3)), torch.full((5,), -72 * math.log(256)))


@torch.no_grad()
def test_bits_are_those_of_the_paper() -> None:
    """(NLL + D log 256) / (D log 2) of x in [0, 1), through the logit, by hand."""
    density = small().double()
    images = some_bytes(6, 8, 8)
    x = (images[:, None].double() + uniforms(images[:, None], 0)) / 256
    p = 0.05 + 0.9 * x
    y = (p / (1 - p)).log()
    log_slope = (0.9 / (p * (1 - p))).log().flatten(1).sum(1)
    nll = -(density.inner.log_prob(y) + log_slope)
    torch.testing.assert_close(density.bits_per_dim(images), (nll + 64 * math.log(256)) / (64 * math.log(2)))


def test_the_noise_is_a_function_of_the_image() -> None:
    images = some_bytes(300, 1, 5, 5)
    noise = uniforms(images, 0)
    assert torch.equal(noise, uniforms(images.clone(), 0))
    assert torch.equal(noise[7:9], uniforms(images[7:9], 0))
    assert not torch.equal(noise, uniforms(images, 1))
    near = images.clone()
    near[:, 0, 4, 4] ^= 1
    assert float((uniforms(near, 0) - noise).abs().mean()) == pytest.approx(1 / 3, abs=0.02)  # as of independent ones
    assert 0 < float(noise.min()) < float(noise.max()) <= LARGEST
    u = noise.flatten()
    assert float(u.mean()) == pytest.approx(0.5, abs=0.015)
    assert float(u.var()) == pytest.approx(1 / 12, abs=0.005)
    assert abs(np.corrcoef(noise.flatten(1).numpy().T)[~np.eye(25, dtype=bool)]).max() < 0.3


@torch.no_grad()
def test_log_prob_repeats_and_draws_tighten_the_bound() -> None:
    density, images = small(), some_bytes(400, 8, 8)
    once = density.log_prob(images)
    assert torch.equal(once, density.log_prob(images))
    tighter = density.log_prob(images, draws=8)
    assert float((tighter - once).mean()) > 0
    several = torch.stack([density._score(images[:, None], None, 1), once])  # the first draw is the one of one draw
    assert torch.equal(several[0], several[1])
    with pytest.raises(ValueError, match="draws must be a whole number of at least 1"):
        density.log_prob(images, draws=0)


@torch.no_grad()
def test_all_layouts_score_the_same_and_samples_come_in_one() -> None:
    density = small((3, 8, 12))
    images = some_bytes(4, 8, 12, 3)
    first = images.movedim(3, 1).contiguous()
    expected = density.log_prob(images)
    assert torch.equal(density.log_prob(first), expected)
    assert torch.equal(density.log_prob(images.numpy()), expected)
    assert density.sample(2).shape == (2, 8, 12, 3)
    assert density.sample(2).dtype == torch.uint8
    other = pf.ImageDensity(density.inner, layout="CHW")
    assert other.sample(2).shape == (2, 3, 8, 12)
    grey = small()
    assert grey.sample(3).shape == (3, 8, 8)
    assert grey.log_prob(some_bytes(2, 1, 8, 8)).shape == (2,)


@torch.no_grad()
def test_other_values_are_converted_or_refused() -> None:
    density, images = small(), some_bytes(3, 8, 8)
    expected = density.log_prob(images)
    with pytest.warns(UserWarning, match="rounded to bytes"):
        assert torch.equal(density.log_prob(images.double().numpy() / 255), expected)
    with pytest.warns(UserWarning, match="taken as bytes"):
        assert torch.equal(density.log_prob(images.numpy().astype(np.int64)), expected)
    for bad, message in (
        (images.numpy() / 100, "numbers from 0 to 1, got float64, 0 to 2"),
        (images.numpy().astype(np.int64) - 300, "expected images of dtype uint8, got int64"),
        (images.numpy().astype(np.uint16) * 200, "images of 16 bits are not supported"),
        (images.numpy() + np.nan, "numbers from 0 to 1, got float64, some that are NaN"),
        (images[:, :7], r"expected images of shape \(N, 8, 8, 1\) or \(N, 1, 8, 8\) or \(N, 8, 8\)"),
        (images[0], "expected images of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            density.log_prob(bad)
    with pytest.raises(ValueError, match="expected colour images, images are grey"):
        small((3, 8, 8)).log_prob(images)


@torch.no_grad()
def test_classes_are_contexts_by_name_or_number() -> None:
    density, images = small(classes=["cat", "dog"]), some_bytes(4, 8, 8)
    both = density.log_prob(images, ["cat", "dog", "dog", "cat"])
    assert torch.equal(both, density.log_prob(images, [0, 1, 1, 0]))
    assert torch.equal(density.log_prob(images, "dog"), density.log_prob(images, torch.ones(4, 1)))
    assert not torch.equal(density.log_prob(images, 0), density.log_prob(images, 1))
    assert density.sample(3, "cat").shape == (3, 8, 8)
    assert density.sample(3, ["cat", "dog"]).shape == (3, 2, 8, 8)
    with pytest.raises(ValueError, match="unknown class 'cow'; there are 'cat', 'dog'"):
        density.sample(3, "cow")
    with pytest.raises(ValueError, match="whole numbers from 0 to 1"):
        density.log_prob(images, 2)
    with pytest.raises(ValueError, match="a context for each of the 4 images, got 3"):
        density.log_prob(images, [0, 1, 0])
    with pytest.raises(ValueError, match="give the class as context"):
        density.log_prob(images)


@torch.no_grad()
def test_padding_is_black_and_its_likelihood_is_counted() -> None:
    density = small(size=(5, 7))
    images = some_bytes(6, 5, 7)
    whole = torch.zeros(6, 8, 8, dtype=torch.uint8)
    whole[:, 1:6, 0:7] = images
    assert torch.equal(density.log_prob(images), pf.ImageDensity(density.inner).log_prob(whole))
    assert density.dimensions == 35
    assert density.sample(2, generator=0).shape == (2, 5, 7)
    with pytest.raises(ValueError, match="images of 9 x 8 do not fit into 8 x 8"):
        pf.ImageDensity(density.inner, size=(9, 8))


@torch.no_grad()
def test_bytes_come_back_from_numbers() -> None:
    density = small(size=(5, 7))
    images = some_bytes(6, 1, 5, 7)
    padded = density.pad(images)
    y, _ = density.to_numbers(padded, uniforms(padded, 0))
    assert torch.equal(density.to_bytes(y), images)
    ends = torch.tensor([-9.0, 9.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)  # beyond the range of bytes
    assert density.to_bytes(ends).flatten(1).unique(dim=1).flatten().tolist() == [0, 255]


@torch.no_grad()
def test_a_lower_temperature_draws_less_varied_images() -> None:
    density = small()
    spread = [float(density.sample(200, generator=0, temperature=t).double().std(0).mean()) for t in (1.0, 0.3)]
    assert spread[1] < 0.6 * spread[0]
    assert torch.equal(density.sample(5, generator=0, temperature=1.0), density.sample(5, generator=0))
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        density.sample(1, temperature=0.0)


@torch.no_grad()
def test_pieces_give_the_same_scores_and_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    from pushforward.images import encoding as module

    density, images = small(), some_bytes(100, 8, 8)
    scores = density.log_prob(images)
    monkeypatch.setattr(module, "_TOGETHER", 16 * 64)
    torch.testing.assert_close(density.log_prob(images), scores, rtol=1e-6, atol=1e-3)
    assert density.sample(100, generator=0).shape == (100, 8, 8)


def test_arguments_are_checked() -> None:
    flow = uniform(1, 2, 2)
    with pytest.raises(ValueError, match="alpha must be None or above 0"):
        pf.ImageDensity(flow, alpha=0.5)
    with pytest.raises(ValueError, match="layout must be one of"):
        pf.ImageDensity(flow, layout="WH")
    with pytest.raises(ValueError, match=r"must be over \(C, H, W\)"):
        pf.ImageDensity(uniform(4))
    with pytest.raises(ValueError, match="names of classes must differ"):
        pf.ImageDensity(flow, classes=["a", "a"])
    learned = pf.VariationalDequantization((1, 4, 4), width=4)
    for bad, message in (
        ({"size": 2}, r"size must be \(H, W\), two whole numbers, got 2"),
        ({"size": ("a", 2)}, "size must be .*, got "),
        ({"size": (2,)}, "size must be .*, got "),
        ({"size": (1.5, 2)}, "size must be .*, got "),
        ({"size": (0, 2)}, "images of 0 x 2 do not fit into 2 x 2"),
        ({"alpha": "x"}, "alpha must be None or above 0 and below 0.5, got 'x'"),
        ({"masses": [1.0]}, r"masses must be a tensor \(256, C, h, w\), got list"),
        ({"dequantization": "variational"}, "must be a VariationalDequantization or None, got 'variational'"),
        ({"dequantization": learned}, r"of images of \(1, 4, 4\), these are of \(1, 2, 2\)"),
        ({"classes": "ab"}, "classes must be a list of names, got 'ab'"),
        ({"classes": 2}, "classes must be a list of names, got 2"),
        ({"classes": [1, 2]}, r"classes must be a list of names, got \[1, 2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            pf.ImageDensity(flow, **bad)  # type: ignore[arg-type]
    for shape in (4, (4,), (1, 2, "b"), (1, 2.0, 2)):
        with pytest.raises(ValueError, match=r"the shape of images must be \(C, H, W\)"):
            pf.ImageDensity(uniform(4), shape=shape)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"the shape of images must be \(C, H, W\)"):
            pf.VariationalDequantization(shape)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="width must be a whole number"):
        pf.VariationalDequantization((1, 4, 4), width="a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="inner must be a density over tensors, such as a flow, got int"):
        pf.ImageDensity(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="temperature must be a positive number, got 'hot'"):
        small().sample(1, temperature="hot")  # type: ignore[arg-type]


def test_files_with_bad_settings_are_refused(tmp_path: Path) -> None:
    from pushforward.io.tensors import read_tensors, write_tensors

    path = tmp_path / "model.safetensors"
    pf.save(small(classes=["a", "b"]), path)
    header, tensors = read_tensors(path)
    for name, value in (("size", [8]), ("shape", None), ("alpha", "x"), ("classes", [1]), ("size", [99, 8])):
        bad = {**header, "settings": {**header["settings"], name: value}}
        write_tensors(path, tensors, bad)
        with pytest.raises(ValueError, match="damaged header"):
            pf.load(path)


def test_images_are_written_as_array_grid_and_folder(tmp_path: Path) -> None:
    from pushforward.io.images import read_images

    density = small((3, 8, 12))
    images = some_bytes(5, 8, 12, 3)
    density.space.write(images, tmp_path / "images.npy")
    assert np.array_equal(np.load(tmp_path / "images.npy"), images.numpy())
    density.space.write(images, tmp_path / "folder")
    assert torch.equal(density.space.read(tmp_path / "folder"), images)
    density.space.write(images, tmp_path / "grid.png")
    assert read_images(tmp_path / "grid.png").images.shape == (1, 12 + 2 * 8 * 5 - 6, 3 * (12 * 5 + 2) + 2, 3)
    with pytest.raises(ValueError, match="is not empty"):
        density.space.write(images, tmp_path / "folder")


@torch.no_grad()
def test_independent_pixels_have_the_masses_of_bytes() -> None:
    space = small().space
    images = some_bytes(300, 8, 8) // 64
    density = fit_pixels(images, space).double()
    masses = byte_masses([images[:, None]]).double()
    every = images[:1].repeat(256, 1, 1)
    every[:, 3, 5] = torch.arange(256)
    told = density.log_prob(every)
    expected = masses[:, 0, 3, 5].log()
    torch.testing.assert_close(told - told[0], expected - expected[0])
    drawn = density.sample(2000, generator=0)
    assert drawn.shape == (2000, 8, 8)
    assert float((drawn[:, 3, 5] == 2).double().mean()) == pytest.approx(float(masses[2, 0, 3, 5]), abs=0.05)


def test_check_sets_independent_pixels_beside_a_density_of_images() -> None:
    images = some_bytes(400, 8, 8) // 64 * 64
    report = pf.check(small(), images[:120], train=images[120:], max_rows=60)
    section = next(s for s in report.sections if s.name == "likelihood")
    assert section.figures["baselines"]["pixels"]["gain"] < -100  # 4 of 256 bytes are there
    assert "independent pixels does better" in report.text()
    bits = -section.figures["mean"] / (64 * math.log(2))
    assert section.figures["bits_per_dim"] == pytest.approx(bits)
    assert f"{bits:.4f}" in report.text()
    assert {"y0 x0", "y7 x7"} <= set(report.about["names"])
    assert "<= block" not in report.text()


def test_names_of_colour_pixels_and_a_density_in_a_line() -> None:
    density = pf.ImageDensity(pf.glow((3, 4, 4), levels=1, depth=1, width=4, seed=0), classes=())
    assert density.space.names[16 + 6] == "green y1 x2"
    count = sum(p.numel() for p in density.parameters())
    assert repr(density) == f"ImageDensity(colour images of 4 x 4, glow, {count:,} parameters)"


def test_parts_of_a_check_are_told() -> None:
    told: list[str] = []
    pf.check(small(), some_bytes(60, 8, 8), questions=["ranking"], progress=told.append)
    assert told == ["log-densities", "leak", "likelihood", "exactness"]
