"""fit_images: learns, holds out, resumes, takes classes; and what is refused."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.images.data import LabelledImages
from pushforward.images.fit import Dequantized, _Draws, _Preprocessing, _untrained
from pushforward.images.independent import fit_pixels
from pushforward.images.noise import uniforms
from pushforward.io.pixels import ImageData

SMALL: dict[str, Any] = {"recipe": "patch_flow", "model": {"depths": [2, 1], "widths": [8, 8]}, "progress": "none"}


def halves(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images 8 x 8 whose left (class 0) or right half (class 1) is bright."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.normal(60, 12, (n, 8, 8))
    images[labels == 0, :, :4] += 110
    images[labels == 1, :, 4:] += 110
    return images.clip(0, 255).astype(np.uint8), labels


def test_it_learns_and_tells_bits() -> None:
    images, _ = halves()
    records: list[pf.Epoch] = []
    density = pf.fit_images(images, **SMALL | {"progress": records.append}, steps=150)
    summary = density.training_summary
    assert summary is not None
    assert summary["steps"] == 150
    assert summary["epochs"] == pytest.approx(150 * 16 / 180)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))  # the held-out ones are the first
    with torch.no_grad():
        bits = float(density.bits_per_dim(images[order[:20]]).mean())
    assert bits == pytest.approx(summary["bits_per_dim"], abs=1e-3)
    assert bits == pytest.approx(records[-1].best_val_nll / (64 * math.log(2)), abs=1e-3)  # type: ignore[operator]
    assert bits < 6.6
    assert records[-1].train_nll / (64 * math.log(2)) == pytest.approx(bits, abs=0.5)
    drawn = density.sample(200, generator=0).double()
    assert float((drawn.mean(0) - torch.from_numpy(images).double().mean(0)).abs().max()) < 40


def test_a_class_can_be_drawn() -> None:
    images, labels = halves()
    density = pf.fit_images(images, labels, classes=["left", "right"], **SMALL, steps=200)
    left, right = (density.sample(50, name, generator=0).double().mean(0) for name in ("left", "right"))
    assert float((left[:, :4] - left[:, 4:]).mean()) > 60
    assert float((right[:, 4:] - right[:, :4]).mean()) > 60
    with torch.no_grad():
        own, other = density.log_prob(images, labels), density.log_prob(images, 1 - labels)
    assert float((own > other).double().mean()) > 0.95
    named = np.array(["left", "right"])[labels]
    assert pf.fit_images(images, named, **SMALL, steps=1).space.classes == ("left", "right")
    assert pf.fit_images(images, labels.astype(np.uint8), **SMALL, steps=1).space.classes == ("0", "1")


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    images, labels = halves(100)
    how = SMALL | {"model": {"depths": [1], "widths": [4]}, "steps": 160, "batch": 2, "seed": 3}

    def interrupt(epoch: pf.Epoch) -> None:
        if epoch.step >= 128:  # a pass of drawn rows, after which the state is written
            raise KeyboardInterrupt

    whole = pf.fit_images(images, labels, **how)
    first = pf.fit_images(images, labels, **how | {"progress": interrupt}, checkpoint=tmp_path)
    assert first.training_summary is not None
    assert first.training_summary["stopped"] == "interrupted"
    again = pf.fit_images(images, labels, **how, checkpoint=tmp_path)
    assert whole.training_summary is not None
    assert again.training_summary is not None
    assert again.training_summary["best_val_nll"] == whole.training_summary["best_val_nll"]
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), again.parameters(), strict=True))


KILLED = """
import os, signal, sys
from test_fit_images import SMALL, halves
import pushforward as pf

def kill(epoch):
    if epoch.step >= 128:
        os.kill(os.getpid(), signal.SIGKILL)

