"""Names of classes and files that hold line breaks, or bytes that are no UTF-8; and images that are all alike."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pushforward as pf
from commands import good, run
from pushforward import plots
from pushforward.io.image_writer import folder_of, write_images
from pushforward.io.images import read_images
from pushforward.io.names import shown
from pushforward.io.tables import read_table

SMALL = ("--recipe", "glow", "--depth", 1, "--width", 4, "--steps", 2, "--progress", "none")
SHOWN = ["new\\nline", "x\\xff", "ünï"]


@pytest.fixture
def oddly_named(tmp_path: Path) -> Path:
    """Images of three classes."""
    folder, rng = tmp_path / "odd", np.random.default_rng(0)
    for name in (b"new\nline", b"x\xff", "ünï".encode()):
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(path)
        for i in range(10):
            with open(os.path.join(path, b"im\xfe\n%d.png" % i), "wb") as file:
                Image.fromarray(rng.integers(0, 256, (8, 8)).astype(np.uint8)).save(file, "PNG")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_are_escaped_once_and_known_again(oddly_named: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    assert good("fit", oddly_named, "--out", model, "--by-class", *SMALL)["classes"] == SHOWN
    result = run("score", model, oddly_named, "--out", tmp_path / "s.csv")
    assert result.exit_code == 0, result.output
    assert "            new\\nline  10 images" in result.stdout
    table = read_table(tmp_path / "s.csv")
    assert set(table.column("class").texts) == set(SHOWN)
    assert table.column("file").texts[0] == str(oddly_named / "new\\nline" / "im\\xfe\\n0.png")
    good("sample", model, "--given", "all", "-n", 3, "--out", tmp_path / "all.png")
    assert len(good("plot", model, "--data", oddly_named, "--out", tmp_path / "plots")["pictures"]) == 5
    good("sample", model, "--given", "all", "-n", 3, "--out", tmp_path / "drawn")
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == set(map(folder_of, SHOWN))
    assert list(read_images(tmp_path / "drawn", classes=SHOWN).classes) == SHOWN


def test_pictures_show_any_name(tmp_path: Path) -> None:
    planes = np.zeros((2, 1, 8, 8), np.uint8)
    write_images(planes[:, 0], planes, tmp_path / "grid.png", names=("a\nb", "c\udcff"))
    ax = plots.images(planes, title="two", groups={"a\nb": 1, "$x$ \\frac": 1})
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a\\nb", "$x$ \\frac"]
    plots.save_figure(ax, tmp_path / "plot.png")
    with pytest.raises(ValueError, match="the groups have 3 images, expected 2"):
        plots.images(planes, groups={"a": 1, "b": 2})


def test_a_title_is_no_wider_than_the_picture() -> None:
    title = "top: as they are; below: finer scales drawn anew"
    ax = plots.images(np.zeros((24, 9, 7), np.uint8), columns=8, title=title)
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    box = ax._left_title.get_window_extent()  # type: ignore[attr-defined]
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height


def test_a_plot_labels_as_many_images_as_there_are(tmp_path: Path) -> None:
    density = pf.ImageDensity(pf.glow((1, 8, 8), depth=1, width=4, context_dim=2, seed=0), classes=["a", "b"])
    pf.save(density, tmp_path / "m.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (15, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=np.array(["a"] * 3 + ["b"] * 12))
    good("plot", tmp_path / "m.safetensors", "--data", tmp_path / "d.npz", "--out", tmp_path / "plots")
    with Image.open(tmp_path / "plots" / "data.png") as picture:
        assert picture.size[1] > 200  # a row of a, two of b: more than 15 images fill in rows of 10


def test_images_that_are_all_alike_have_no_mass_above_1(tmp_path: Path) -> None:
    np.save(tmp_path / "alike.npy", np.full((40, 8, 8), 77, np.uint8))
    model = tmp_path / "m.safetensors"
    figures = good("fit", tmp_path / "alike.npy", "--out", model, *SMALL)
    assert figures["test_bits"] >= 0
    good("score", model, tmp_path / "alike.npy", "--outlier", "--out", tmp_path / "s.csv")
    assert set(read_table(tmp_path / "s.csv").column("percentile").numbers) == {50.0}


def test_a_mass_is_at_most_1_though_one_noise_tells_more() -> None:
    alike, shape = np.full((1, 2, 2), 77, np.uint8), (1, 2, 2)
    masses = torch.full((256, 1, 1, 1), 1e-9)
    masses[77] = 1
    y = pf.ImageDensity(pf.Flow(pf.Chain(), shape), masses=masses).latent(alike)
    assert y is not None
    likeliest = torch.distributions.Normal(torch.zeros(shape), y.square().mean().sqrt().float() * torch.ones(shape))
    density = pf.ImageDensity(pf.Flow(pf.Chain(), shape, likeliest), masses=masses)
    assert density.log_prob(alike).tolist() == [0.0]
    assert str(density.bits_per_dim(alike).item()) == "0.0"


def test_labels_that_are_whole_floats_are_classes() -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8)).astype(np.uint8)
    how = {"recipe": "glow", "model": {"depth": 1, "width": 4}, "steps": 1, "progress": "none"}
    assert pf.fit_images(images, np.arange(30) % 2.0, **how).space.classes == ("0", "1")
    with pytest.raises(ValueError, match="whole numbers from 0"):
        pf.fit_images(images, np.where(np.arange(30) > 3, np.nan, 1.0), **how)


def test_names_are_shown_whatever_they_hold() -> None:
    assert shown("a\ud800\n") == r"a\ud800\n"
    assert shown("ünï") == "ünï"
