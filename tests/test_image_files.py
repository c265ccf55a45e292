"""Files of images: folders, arrays, idx; and whatever may be wrong with them."""

from __future__ import annotations

import gzip
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pushforward.io import decode
from pushforward.io.image_writer import grid, write_images
from pushforward.io.images import is_images, read_images
from pushforward.io.tables import open_table


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save(path: Path, array: np.ndarray, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **how)
    return path


def folder_of(path: Path, count: int = 4, shape: tuple[int, ...] = (6, 8)) -> np.ndarray:
    images = pixels(count, *shape)
    for i, image in enumerate(images):
        save(path / f"{i}.png", image)
    return images


def test_a_folder_of_grey_or_coloured_pictures(tmp_path: Path) -> None:
    grey = folder_of(tmp_path / "grey")
    data = read_images(tmp_path / "grey")
    assert np.array_equal(data.images, grey)
    assert data.labels is None
    assert len(data) == len(data.paths) == 4
    colour = folder_of(tmp_path / "colour", shape=(6, 8, 3))
    assert np.array_equal(read_images(tmp_path / "colour").images, colour)
    assert read_images(tmp_path / "colour" / "2.png").images.shape == (1, 6, 8, 3)
    assert is_images(tmp_path / "grey")
    assert not is_images(tmp_path / "nothing")


def test_subfolders_are_classes(tmp_path: Path) -> None:
    dogs, cats = folder_of(tmp_path / "dog", 2), folder_of(tmp_path / "cat", 3)
    save(tmp_path / "dog" / "more" / "x.jpg", dogs[0], quality=100)
    data = read_images(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(data.images[:3], cats)
    assert np.array_equal(data.images[3:5], dogs)
    save(tmp_path / "stray.png", dogs[0])
    assert read_images(tmp_path).labels is None  # not all are in subfolders


def test_one_subfolder_is_a_class_where_its_name_is_known(tmp_path: Path) -> None:
    folder_of(tmp_path / "cat", 3)
    assert read_images(tmp_path).labels is None
    assert read_images(tmp_path, classes=("dog",)).labels is None
    data = read_images(tmp_path, classes=("cat", "dog"))
    assert (data.classes, data.labels.tolist()) == (("cat",), [0, 0, 0])  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"is 6 x 8 .*, the images that are expected are 8 x 8"):
        read_images(tmp_path, size=(8, 8))


def test_pictures_that_differ_are_named(tmp_path: Path) -> None:
    folder_of(tmp_path)
    save(tmp_path / "other.png", pixels(7, 8))
    with pytest.raises(ValueError, match=r"other\.png is 7 x 8 \(height x width\), most images here are 6 x 8"):
        read_images(tmp_path)
    save(tmp_path / "other.png", pixels(6, 8, 3))
    with pytest.raises(ValueError, match=r"other\.png is in colour, 4 others are grey: read all of them as grey"):
        read_images(tmp_path)
    assert read_images(tmp_path, mode="RGB").images.shape == (5, 6, 8, 3)
    data = read_images(tmp_path, mode="L")
    assert data.images.shape == (5, 6, 8)
    assert data.notes == ["1 of 5 images: RGB converted to L"]
    with pytest.raises(ValueError, match="mode must be L, RGB or None"):
        read_images(tmp_path, mode="CMYK")
    data = read_images(tmp_path, skip_bad=True)
    assert len(data) == 4
    assert [Path(name).name for name in data.skipped] == ["other.png"]


@pytest.mark.parametrize("how", ["text", "cut"])
def test_corrupt_files_are_named_or_skipped_and_counted(tmp_path: Path, how: str) -> None:
    images = folder_of(tmp_path)
    bad = tmp_path / "1.png"
    bad.write_bytes(b"no picture" if how == "text" else bad.read_bytes()[:80])
    with pytest.raises(ValueError, match=r"1\.png: it is corrupt: [^<]*$"):
        read_images(tmp_path)
    save(tmp_path / "other.png", pixels(7, 8))
    data = read_images(tmp_path, skip_bad=True)
    assert data.skipped == [str(bad), str(tmp_path / "other.png")]
    assert np.array_equal(data.images, images[[0, 2, 3]])
    for path in tmp_path.iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="none of 5 images can be read"):
        read_images(tmp_path, skip_bad=True)