images, labels = halves(100)
how = SMALL | {"model": {"depths": [1], "widths": [4]}, "steps": 160, "batch": 2, "seed": 3, "progress": kill}
pf.fit_images(images, labels, **how, checkpoint=sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL")
def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(tmp_path: Path) -> None:
    code = [sys.executable, "-c", KILLED, str(tmp_path)]
    killed = subprocess.run(code, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    images, labels = halves(100)
    how = SMALL | {"model": {"depths": [1], "widths": [4]}, "steps": 160, "batch": 2, "seed": 3}
    steps: list[int] = []
    again = pf.fit_images(
        images, labels, **how | {"progress": lambda epoch: steps.append(epoch.step)}, checkpoint=tmp_path
    )
    whole = pf.fit_images(images, labels, **how)
    assert min(steps) > 64  # it did not start anew
    assert again.training_summary["best_val_nll"] == whole.training_summary["best_val_nll"]  # type: ignore[index]
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), again.parameters(), strict=True))


def test_draws_are_images_with_new_noise_and_flips() -> None:
    images, labels = halves(20)
    data = LabelledImages.of(images, labels, None)
    density = _untrained(data, "patch_flow", {"depths": [1], "widths": [4]}, False, False, _Preprocessing(), 0)
    generator = torch.Generator().manual_seed(0)
    x, context = _Draws(density, data, flips=True)(60, generator)
    drawn = x.floor()[:, 0]
    known = torch.from_numpy(images)
    plain, mirrored = ((drawn[:, None] == each).flatten(2).all(2).any(1) for each in (known, known.flip(-1)))
    assert bool((plain | mirrored).all())
    assert 15 < int(plain.sum()) < 45
    assert context.shape == (60, 2)
    assert not torch.equal(x, _Draws(density, data, flips=True)(60, generator)[0])


def test_sources_and_validation_images(tmp_path: Path) -> None:
    images, labels = halves(60)
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    path = tmp_path / "images.npz"
    density = pf.fit_images(path, True, val=path, val_labels=True, **SMALL, steps=2)
    assert density.space.classes == ("0", "1")
    assert pf.fit_images(path, **SMALL, steps=2).space.classes == ()
    colour = np.stack([images] * 3, 3)
    assert pf.fit_images(colour, **SMALL, steps=2).sample(1).shape == (1, 8, 8, 3)
    with pytest.raises(ValueError, match="need labels, too"):
        pf.fit_images(path, True, val=images, **SMALL, steps=2)
    with pytest.raises(ValueError, match="expected validation images of shape"):
        pf.fit_images(path, val=images[:, :4], **SMALL, steps=2)


def test_a_part_of_a_source_is_all_that_is_drawn(tmp_path: Path) -> None:
    images, labels = halves(60)
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    left = pf.read_images(tmp_path / "images.npz").part(np.flatnonzero(labels == 0))
    data = LabelledImages.of(left, True, None)
    assert len(data) == 30
    assert bool((data.images(slice(None))[:, :, :, :4] > 120).double().mean() > 0.9)
    assert data.contexts(torch.arange(30)).argmax(1).tolist() == [0] * 30  # type: ignore[union-attr]


def test_labels_of_validation_images_are_read_by_name() -> None:
    images, _ = halves(30)
    source = ImageData(images, np.arange(30) % 2, ("dog", "owl"))
    data = LabelledImages.of(source, True, ("cat", "dog", "owl"))
    assert data.labels is not None
    assert data.labels.tolist() == (1 + np.arange(30) % 2).tolist()


def test_a_part_has_labels_of_its_own_and_perhaps_fewer_classes(tmp_path: Path) -> None:
    images, labels = halves(60)
    left = np.flatnonzero(labels == 0)
    for source in (ImageData(images, labels), ImageData(images, labels, ("left", "right"))):
        part = source.part(left)
        given = LabelledImages.of(part, labels[left], ["a", "b"])
        assert given.labels is not None
        assert given.labels.tolist() == [0] * 30
        own = LabelledImages.of(part, True, None)
        assert own.classes == (source.classes or ("0", "1"))  # those of the whole
        assert own.contexts(torch.arange(30)).shape == (30, 2)  # type: ignore[union-attr]
        density = pf.fit_images(source, True, val=part, val_labels=True, **SMALL, steps=1)
        assert density.space.classes == own.classes
        with pytest.raises(ValueError, match="a label for each of the 30 images, got labels of shape"):
            LabelledImages.of(part, labels, None)
    for name in ("left", "right"):
        pf.ImageDensity(uniform_over(images)).space.write(
            torch.from_numpy(images[labels == (name == "right")]), tmp_path / "whole" / name
        )
    pf.ImageDensity(uniform_over(images)).space.write(torch.from_numpy(images[:3]), tmp_path / "some" / "right")
    density = pf.fit_images(tmp_path / "whole", True, val=tmp_path / "some", val_labels=True, **SMALL, steps=1)
    assert density.space.classes == ("left", "right")


