"""Images as people have them: in either layout, reversed, linked, turned; and models of other images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.cli import on_images
from pushforward.images.space import Images, as_tensor
from pushforward.io.decode import decode, read_header
from pushforward.io.images import read_images
from pushforward.io.pixels import as_bytes

pillow = pytest.importorskip("PIL.Image")
SMALL = {"recipe": "patch_flow", "model": {"depths": [1], "widths": [4]}, "steps": 3, "progress": "none"}


def grey(count: int = 40, size: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size)).astype(np.uint8)


def test_a_shape_that_fits_two_layouts_has_that_of_the_space() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (5, 3, 3, 3)).astype(np.uint8)
    for layout in ("HWC", "CHW"):
        space = Images((3, 3, 3), layout)
        assert torch.equal(space.planes(colour), space.planes(torch.from_numpy(colour)))
    assert as_bytes(colour)[1] == "HWC"


@pytest.mark.parametrize(
    ("shape", "planes"), [((5, 1, 3, 3), (5, 1, 3, 3)), ((5, 3, 3, 1), (5, 1, 3, 3)), ((5, 3, 9, 9), (5, 3, 9, 9)),
                          ((5, 9, 9, 3), (5, 3, 9, 9)), ((5, 1, 8, 3), (5, 1, 8, 3)), ((5, 1, 1, 1), (5, 1, 1, 1))],
)  # fmt: skip
def test_channels_are_where_the_sides_are_not(shape: tuple[int, ...], planes: tuple[int, ...]) -> None:
    assert as_bytes(np.zeros(shape, np.uint8))[0].shape == planes


def test_reversed_and_read_only_arrays_are_images() -> None:
    images = grey()[::-1]
    images.flags.writeable = False
    assert torch.equal(as_tensor(images), torch.from_numpy(images.copy()))
    index, distance = pf.images.nearest(images[:2], grey())
    assert (index[:, 0].tolist(), distance[:, 0].tolist()) == ([39, 38], [0, 0])


def test_lists_of_images_of_several_shapes_name_them() -> None:
    with pytest.raises(ValueError, match=r"images must be of one shape, got \(8, 8\), \(8, 9\)"):
        as_bytes([np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8)])
    with pytest.warns(UserWarning, match="rounded to bytes"):
        assert as_bytes(torch.zeros(2, 8, 8, dtype=torch.bfloat16))[0].shape == (2, 1, 8, 8)


def test_names_of_classes_come_in_any_array() -> None:
    pandas = pytest.importorskip("pandas")
    names = np.array(["cat", "dog"] * 20)
    densities = [
        pf.fit_images(grey(), labels, **SMALL)
        for labels in (names, names.astype("S"), names.astype(object), pandas.Series(names).astype("category"))
    ]
    assert {density.space.classes for density in densities} == {("cat", "dog")}
    given = pandas.Series(names[:3])
    torch.testing.assert_close(densities[0].log_prob(grey()[:3], given), densities[0].log_prob(grey()[:3], names[:3]))


@pytest.mark.parametrize("context", ["cat", ["cat"] * 2, 0])
def test_a_class_for_a_density_without_classes_is_refused(context: object) -> None:
    density = pf.fit_images(grey(), **SMALL)
    with pytest.raises(ValueError, match="this density is of no classes"):
        density.log_prob(grey()[:2], context)
    with pytest.raises(ValueError, match="this density is of no classes"):
        density.sample(2, context)


def test_inpainting_needs_no_gradients_of_its_caller() -> None:
    density = pf.fit_images(grey(), **SMALL)
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[:, 4:] = False
    with torch.no_grad():
        once = pf.images.inpaint(density, grey()[:2], mask, steps=2, generator=0)
    with torch.inference_mode():
        again = pf.images.inpaint(density, grey()[:2], mask, steps=2, generator=0)
    assert torch.equal(once, again)
    both = pf.Mixture([density, pf.fit_images(grey(), seed=1, **SMALL)])
    for use in (lambda: pf.images.inpaint(both, grey()[:2], mask), lambda: pf.images.interpolate(both, grey()[:4])):
        with pytest.raises(ValueError, match="a density of images"):
            use()


def test_typicality_of_whole_numbers_and_of_a_reference_with_nan() -> None:
    torch.testing.assert_close(pf.images.typicality([1, 2], [1, 2, 3]), torch.tensor([0.75, 1.0], dtype=torch.float64))
    assert pf.images.typicality([float("nan"), 2.0], [1.0, 2.0, 3.0]).isnan().tolist() == [True, False]
    with pytest.raises(ValueError, match="none NaN"):
        pf.images.typicality([0.0], [float("nan"), 1.0])


def test_a_training_goes_on_with_the_same_images_and_labels_alone(tmp_path: Path) -> None:
    settings = SMALL | {"steps": 400, "checkpoint": str(tmp_path), "val": grey(seed=1)}
    labels, others = np.arange(40) % 2, np.arange(40) // 20
    fit = {"labels": labels, "val_labels": labels}
    pf.fit_images(grey(), **fit, **settings)
    pf.fit_images(grey(), **fit, **settings)
    for images, own in ((grey(seed=2), labels), (grey(), others)):
        with pytest.raises(ValueError, match="other settings"):
            pf.fit_images(images, **(fit | {"labels": own}), **settings)


def test_weights_are_loaded_into_a_density_with_the_same_settings_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    one, other = (pf.fit_images(grey(), np.array(names * 20), **SMALL) for names in (["a", "b"], ["b", "c"]))
    pf.save(one, path)
    with pytest.raises(ValueError, match=r"other settings than `into`: the density, classes 0 is 'a' in the file"):
        pf.load(path, into=other)
    rows = {"x": np.arange(60.0) ** 1.5, "c": ["u", "v"] * 30}
    tables = [
        pf.fit_table({"x": rows["x"], "c": c}, steps=2, stack=False, progress="none")
        for c in (rows["c"], ["v", "w"] * 30)
    ]
    pf.save(tables[0], path)
    with pytest.raises(ValueError, match="other settings than `into`"):
        pf.load(path, into=tables[1])
    again = pf.fit_table(rows, steps=2, stack=False, seed=0, progress="none")
    torch.testing.assert_close(pf.load(path, into=again).log_prob(rows), tables[0].log_prob(rows))
    with pytest.raises(ValueError, match="device must be one of torch's"):
        pf.load(path, device="nowhere")


def test_folders_that_are_links_are_read(tmp_path: Path) -> None:
    for name in ("cat", "elsewhere"):
        folder = tmp_path / ("images" if name == "cat" else "") / name
        folder.mkdir(parents=True)
        for i, image in enumerate(grey(3)):
            pillow.fromarray(image).save(folder / f"{i}.png")
    root = tmp_path / "images"
    os.symlink(tmp_path / "elsewhere", root / "dog")
    os.symlink(root, root / "cat" / "loop")  # has no end
    data = read_images(root)
    assert (len(data), data.classes) == (6, ("cat", "dog"))
    os.symlink(tmp_path / "nowhere.png", root / "cat" / "9.png")
    with pytest.raises((OSError, ValueError), match=r"9\.png"):
        read_images(root)
    data = read_images(root, skip_bad=True)
    assert (len(data), [Path(name).name for name in data.skipped]) == (6, ["9.png"])


def test_folders_that_link_to_each_other_are_read_once(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        pillow.fromarray(grey(1)[0]).save(tmp_path / name / "0.png")
    for name, others in (("a", "bc"), ("b", "ac"), ("c", "ab")):
        for other in others:
            os.symlink(f"../{other}", tmp_path / name / f"to_{other}")
    os.symlink(tmp_path, tmp_path / "c" / "up")
    data = read_images(tmp_path)
    assert data.paths == [str(tmp_path / name / "0.png") for name in "abc"]
    assert data.classes == ("a", "b", "c")
    assert "links to folders that are read by another name are left out" in data.notes[-1]
    (tmp_path / "alone").mkdir()
    os.symlink("../a", tmp_path / "alone" / "link")
    os.symlink("alone", tmp_path / "itself")
    assert len(read_images(tmp_path / "itself")) == 3  # by the links, which lead on to the others


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    picture = pillow.fromarray(np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, 16, 0), 16, 1))
    exif = picture.getexif()
    exif[0x0112] = 6  # the top of the scene is at the right
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    header = read_header(tmp_path / "a.jpg")
    assert header.shape == (1, 48, 32)
    assert "turned upright" in header.note
    wanted = np.asarray(picture).astype(int)[::-1].T
    assert np.abs(decode(tmp_path / "a.jpg")[0].astype(int) - wanted).max() < 12


def test_a_folder_of_samples_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Images((1, 8, 8))
    drawn = torch.from_numpy(grey(5))
    (tmp_path / "empty").mkdir()
    space.write(drawn, tmp_path / "empty")
    assert sorted(p.name for p in (tmp_path / "empty").iterdir()) == [f"{i}.png" for i in range(5)]
    written: list[str] = []

    def interrupted(picture: object, path: Path, **_: object) -> None:
        written.append(str(path))
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(pillow.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        space.write(drawn, tmp_path / "part")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_a_checkpoint_is_no_model(tmp_path: Path) -> None:
    pf.fit(pf.real_nvp(2, depth=2, seed=0), torch.randn(50, 2), steps=2, checkpoint=tmp_path, progress="none")
    with pytest.raises(ValueError, match="is the checkpoint of a training, not a model"):
        pf.load(tmp_path / "training.safetensors")


def test_an_estimator_is_of_no_images(tmp_path: Path) -> None:
    pf.save(pf.fit_images(grey(), **SMALL), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="holds grey images of 8 x 8, expected rows of a table"):
        pf.FlowDensity.load(tmp_path / "model.safetensors")


def test_samples_are_of_the_classes_that_held_out_images_have() -> None:
    class Drawn:
        def sample(self, n: int, contexts: np.ndarray, generator: int) -> torch.Tensor:
            self.of = contexts
            return torch.zeros(n, len(contexts), 2, 2)

        space = property(lambda self: self)
        flatten_samples = staticmethod(lambda drawn: drawn.flatten(0, 1))
        bits_per_dim = staticmethod(lambda drawn, contexts: torch.zeros(len(drawn)))

    density: Any = Drawn()
    on_images._bits_of_samples(density, np.repeat([0, 1, 2], [400, 200, 200]))  # in the order of folders
    assert np.bincount(density.of).tolist() == [32, 16, 16]