def test_palettes_and_opaque_alpha_are_converted_and_told(tmp_path: Path) -> None:
    colours = pixels(6, 8, 3)
    (tmp_path / "p").mkdir()
    Image.fromarray(colours).quantize(16).save(tmp_path / "p" / "0.png")
    data = read_images(tmp_path / "p")
    assert data.images.shape == (1, 6, 8, 3)
    assert data.notes == ["1 of 1 images: palette converted to RGB"]
    opaque = np.concatenate([colours, np.full((6, 8, 1), 255, np.uint8)], 2)
    save(tmp_path / "a" / "0.png", opaque)
    data = read_images(tmp_path / "a")
    assert np.array_equal(data.images[0], colours)
    assert data.notes == ["1 of 1 images: an opaque alpha channel was left out"]
    opaque[3, 3, 3] = 7
    save(tmp_path / "a" / "0.png", opaque)
    with pytest.raises(ValueError, match=r"0\.png: it has transparent pixels"):
        read_images(tmp_path / "a")


def test_16_bits_and_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "deep" / "0.png", pixels(6, 8).astype(np.uint16) * 200)
    with pytest.raises(ValueError, match=r"0\.png: it has more than 8 bits a channel"):
        read_images(tmp_path / "deep")
    with pytest.raises(ValueError, match="none of 1 images can be read"):
        read_images(tmp_path / "deep", skip_bad=True)
    folder_of(tmp_path / "bomb")
    monkeypatch.setattr(decode, "MOST_PIXELS", 40)
    with pytest.raises(ValueError, match=r"0\.png: it has 48 pixels, at most 40"):
        read_images(tmp_path / "bomb")


def test_empty_and_missing_sources(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no images: expected files ending in \.png.*; it holds no files"):
        read_images(tmp_path)
    folder_of(tmp_path / "others", 2)
    for path in list((tmp_path / "others").iterdir()):
        path.rename(path.with_suffix(".bmp"))
    with pytest.raises(ValueError, match=r"it holds 2 \.bmp"):
        read_images(tmp_path)
    with pytest.raises(ValueError, match=r"Parquet files \(\.parquet\), or images \(\.png, .*it holds 2 \.bmp"):
        open_table(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_images(tmp_path / "nothing.npy")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"expected a folder of"):
        read_images(tmp_path / "a.txt")


def test_without_pillow_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pushforward\[images\]"):
        read_images(tmp_path)


def test_many_files_are_decoded_by_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = folder_of(tmp_path, 9)
    (tmp_path / "7.png").write_bytes((tmp_path / "7.png").read_bytes()[:80])
    monkeypatch.setattr(decode, "MANY", 4)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with pytest.raises(ValueError, match=r"7\.png: it is corrupt"):
        read_images(tmp_path)
    data = read_images(tmp_path, skip_bad=True, in_memory=10)
    assert np.array_equal(data.images, images[[0, 1, 2, 3, 4, 5, 6, 8]])


def test_what_memory_does_not_hold_is_mapped_from_a_file(tmp_path: Path) -> None:
    images = folder_of(tmp_path)
    data = read_images(tmp_path, in_memory=10)
    assert isinstance(data.images, np.memmap)
    assert np.array_equal(data.images, images)


def test_a_part_stays_where_the_images_are(tmp_path: Path) -> None:
    images, labels = pixels(5, 6, 8), np.array([1, 0, 1, 1, 0])
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    whole = read_images(tmp_path / "a.npz")
    part = whole.part(np.array([4, 2, 0])).part(np.array([0, 2]))
    assert part.images is whole.images
    assert len(part) == 2
    taken = part.taken()
    assert np.array_equal(taken.images, images[[4, 0]])
    assert taken.labels is not None
    assert taken.labels.tolist() == [0, 1]
    assert taken.taken() is taken


def test_arrays_and_their_labels(tmp_path: Path) -> None:
    images = pixels(5, 6, 8)
    np.save(tmp_path / "a.npy", images)
    assert np.array_equal(read_images(tmp_path / "a.npy").images, images)
    np.savez(tmp_path / "b.npz", x_train=images, y_train=np.array([3, 7, 3, 3, 7]), x_test=images)
    data = read_images(tmp_path / "b.npz")
    assert data.classes == ("3", "7")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 0, 0, 1]
    np.savez(tmp_path / "c.npz", first=images, second=images)
    with pytest.raises(ValueError, match="must hold one array of images, called images"):
        read_images(tmp_path / "c.npz")
    assert is_images(tmp_path / "c.npz")  # so that the command line says so, too
    np.savez(tmp_path / "i.npz", X=images[:, 0], first=images)
    assert not is_images(tmp_path / "i.npz")
    np.savez(tmp_path / "d.npz", images=images, labels=np.zeros(4, int))
    with pytest.raises(ValueError, match="expected 5 labels"):
        read_images(tmp_path / "d.npz")
    np.save(tmp_path / "e.npy", images.astype(int))
    assert "taken as bytes" in read_images(tmp_path / "e.npy").notes[0]
    np.save(tmp_path / "f.npy", pixels(5, 6))
    with pytest.raises(ValueError, match=r"f\.npy of shape \(N, H, W\)"):
        read_images(tmp_path / "f.npy")
    np.save(tmp_path / "g.npy", pixels(5, 6, 8, 4))
    with pytest.raises(ValueError, match="an alpha channel must be left out"):
        read_images(tmp_path / "g.npy")
    (tmp_path / "h.npy").write_bytes(b"damaged")
    for read in (read_images, open_table):
        with pytest.raises(ValueError, match=r"h\.npy is damaged(?!.*pickle)"):
            read(tmp_path / "h.npy")
    assert [
        is_images(tmp_path / f"{name}.np{end}") for name, end in (("a", "y"), ("b", "z"), ("e", "y"), ("f", "y"))
    ] == [
        True,
        True,
        True,
        False,
    ]