def uniform_over(images: np.ndarray) -> pf.Flow:
    return pf.Flow(pf.Chain(), (1, *images.shape[1:]))


def test_a_resumed_training_draws_the_same_images(tmp_path: Path) -> None:
    images, _ = halves(100)
    how = SMALL | {"model": {"depths": [1], "widths": [4]}, "steps": 130, "batch": 2, "checkpoint": tmp_path}
    val = images[:20]
    pf.fit_images(images, val=val, **how)
    with pytest.raises(
        ValueError, match=r"other settings: flips= was False, now True\. Give the same, or another folder"
    ):
        pf.fit_images(images, val=val, **how, flips=True)
    with pytest.raises(ValueError, match="other settings: the number of images was 100, now 60; other data"):
        pf.fit_images(images[:60], val=val, **how)


def test_a_recipe_of_ones_own_is_checked() -> None:
    images, labels = halves(40)

    def small(shape: Any, context_dim: int, seed: int) -> pf.Flow:
        return pf.glow(shape, depth=1, width=4, context_dim=context_dim, seed=seed)

    density = pf.fit_images(images, labels, recipe=small, steps=1, progress="none")
    assert density.inner.context_dim == 2  # type: ignore[union-attr]
    bad: list[tuple[Any, str]] = [
        (lambda shape, **more: None, r"must return a Flow over \(1, 8, 8\) and contexts of width 0, got NoneType"),
        (lambda shape, **more: pf.glow((1, 4, 4), depth=1), r"got one over \(1, 4, 4\) and 0"),
        (lambda shape, **more: pf.glow(shape, depth=1, context_dim=3), r"got one over \(1, 8, 8\) and 3"),
        (lambda shape, **more: pf.real_nvp(64), r"got one over \(64,\)"),
        (lambda shape: pf.glow(shape), "the recipe <lambda> takes no context_dim"),
        (5, "recipe must be auto, one of .*, or a function, got 5"),
    ]
    for recipe, message in bad:
        with pytest.raises(ValueError, match=message):
            pf.fit_images(images, recipe=recipe, steps=1, progress="none")


