"""Bytes as numbers: masses, the order of bytes, log-derivatives, learned noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pushforward as pf
from pushforward.images.density import pad_to
from pushforward.images.encoding import ByteEncoding, byte_masses
from pushforward.images.independent import fit_pixels
from pushforward.images.space import Images
from test_images import some_bytes, uniform

EACH_BYTE = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1)
SMALL: dict[str, Any] = {"model": {"depths": [2, 1], "widths": [8, 8]}, "progress": "none", "recipe": "patch_flow"}


def some_masses(channels: int = 1, height: int = 1, width: int = 1) -> Tensor:
    logits = 4 * torch.randn(256, channels, height, width, generator=torch.Generator().manual_seed(0))
    return logits.softmax(0)


def blobs(n: int = 300, values: tuple[int, ...] = (0, 255)) -> np.ndarray:
    """Images 8 x 8 with a rectangle of some other shade on the first one."""
    rng = np.random.default_rng(0)
    images = np.full((n, 8, 8), values[0], dtype=np.uint8)
    for image in images:
        top, left = rng.integers(0, 4, 2)
        image[top : top + 4, left : left + 4] = rng.choice(values[1:])
    return images


ENCODINGS = {
    "logit": ByteEncoding(),
    "none": ByteEncoding(alpha=None),
    "masses": ByteEncoding(masses=some_masses(2, 3, 4)),
    "blocks": ByteEncoding(masses=some_masses(2, 2, 3)),
    "one block": ByteEncoding(masses=some_masses(2)),
}
encodings = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)


@encodings
def test_bytes_come_back_and_the_derivative_is_that_of_the_map(encoding: ByteEncoding) -> None:
    images = some_bytes(50, 2, 3, 4)
    noise = (
        torch.rand(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).mul(0.98).add(0.01)
    )
    noise.requires_grad_()
    y, log_slope = encoding(images, noise)
    assert y.dtype == log_slope.dtype == torch.float64
    assert torch.equal(encoding.inverse(y), images)
    (slope,) = torch.autograd.grad(y.sum(), noise)
    torch.testing.assert_close(log_slope, slope.log(), rtol=1e-6, atol=1e-6)


@encodings
def test_brighter_bytes_are_larger_numbers(encoding: ByteEncoding) -> None:
    images = EACH_BYTE.expand(256, 2, 3, 4)
    ends = torch.stack([encoding(images, torch.full(images.shape, u))[0] for u in (0.001, 0.999)], 1)
    assert bool((ends.flatten(0, 1).diff(dim=0) > 0).all())


@torch.no_grad()
def test_a_standard_normal_gives_each_byte_its_mass() -> None:
    masses = some_masses(1, 2, 2)
    density = pf.ImageDensity(pf.Flow(pf.Chain(), (1, 2, 2)), masses=masses).double()
    one = torch.zeros(256, 2, 2, dtype=torch.uint8)
    one[:, 1, 0] = EACH_BYTE.flatten()
    logs = density.log_prob(one)
    torch.testing.assert_close(
        logs - logs[0], (masses[:, 0, 1, 0] / masses[0, 0, 1, 0]).double().log(), rtol=1e-5, atol=1e-5
    )
    drawn = density.sample(20_000, generator=0)[:, 1, 0].long()
    shares = torch.bincount(drawn, minlength=256) / 20_000
    assert float((shares - masses[:, 0, 1, 0]).abs().max()) < 0.015


@torch.no_grad()
def test_numbers_beyond_all_bytes_are_those_at_the_end() -> None:
    for encoding in (ByteEncoding(), ByteEncoding(masses=some_masses())):
        far = torch.tensor([-1e4, 1e4]).view(2, 1, 1, 1)
        assert encoding.inverse(far).flatten().tolist() == [0, 255]


def test_blocks_have_the_frequencies_of_their_pixels() -> None:
    images = torch.zeros(400, 1, 64, 2, dtype=torch.uint8)
    images[:, :, 2:4] = 7
    masses = byte_masses(images.split(150))
    assert masses.shape == (256, 1, 32, 2)
    assert masses[7, 0, 1].tolist() == pytest.approx([1, 1], abs=0.01)
    assert masses[0, 0, 2:].min() > 0.99
    torch.testing.assert_close(masses.sum(0), torch.ones(1, 32, 2))


def test_few_images_take_the_masses_of_all_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    alike = torch.randint(0, 4, (3, 1, 16, 16), generator=generator).to(torch.uint8)
    masses = byte_masses([alike])
    overall = torch.bincount(alike.flatten().long(), minlength=4)[:4] / alike.numel()
    assert float((masses[:4] - overall.view(4, 1, 1, 1)).abs().max()) < 0.02
    own = some_masses(1, 16, 16)[:4]
    many = (
        torch.multinomial(own.flatten(1).T, 2000, True, generator=generator).T.reshape(2000, 1, 16, 16).to(torch.uint8)
    )
    assert float((byte_masses([many])[:4] - own / own.sum(0)).abs().max()) < 0.06


def test_one_image_has_the_masses_of_all_its_pixels() -> None:
    image = torch.tensor([[0, 0, 0, 0], [0, 0, 9, 9]], dtype=torch.uint8)[None, None]
    masses = byte_masses([image])
    assert float((masses[0] - 6 / 8).abs().max()) < 0.01
    assert float((masses[9] - 2 / 8).abs().max()) < 0.01


def test_mirrored_images_are_counted_where_they_are_drawn() -> None:
    images = np.zeros((40, 8, 8), np.uint8)
    images[:, :, :4] = np.random.default_rng(0).integers(0, 200, (40, 8, 4))
    masses = pf.fit_images(images, flips=True, steps=1, **SMALL).encoding.masses
    assert masses is not None
    torch.testing.assert_close(masses, masses.flip(-1))


def test_bytes_that_never_occur_are_unlikely_and_not_impossible() -> None:
    masses = byte_masses([torch.from_numpy(blobs())[:, None]])
    others = masses[1:255].sum(0)
    assert 1e-9 < float(others.min()) <= float(others.max()) < 1e-5
    once = byte_masses([torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1)])  # each seen once: there will be more
    assert float(once[60:].sum()) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="need one image at least"):
        byte_masses([])


@torch.no_grad()
def test_padding_costs_next_to_nothing() -> None:
    images = torch.from_numpy(blobs())[:, None]
    masses = byte_masses([pad_to(images, (10, 12))])
    flow = pf.Flow(pf.Chain(), (1, 10, 12))
    padded = pf.ImageDensity(flow, masses=masses, size=(8, 8))
    whole = fit_pixels(images, padded.space)
    torch.testing.assert_close(
        padded.log_prob(images).double().mean(), whole.log_prob(images).mean(), rtol=0.02, atol=0
    )
    assert padded.space.encoding.masses.shape == (256, 1, 8, 8)  # type: ignore[union-attr]
    same = padded.to_numbers(padded.pad(images), torch.full((300, 1, 10, 12), 0.3))[0][:, :, 1:9, 2:10]
    torch.testing.assert_close(padded.space.encoding(images, torch.full(images.shape, 0.3))[0].float(), same)


@torch.no_grad()
def test_files_keep_masses_and_learned_noise(tmp_path: Path) -> None:
    images, labels = blobs(), np.arange(300) % 2
    density = pf.fit_images(images[:, :6, :7], labels, pad=True, steps=3, dequantization="variational", **SMALL)
    pf.save(density, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    expected = density.log_prob(images[:, :6, :7], labels)
    assert torch.equal(again.log_prob(images[:, :6, :7], labels), expected)
    assert torch.equal(again.sample(5, 1, generator=0), density.sample(5, 1, generator=0))
    flow = pf.glow((1, 4, 4), depth=1, width=4, context_dim=2)
    other = pf.ImageDensity(flow, classes=["a", "b"], dequantization=pf.VariationalDequantization((1, 4, 4), width=4))
    pf.save(other, tmp_path / "m.safetensors")
    few = some_bytes(3, 4, 4)
    assert torch.equal(pf.load(tmp_path / "m.safetensors").log_prob(few, "a"), other.log_prob(few, "a"))


@torch.no_grad()
def test_large_images_with_padding_have_an_encoding_of_their_own_part() -> None:
    images = some_bytes(5, 1, 66, 70)
    density = pf.ImageDensity(pf.Flow(pf.Chain(), (1, 72, 72)), masses=some_masses(1, 32, 32), size=(66, 70))
    noise = torch.full((5, 1, 72, 72), 0.4)
    expected = density.to_numbers(density.pad(images), noise)[0][:, :, 3:69, 1:71]
    torch.testing.assert_close(density.space.encoding(images, noise[:, :, :66, :70])[0].float(), expected)


@pytest.mark.parametrize("dequantization", ["uniform", "variational"])
def test_images_of_few_shades_are_learned_and_keep_them(dequantization: str) -> None:
    images = blobs()
    density = pf.fit_images(images, steps=120, dequantization=dequantization, **SMALL)
    with torch.no_grad():
        bits = float(density.bits_per_dim(images).mean())
        simple = -float(fit_pixels(images, density.space).log_prob(images).mean()) / (64 * math.log(2))
        assert bits < simple < 1
        assert set(np.unique(density.sample(20, generator=0).numpy())) <= {0, 255}
        strange = images[:1].copy()
        strange[0, 0, 0] = 77
        lost = (density.log_prob(images[:1]) - density.log_prob(strange)).item()
    assert 10 < lost < 100


def test_the_noise_that_is_learned_stays_within_bytes() -> None:
    layer = pf.VariationalDequantization((2, 2, 4), width=4, context_dim=3).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    images, context = some_bytes(1, 2, 2, 4), torch.randn(1, 3).double()
    e = torch.linspace(0.0005, 0.9995, 1000).view(1000, 1, 1, 1).double().expand(1000, 2, 2, 4)
    with torch.no_grad():
        u, log_det = layer(images.expand(1000, 2, 2, 4), e, context.expand(1000, 3))
    assert bool((u.diff(dim=0) > 0).all())
    assert 0 < float(u.min()) < 0.02
    assert 0.98 < float(u.max()) < 1
    assert float((u - e).abs().max()) > 0.1
    middle = e[500:501].clone().requires_grad_()
    jacobian = torch.autograd.functional.jacobian(lambda t: layer(images, t, context)[0].flatten(), middle)
    torch.testing.assert_close(log_det[500], torch.linalg.slogdet(jacobian.reshape(16, 16))[1])


def test_what_is_no_encoding_is_refused() -> None:
    for masses in (torch.ones(255, 1, 1, 1), torch.ones(256), torch.zeros(256, 1, 1, 1), some_masses() * math.nan):
        with pytest.raises(ValueError, match=r"masses must be positive, of shape \(256, C, h, w\)"):
            ByteEncoding(masses=masses)
    with pytest.raises(ValueError, match="do not fit images of shape"):
        pf.ImageDensity(uniform(1, 2, 2), masses=some_masses(2))
    with pytest.raises(ValueError, match="needs an even height and width"):
        pf.VariationalDequantization((1, 3, 4))
    with pytest.raises(ValueError, match="the dequantization is of images of"):
        pf.ImageDensity(uniform(1, 2, 2), dequantization=pf.VariationalDequantization((1, 4, 4)))
    with pytest.raises(ValueError, match="must be uniform or variational, got 'none'"):
        pf.fit_images(blobs(), dequantization="none", steps=1, **SMALL)


def test_independent_pixels_of_each_class() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (300, 4, 4)).astype(np.uint8)
    labels = np.arange(300) % 3
    images += (80 * labels[:, None, None]).astype(np.uint8)
    space = Images((1, 4, 4), "HW", ["a", "b", "c"])
    of_all, of_each = fit_pixels(images, space), fit_pixels(images, space, labels)
    gain = of_each.log_prob(images, labels) - of_all.log_prob(images, labels)
    assert float(gain.mean()) == pytest.approx(16 * math.log(3), rel=0.3)
    drawn = of_each.sample(50, "b", generator=0)
    assert 80 <= int(drawn.min()) <= int(drawn.max()) < 120


def test_borders_of_bytes_lie_where_bytes_change() -> None:
    masses = torch.full((256, 2, 1, 1), 1e-3)
    masses[0, 0] = masses[255, 1] = 2.0  # black, and white, is common
    encoding = ByteEncoding(masses=masses)
    borders = encoding.between_bytes(4, (2, 3, 5))
    assert borders.shape == (4, 2, 3, 5)
    assert bool((borders.diff(dim=0) >= 0).all())
    torch.testing.assert_close(borders[:, 0], -borders[:, 1].flip(0), atol=1e-6, rtol=0)
    black = float(torch.special.ndtri(torch.tensor(2 / 2.255).double()))
    assert borders[0, 0, 0, 0] == pytest.approx(black, abs=1e-6)  # not within black, whose noise means nothing
    above, below = (encoding.inverse(borders + move) for move in (1e-6, -1e-6))
    assert bool((above == below + 1).all())