def test_only_headers_tell_whether_an_archive_holds_images(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "many.npz", a=np.zeros((3000, 100, 100), np.uint8), b=np.zeros(5))
    tracemalloc.start()
    assert is_images(tmp_path / "many.npz")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_with_the_labels_beside_them(tmp_path: Path, packed: bool) -> None:
    images, end = pixels(5, 6, 8), ".gz" if packed else ""
    pack = gzip.compress if packed else bytes
    path = tmp_path / f"train-images-idx3-ubyte{end}"
    path.write_bytes(pack(idx(images)))
    assert np.array_equal(read_images(path).images, images)
    (tmp_path / f"train-labels-idx1-ubyte{end}").write_bytes(pack(idx(np.array([4, 9, 4, 4, 9], np.uint8))))
    data = read_images(path)
    assert data.classes == ("4", "9")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 0, 0, 1]
    path.write_bytes(pack(idx(images)[:-3]))
    with pytest.raises(ValueError, match="is cut off: it says 5 x 6 x 8"):
        read_images(path)
    path.write_bytes(pack(idx(images) + b"xx"))
    with pytest.raises(ValueError, match="is too long: it says 5 x 6 x 8 and holds 242 bytes"):
        read_images(path)
    path.write_bytes(pack(idx(images)[:9]))
    with pytest.raises(ValueError, match=r"ubyte\S* is cut off: it holds 9 bytes, its header alone has 16"):
        read_images(path)
    path.write_bytes(b"\x1f\x8bxx" if packed else b"other")
    with pytest.raises(ValueError, match=r"is damaged|is no idx file"):
        read_images(path)


def test_rows_of_a_grid_have_their_names_beside_them(tmp_path: Path) -> None:
    images = np.zeros((6, 8, 8), np.uint8)
    for name, names in (("plain", ()), ("named", ("ants", "b" * 60))):
        write_images(images, images[:, None], tmp_path / f"{name}.png", 3, names)
    plain, named = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("plain", "named"))
    margin = named.shape[1] - plain.shape[1]
    assert 50 < margin < 600
    assert np.array_equal(named[:, margin:], plain)
    for half in np.array_split(named[:, :margin], 2):
        assert (half < 128).any()  # something is written beside each row


def test_a_grid_is_about_square() -> None:
    assert grid(pixels(10, 1, 8, 8)).shape == (1, 32, 42)
    picture = grid(pixels(3, 3, 4, 4), columns=3)
    assert picture.shape == (3, 8, 20)
    assert np.array_equal(picture[:, 2:6, 8:12], pixels(3, 3, 4, 4)[1])


def test_hidden_files_are_no_images_and_stray_ones_are_told(tmp_path: Path) -> None:
    for name in ("a", "b", ".ipynb_checkpoints"):
        folder_of(tmp_path / name)
    save(tmp_path / "a" / "._0.png", pixels(3, 3))
    data = read_images(tmp_path)
    assert (len(data), data.classes, data.notes) == (8, ("a", "b"), [])
    save(tmp_path / "stray.png", pixels(6, 8))
    stray = read_images(tmp_path)
    assert stray.labels is None
    assert "stray.png is in no subfolder, as 8 others are" in stray.notes[0]


def test_folders_that_are_parts_of_data_are_told(tmp_path: Path) -> None:
    for name in ("train", "test"):
        folder_of(tmp_path / name)
    assert "the classes are test, train: if these are parts of data" in read_images(tmp_path).notes[0]


def test_labels_of_one_column_or_of_whole_floats(tmp_path: Path) -> None:
    np.savez(tmp_path / "column.npz", images=pixels(4, 6, 8), labels=np.array([[0], [1], [1], [0]]))
    np.savez(tmp_path / "floats.npz", images=pixels(4, 6, 8), labels=np.array([0.0, 1.0, 1.0, 0.0]))
    for name in ("column", "floats"):
        data = read_images(tmp_path / f"{name}.npz")
        assert data.labels is not None
        assert (data.labels.tolist(), data.classes) == ([0, 1, 1, 0], ("0", "1"))
