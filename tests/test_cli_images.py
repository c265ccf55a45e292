"""The command line on images: fit, score, sample, info, plot, check; and options that do not fit."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pushforward as pf
from commands import bad, good, run
from pushforward.cli import on_images, options
from pushforward.cli.output import ThrottledProgress
from pushforward.io.images import read_images
from pushforward.io.tables import read_table
from pushforward.recipes import IMAGE_RECIPES


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of grey images, whose left or right half is bright."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(80):
        image = rng.normal(60, 12, (8, 8))
        name = "left" if i % 2 else "right"
        image[:, :4] += 110 * (name == "left")
        image[:, 4:] += 110 * (name == "right")
        path = folder / name / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)
    return folder


SMALL = ("--recipe", "glow", "--depth", 2, "--width", 6, "--steps", 80, "--progress", "none")


@pytest.fixture(scope="module")
def fitted(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    return path, good("fit", pictures, "--out", path, "--by-class", *SMALL)


def test_fit_tells_bits_of_images_held_out(fitted: tuple[Path, dict[str, Any]]) -> None:
    _, figures = fitted
    assert figures["classes"] == ["left", "right"]
    assert (figures["rows"], figures["test_rows"], figures["steps"]) == (80, 8, 80)
    assert 4 < figures["test_bits"] < figures["pixels_bits"] < 9
    assert figures["verdict"] in ("good", "doubtful")
    assert figures["gain"] == pytest.approx(figures["pixels_bits"] - figures["test_bits"])


def test_all_figures_of_images_are_bits_per_dimension(pictures: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    small = [*SMALL[:-4], "--steps", 20]
    result = run("fit", pictures, "--out", model, *small, "--progress", "plain")
    assert result.exit_code == 0, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("pass "))
    told = re.search(r"train (\S+)  validation (\S+) bits per dimension ", line)
    assert told is not None
    assert 4 < float(told[2]) < float(told[1]) + 1 < 10
    assert "nats" not in result.output + run("info", model).output


def test_score_writes_a_line_for_each_file(fitted: tuple[Path, dict[str, Any]], pictures: Path, tmp_path: Path) -> None:
    figures = good("score", fitted[0], pictures, "--out", tmp_path / "scores.csv", "--outlier")
    table = read_table(tmp_path / "scores.csv")
    assert list(table.names) == ["file", "class", "log_mass", "bits_per_dim", "percentile"]
    bits = table.model_matrix(["bits_per_dim"])[:, 0]
    assert len(bits) == figures["rows"] == 80
    assert figures["bits"] == pytest.approx(bits.mean(), abs=1e-5)
    one = tmp_path / "one"
    (one / "left").mkdir(parents=True)
    some = sorted((pictures / "left").iterdir())[:3]
    for path in some:
        (one / "left" / path.name).write_bytes(path.read_bytes())
    good("score", fitted[0], one, "--out", tmp_path / "one.csv")  # a single subfolder of a known name is a class
    every = {row["file"].rsplit("/", 1)[-1]: row["log_mass"] for row in lines(tmp_path / "scores.csv")}
    for row in lines(tmp_path / "one.csv"):
        assert row["class"] == "left"
        assert float(row["log_mass"]) == pytest.approx(float(every[row["file"].rsplit("/", 1)[-1]]), abs=2e-3)


def test_score_says_what_was_scored(fitted: tuple[Path, dict[str, Any]], pictures: Path, tmp_path: Path) -> None:
    result = run("score", fitted[0], pictures, "--given", "left", "--out", tmp_path / "s.csv")
    assert result.exit_code == 0, result.output
    assert "all are scored as images of the class left" in result.output
    assert f"held out then have {fitted[1]['test_bits']:.4f} bits per dimension" in " ".join(result.output.split())
    rows = lines(tmp_path / "s.csv")
    assert {row["scored_as"] for row in rows} == {"left"}
    assert {row["class"] for row in rows} == {"left", "right"}
    result = run("score", fitted[0], pictures / "left", "--out", tmp_path / "t.csv")
    assert "held out then" not in result.output
    flow = tmp_path / "flow.safetensors"
    pf.save(pf.real_nvp(1), flow)
    for command in ("score", "check", "plot"):
        data = ["--data", pictures] if command == "plot" else [pictures]
        out = [] if command == "check" else ["--out", tmp_path / "out.csv"]
        assert f"{pictures} holds images, and {flow} is no model of images" in bad(command, flow, *data, *out)


def lines(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_images_without_classes_are_scored_over_all_of_them(
    fitted: tuple[Path, dict[str, Any]], pictures: Path, tmp_path: Path
) -> None:
    left = pictures / "left"
    of = {}
    for name in ("left", "right"):
        good("score", fitted[0], left, "--given", name, "--out", tmp_path / f"{name}.csv")
        of[name] = np.array([float(row["log_mass"]) for row in lines(tmp_path / f"{name}.csv")])
    good("score", fitted[0], left, "--out", tmp_path / "all.csv")
    rows = lines(tmp_path / "all.csv")
    assert [row["likeliest_class"] for row in rows].count("left") > 0.9 * len(rows)
    mean = np.logaddexp(of["left"], of["right"]) - np.log(2)
    assert np.allclose([float(row["log_mass"]) for row in rows], mean, atol=2e-3)
    assert "unknown class 'up'" in bad("score", fitted[0], left, "--given", "up", "--out", tmp_path / "s.csv")
    (tmp_path / "t.csv").write_text("a\n1\n")
    flow = tmp_path / "flow.safetensors"
    pf.save(pf.real_nvp(1), flow)
    assert "--given is an option for images" in bad(
        "score", flow, tmp_path / "t.csv", "--given", "up", "--out", tmp_path / "s.csv"
    )


def test_what_is_converted_or_of_another_size_is_told(fitted: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / "colour.png")
    result = run("score", fitted[0], tmp_path / "colour.png", "--out", tmp_path / "s.csv")
    assert result.exit_code == 0, result.output
    assert "1 of 1 images: RGB converted to L" in result.output
    Image.fromarray(np.full((8, 9), 200, np.uint8)).save(tmp_path / "wide.png")
    message = bad("score", fitted[0], tmp_path / "wide.png", "--out", tmp_path / "s.csv")
    assert "wide.png is 8 x 9 (height x width), the images that are expected are 8 x 8" in message


def test_a_checkpoint_is_of_one_model_and_its_images(pictures: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "m.safetensors")
    kept = ("--steps", 130, "--checkpoint", tmp_path / "kept")  # a pass is 128 steps
    good("fit", pictures, *out, *SMALL, "--by-class", *kept)
    message = bad("fit", pictures, *out, *SMALL, *kept)
    assert "other settings: the list of classes was ['left', 'right'], now []; other data. Give" in message
    assert "another folder as --checkpoint" in message
    fewer = tmp_path / "fewer"
    for path in sorted(pictures.rglob("*.png"))[:60]:
        (fewer / path.parent.name).mkdir(parents=True, exist_ok=True)
        (fewer / path.parent.name / path.name).write_bytes(path.read_bytes())
    assert "; other data. Give the same" in bad("fit", fewer, *out, *SMALL, "--by-class", *kept)
    result = run("fit", pictures, *out, *SMALL, "--by-class", *kept)
    assert "resuming" in result.stdout


def test_an_interruption_before_the_first_validation_writes_nothing(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.safetensors"
    out.write_bytes(b"a good model")

    def interrupted(*args: Any, **settings: Any) -> pf.ImageDensity:
        density = pf.ImageDensity(pf.glow((1, 8, 8), depth=1, width=4))
        density.training_summary = {"steps": 0, "seconds": 0.0, "stopped": "interrupted"}
        return density

    monkeypatch.setattr(on_images, "fit_images", interrupted)
    result = run("fit", pictures, "--out", out, *SMALL)
    assert result.exit_code == 130
    assert "before the first validation: nothing is written" in result.output
    assert out.read_bytes() == b"a good model"


def test_sample_writes_grids_folders_and_arrays(fitted: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    model = fitted[0]
    good("sample", model, "-n", 10, "--given", "left", "--out", tmp_path / "grid.png", "--seed", 0)
    assert read_images(tmp_path / "grid.png").images.shape == (1, 3 * 66 + 2, 4 * 66 + 2)
    good("sample", model, "-n", 6, "--given", "left", "--out", tmp_path / "a.npy", "--temperature", 0.7, "--seed", 0)
    images = np.load(tmp_path / "a.npy").astype(float)
    assert images.shape == (6, 8, 8)
    assert images[:, :, :4].mean() > images[:, :, 4:].mean() + 40
    assert good("sample", model, "-n", 6, "--given", "all", "--out", tmp_path / "folder")["rows"] == 6
    assert sorted(str(p.relative_to(tmp_path / "folder")) for p in (tmp_path / "folder").rglob("*.png")) == [
        f"{name}/{i}.png" for name in ("left", "right") for i in range(3)
    ]
    good("score", model, tmp_path / "folder", "--out", tmp_path / "s.csv")
    assert "say which, as --given left" in bad("sample", model, "--out", tmp_path / "b.png")
    assert "unknown class 'up'" in bad("sample", model, "--given", "up", "--out", tmp_path / "b.png")
    assert "b.txt" in bad("sample", model, "--given", "left", "--out", tmp_path / "b.txt")


def test_info_and_plot(fitted: tuple[Path, dict[str, Any]], pictures: Path, tmp_path: Path) -> None:
    result = run("info", fitted[0])
    assert result.exit_code == 0, result.output
    assert "images of glow (2 depth, 6 width)" in result.stdout
    assert "grey images of 8 x 8" in result.stdout
    assert "bits per dimension" in result.stdout
    drawn = good("plot", fitted[0], "--data", pictures, "--out", tmp_path / "plots")["pictures"]
    names = {Path(path).name for path in drawn}
    assert names == {"samples.png", "data.png", "interpolation.png", "scales.png", "history.png"}
    folder = tmp_path / "some"
    folder.mkdir()
    for path in sorted(pictures.rglob("*.png"))[:8]:
        (folder / path.parent.name).mkdir(exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    (folder / path.parent.name / "bad.png").write_bytes(b"nothing")
    again = ("plot", fitted[0], "--data", folder, "--out", tmp_path / "again")
    assert "bad.png: it is corrupt" in bad(*again)
    assert len(good(*again, "--skip-bad-rows")["pictures"]) == 5


def test_check_takes_the_images_held_out(fitted: tuple[Path, dict[str, Any]], pictures: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.safetensors"
    pf.save(pf.ImageDensity(pf.glow((1, 36, 32), depth=1, width=4)), large)
    assert "check takes images of at most 1,024 bytes, these have 1,152" in bad("check", large, pictures)
    page = tmp_path / "page.html"
    result = run("check", fitted[0], pictures, "--max-rows", 40, "--html", page)
    assert result.exit_code == 0, result.output
    assert "the 8 held out then are checked" in result.stdout
    assert "Held-out likelihood" in result.stdout
    assert "held-out images" in result.stdout
    assert re.search(r"^files       least likely: \S+\.png, \S+\.png", result.stdout, re.MULTILINE)
    html = page.read_text()
    assert "Held-out images beside samples." in html
    for text in (result.stdout, re.sub("<style>.*</style>|<[^>]*>", "", html, flags=re.DOTALL)):
        assert not re.search(r"\b(rows?|columns?)\b", text, re.IGNORECASE), text


def test_check_takes_a_class_and_tells_when_nothing_is_held_out(
    fitted: tuple[Path, dict[str, Any]], pictures: Path
) -> None:
    left = pictures / "left"
    result = run("check", fitted[0], left, "--train", left, "--given", "left", "--max-rows", 40)
    assert result.exit_code == 0, result.output
    assert f"warning: {left} is given as held-out and as training data: all figures are too good" in result.stderr
    text = " ".join(result.stdout.split())
    assert (
        "100 % of the held-out images are training images: all figures are too good, likely because the same images"
        in text
    )
    assert "64 pixels" in text  # 8 x 8 means of blocks are pixels of images that small
    assert "block" not in text
    assert "unknown class 'up'" in bad("check", fitted[0], left, "--given", "up")


def test_a_model_of_one_class_draws_whole_images(tmp_path: Path) -> None:
    model = tmp_path / "one.safetensors"
    density = pf.ImageDensity(pf.glow((1, 8, 8), depth=1, width=4, context_dim=1, seed=0), classes=["only"])
    pf.save(density, model)
    good("sample", model, "-n", 3, "--given", "all", "--seed", 0, "--out", tmp_path / "folder")
    good("sample", model, "-n", 3, "--given", "all", "--seed", 0, "--out", tmp_path / "drawn.npy")
    expected = density.sample(3, "only", generator=0).numpy()
    assert np.array_equal(np.load(tmp_path / "drawn.npy"), expected)
    assert np.array_equal(read_images(tmp_path / "folder").images, expected)


def test_names_of_classes_never_lead_out_of_the_folder(tmp_path: Path) -> None:
    names = ["..", "../up", "a/b", "/abs", "50%", "", "C:x", "v1.0", "x.png", "plain"]
    model = tmp_path / "m.safetensors"
    density = pf.ImageDensity(pf.glow((1, 8, 8), depth=1, width=4, context_dim=len(names), seed=0), classes=names)
    pf.save(density, model)
    good("sample", model, "-n", 10, "--given", "all", "--seed", 0, "--out", tmp_path / "inside" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"m.safetensors", "inside"}
    assert [path.name for path in (tmp_path / "inside").iterdir()] == ["out"]
    folders = list((tmp_path / "inside" / "out").iterdir())
    assert len(folders) == len(names)
    assert all([path.name for path in folder.iterdir()] == ["0.png"] for folder in folders)
    scores = tmp_path / "s.csv"
    good("score", model, tmp_path / "inside" / "out", "--out", scores)  # the classes are known again
    assert sorted(row["class"] for row in lines(scores)) == sorted(names)


def test_one_image_has_no_standard_error(fitted: tuple[Path, dict[str, Any]], pictures: Path, tmp_path: Path) -> None:
    one = next((pictures / "left").iterdir())
    score = ("score", fitted[0], one, "--given", "left", "--out", tmp_path / "s.csv")
    result = run(*score)
    assert re.search(r"1 image: \d\.\d{4} bits per dimension$", result.stdout, re.MULTILINE), result.output
    assert good(*score)["se"] is None
    flow = tmp_path / "flow.safetensors"
    pf.save(pf.real_nvp(1), flow)
    (tmp_path / "t.csv").write_text("x0\n1.5\n")
    result = run("score", flow, tmp_path / "t.csv", "--out", tmp_path / "t_scores.csv")
    assert result.exit_code == 0
    assert "+-" not in result.output


@pytest.mark.parametrize("quantiles", [None, [], [1.0, None, 2.0], "many"])
def test_outliers_need_quantiles(tmp_path: Path, quantiles: Any) -> None:
    model, images = tmp_path / "m.safetensors", tmp_path / "images.npy"
    pf.save(pf.ImageDensity(pf.glow((1, 8, 8), depth=1, width=4)), model, training={"quantiles": quantiles})
    np.save(images, np.zeros((3, 8, 8), np.uint8))
    message = bad("score", model, images, "--outlier", "--out", tmp_path / "s.csv")
    assert "keeps no quantiles of held-out log-densities to rank images among" in message


def test_a_process_of_its_own_knows_images(fitted: tuple[Path, dict[str, Any]]) -> None:
    out = subprocess.run([sys.executable, "-m", "pushforward", "info", fitted[0]], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr


def test_options_that_do_not_fit(pictures: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "m.safetensors")
    assert "--kinds is an option for tables" in bad("fit", pictures, *out, "--kinds", "a=real")
    assert "--recipe real_nvp is for tables" in bad("fit", pictures, *out, "--recipe", "real_nvp")
    assert "takes no --bins, as --recipe patch_flow or multiscale_spline_flow would" in bad(
        "fit", pictures, *out, "--recipe", "glow", "--bins", 4
    )
    usage = run("fit", pictures, *out, "--widths", "8;8")
    assert usage.exit_code == 2
    assert "expected whole numbers with commas between, such as 32,64, got '8;8'" in usage.output
    assert "has no classes" in bad("fit", pictures / "left", *out, "--by-class")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n" * 30)
    assert "--encoding is an option for tables" in bad("fit", pictures, *out, "--encoding", "latin-1")
    assert "--widths is an option for images" in bad("fit", tmp_path / "t.csv", *out, "--widths", "8,8")
    assert "--pad is an option for images" in bad("fit", tmp_path / "t.csv", *out, "--pad")
    assert "--channels-last is an option for images" in bad("fit", tmp_path / "t.csv", *out, "--channels-last")
    assert "glow is for images" in bad("fit", tmp_path / "t.csv", *out, "--recipe", "glow")
    few = tmp_path / "few.npy"
    np.save(few, np.zeros((5, 8, 8), np.uint8))
    assert "has 5 images; at least 25 are needed" in bad("fit", few, *out)
    assert set(options.IMAGE_RECIPES) == set(IMAGE_RECIPES)


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("score DATA --out OUT", "--encoding latin-1", "--encoding is an option for tables that are read from a file"),
        ("score DATA --out OUT", "--no-header", "--header is an option for tables that are read from a file"),
        ("check DATA", "--delimiter ;", "--delimiter is an option for tables that are read from a file"),
        ("sample --given all --out OUT", "--encoding utf-8", "--encoding is an option for tables"),
        ("sample --given all --out OUT", "--skip-bad-rows", "--skip-bad-rows is an option for data that are read"),
        ("plot --out OUT", "--skip-bad-rows", "none are read without --data"),
        ("plot --data DATA --out OUT", "--header", "--header is an option for tables that are read from a file"),
        ("plot --out OUT", "--x a", "--x is an option for tables, and"),
        ("plot --out OUT", "--x a --y b", "--x and --y are options for tables, and"),
    ],
)
def test_no_option_is_ignored(
    fitted: tuple[Path, dict[str, Any]], pictures: Path, tmp_path: Path, command: str, options: str, message: str
) -> None:
    name, *rest = command.replace("DATA", str(pictures)).replace("OUT", str(tmp_path / "out.csv")).split()
    assert message in bad(name, fitted[0], *rest, *options.split())
    assert not list(tmp_path.iterdir())


def test_options_of_reading_need_something_to_read(tmp_path: Path) -> None:
    flow = tmp_path / "flow.safetensors"
    pf.save(pf.real_nvp(1), flow)
    out = ("--out", tmp_path / "out.csv")
    assert "none is read without --given" in bad("sample", flow, *out, "--delimiter", ";")
    assert "none are read without --data" in bad("plot", flow, *out, "--skip-bad-rows")
    assert "--temperature is an option for images" in bad("sample", flow, *out, "--temperature", 0.5)


def test_arrays_are_not_converted(fitted: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = ("--out", tmp_path / "m.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "grey.npy", images)
    np.save(tmp_path / "colour.npy", np.stack([images] * 3, 3))
    assert "holds grey images, expected colour ones" in bad("fit", tmp_path / "grey.npy", *out, "--mode", "RGB")
    assert "holds colour images, expected grey ones" in bad("fit", tmp_path / "colour.npy", *out, "--mode", "L")
    assert "expected grey ones" in bad("score", fitted[0], tmp_path / "colour.npy", "--out", tmp_path / "s.csv")
    np.save(tmp_path / "wide.npy", np.zeros((4, 8, 9), np.uint8))
    assert "of 8 x 9 (height x width), expected 8 x 8" in bad(
        "score", fitted[0], tmp_path / "wide.npy", "--out", tmp_path / "s.csv"
    )
    good("fit", tmp_path / "grey.npy", *out, "--mode", "L", *SMALL[:-4], "--steps", 2, "--progress", "none")


def test_corrupt_files_are_skipped_on_request(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    for i, path in enumerate(sorted(pictures.rglob("*.png"))[:40]):
        (folder / f"{i}.png").write_bytes(path.read_bytes())
    (folder / "bad.png").write_bytes(b"nothing")
    out = ("--out", tmp_path / "m.safetensors")
    assert "bad.png: it is corrupt" in bad("fit", folder, *out, *SMALL)
    assert not (tmp_path / "m.safetensors").exists()
    figures = good("fit", folder, *out, *SMALL[:-4], "--steps", 2, "--progress", "none", "--skip-bad-rows")
    assert (figures["rows"], figures["skipped_rows"]) == (40, 1)


def test_messages_name_options(pictures: Path, tmp_path: Path) -> None:
    for source in pictures.glob("*/*.png"):
        with Image.open(source) as image:
            image.resize((7, 7)).save(tmp_path / source.name)
    message = bad("fit", tmp_path, "--out", tmp_path / "m.safetensors", *SMALL)
    assert "pad them, as by --pad" in message
    with Image.open(tmp_path / "0.png") as image:
        image.convert("RGB").save(tmp_path / "0.png")
    message = bad("fit", tmp_path, "--out", tmp_path / "m.safetensors", *SMALL)
    assert "as grey (--mode L) or in colour (--mode RGB)" in message


def test_a_plot_of_classes_takes_data_without_them(fitted: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    np.save(tmp_path / "new.npy", np.full((6, 8, 8), 0.5, np.float32))
    result = run("plot", fitted[0], "--data", tmp_path / "new.npy", "--out", tmp_path / "drawn")
    assert result.exit_code == 0, result.output
    assert "has no classes, which this model needs: samples are drawn in its place" in " ".join(result.stdout.split())
    assert (tmp_path / "drawn" / "interpolation.png").exists()
    bad("plot", fitted[0], "--data", tmp_path / "nothing", "--out", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("count", "columns", "rows"), [(6, 3, 2), (10, 3, 4), (64, 8, 8), (200, 15, 14)])
def test_a_grid_has_rows_for_each_class(
    fitted: tuple[Path, dict[str, Any]], tmp_path: Path, count: int, columns: int, rows: int
) -> None:
    good("sample", fitted[0], "-n", count, "--given", "all", "--out", tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert columns * 66 + 2 < image.size[0] < (columns + 1.5) * 66  # with the names of the classes to the left
        assert image.size[1] == rows * 66 + 2


def test_long_work_is_told_and_short_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    ThrottledProgress("checking", 60.0)("tails")
    ThrottledProgress("checking", 0.0)("columns")
    assert capsys.readouterr().err == "checking: columns ...\n"


def test_a_check_names_images_by_their_number_in_the_file(pictures: Path, tmp_path: Path) -> None:
    data = read_images(pictures)
    path = tmp_path / "all.npy"
    np.save(path, data.images)
    good("fit", path, "--out", tmp_path / "m.safetensors", *SMALL)
    report = good("check", tmp_path / "m.safetensors", path)
    named = [each["row"] for each in report["sections"]["tails"]["figures"]["least_likely"]]
    assert set(named) <= set(on_images._split(80)[0].tolist())


def test_pictures_are_not_written_among_the_data(fitted: tuple[Path, dict[str, Any]], pictures: Path) -> None:
    assert "choose another" in bad("plot", fitted[0], "--data", pictures, "--out", pictures / "plots")
    assert not (pictures / "plots").exists()