def test_noise_of_vectors_is_refused_and_gradients_may_go_unclipped(monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = halves(40)
    with pytest.raises(ValueError, match="images have that of dequantization"):
        pf.fit_images(images, **SMALL, steps=2, noise=0.1)
    seen: dict[str, Any] = {}

    def spy(density: Any, rows: Any, val: Any, **settings: Any) -> Any:
        seen.update(settings)
        return pf.fit(density, rows, val, **settings)

    monkeypatch.setattr("pushforward.images.fit.fit", spy)
    pf.fit_images(images, **SMALL, steps=2, clip=None, lr=None)
    assert seen["clip"] is None
    assert seen["lr"] == 8e-3


def test_images_that_cannot_be_halved_are_padded_on_request() -> None:
    images, _ = halves(40)
    odd = images[:, :7, :7]
    with pytest.raises(ValueError, match="images of 7 x 7 cannot be halved once; 8 x 8 can"):
        pf.fit_images(odd, steps=2, progress="none")
    density = pf.fit_images(odd, pad=True, **SMALL, steps=2)
    assert density.sample(2).shape == (2, 7, 7)
    assert density.padded == (1, 8, 8)


@pytest.mark.parametrize("recipe", ["glow", "real_nvp_image"])
def test_other_recipes(recipe: str) -> None:
    images, _ = halves(40)
    model = {"width": 4, "depth": 1} if recipe == "glow" else {"width": 4, "blocks": 1, "norm": "batch"}
    density = pf.fit_images(images, recipe=recipe, model=model, steps=5, progress="none", flips=True, encoding="logit")
    assert density.inner.recipe["name"] == recipe  # type: ignore[union-attr,index]
    with torch.no_grad():
        assert torch.isfinite(density.log_prob(images)).all()


def test_the_rule_takes_one_scale_where_images_can_be_halved_once() -> None:
    images = np.zeros((4, 6, 8), np.uint8)
    density = _untrained(LabelledImages.of(images, None, None), "auto", {}, False, False, _Preprocessing(), 0)
    assert density.inner.recipe["arguments"]["widths"] == [64]  # type: ignore[union-attr,index]


def test_bad_input() -> None:
    images, labels = halves(20)
    for bad, message in (
        ({"labels": labels[:5]}, "a label for each of the 20 images"),
        ({"labels": labels - 1}, "whole numbers from 0"),
        ({"labels": labels + 0.5}, "names or whole numbers"),
        ({"labels": labels, "classes": ["a"]}, "the label 1 has no name: names are given of 1 class$"),
        ({"labels": ["a"] * 20, "classes": ["b"]}, "the label 'a' is none of the classes 'b'"),
        ({"labels": True}, "come without classes"),
        ({"labels": [None] * 20}, "names or whole numbers from 0, got object"),
        ({"labels": labels, "classes": "ab"}, "classes must be a list of names, got 'ab'"),
        ({"labels": labels, "classes": 2}, "classes must be a list of names, got 2"),
        ({"labels": labels, "classes": ["a", "a"]}, "names of classes must differ"),
        ({"labels": labels, "classes": []}, "the label 1 has no name: names are given of 0 classes"),
        ({"classes": ["a", "b"]}, "classes= names the classes of labels="),
        ({"val_labels": labels}, "val_labels= goes with val= and labels="),
        ({"val": images, "val_labels": labels}, "val_labels= goes with val= and labels="),
        ({"model": {"seed": 1}}, "model must not hold seed, which"),
        ({"model": {"shape": (1, 4, 4)}}, "model must not hold shape, which"),
        ({"model": 5}, "model must be arguments of the recipe by name, got 5"),
        ({"model": {"depths": 3, "widths": 3}}, "depths must be a list of whole numbers"),
        ({"recipe": "glow", "model": {"levels": "a"}}, "levels must be a whole number"),
        ({"recipe": "glow", "model": {"levels": "a"}, "pad": True}, "levels must be a whole number"),
        ({"pad": 3}, "pad must be True or False, got 3"),
        ({"flips": "yes"}, "flips must be True or False, got 'yes'"),
        ({"device": "gpu"}, "device must be one of torch's on this machine, such as \"cpu\", got 'gpu'"),
        ({"device": 1.5}, "device must be one of torch's on this machine"),
        ({"seed": "a"}, "seed must be a whole number, got 'a'"),
        ({"recipe": "real_nvp"}, "recipe must be auto, one of real_nvp_image, glow, patch_flow"),
        ({"steps": 0}, "steps must be"),
    ):
        with pytest.raises(ValueError, match=message):
            pf.fit_images(images, **SMALL | {"steps": 2} | bad)
    with pytest.raises(ValueError, match="at least 2 images"):
        pf.fit_images(images[:1], **SMALL)
    with pytest.raises(ValueError, match="fit_images images"):
        pf.fit(_untrained(LabelledImages.of(images, None, None), "auto", {}, False, False, _Preprocessing(), 0), images)


def test_the_training_sees_bytes_with_noise() -> None:
    images, _ = halves(60)
    density = pf.fit_images(images, **SMALL, steps=3)
    seen = Dequantized(density)
    noise = uniforms(torch.from_numpy(images)[:, None], 0)
    with torch.no_grad():
        expected = density.log_prob(images)
        torch.testing.assert_close(seen.log_prob(torch.from_numpy(images)[:, None] + noise), expected)
    x = seen.sample(3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x.floor()[:, 0].to(torch.uint8), density.sample(3, generator=0))


def test_training_begins_with_independent_pixels() -> None:
    images, _ = halves(60)
    records: list[pf.Epoch] = []
    density = pf.fit_images(images, val=images, **SMALL | {"progress": records.append}, steps=1)
    simple = -float(fit_pixels(images, density.space).log_prob(images).mean())
    assert records[0].val_nll == pytest.approx(simple, rel=0.05)
