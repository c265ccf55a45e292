"""The command line, as a user meets it: its options, `demo`, `fit`, `check`, `info` and `plot`."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from commands import TINY, bad, good, run, write_csv
from pushforward import cli
from pushforward.cli import options
from pushforward.recipes import IMAGE_RECIPES, RECIPES
from pushforward.toys import TOYS
from pushforward.training.settings import TrainSettings

NO_MODEL_ARGUMENT = {"context_dim", "standardize", "precondition", "seed", "columns"}
NO_OPTIONS = {"objective", "metric", "optimizer", "seed", "check"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of columns of several kinds, and a model of it."""
    folder = tmp_path_factory.mktemp("house")
    rng = np.random.default_rng(0)
    size = rng.normal(50, 5, 400)
    rows = [
        (f"n{i}", f"{x:.5f}", f"{1000 - 10 * x + rng.normal(0, 20):.4f}", rng.choice(["red", "blue"]), rng.integers(9),
         "" if rng.random() < 0.1 else f"2024-01-{rng.integers(1, 29):02d}")
        for i, x in enumerate(size)
    ]  # fmt: skip
    write_csv(folder / "data.csv", "name,a,b,colour,n,day", rows)
    good("fit", folder / "data.csv", "--out", folder / "model.safetensors", *TINY)
    return folder


def test_help_comes_at_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from pushforward.cli import main\n"
        "for args in (['--help'], ['fit', '--help'], ['--version']):\n"
        "    try: main(args)\n"
        "    except SystemExit as end: assert not end.code\n"
        "print(*({'torch', 'numpy', 'pyarrow', 'matplotlib', 'rich', 'safetensors'} & set(sys.modules)))"
    )
    started = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == ""
    assert time.perf_counter() - started < 3  # 0.1 s on a quiet machine; importing torch alone takes over a second
    assert "demo" in out.stdout
    assert "--hidden-layers" in out.stdout
    assert pf.__version__ in out.stdout


def test_python_m_pushforward() -> None:
    out = subprocess.run([sys.executable, "-m", "pushforward", "--help"], capture_output=True, text=True, check=True)
    assert "Usage:" in out.stdout


def arguments(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_options_are_the_arguments_of_the_library() -> None:
    assert set(options.RECIPES) == {"auto", *RECIPES}
    of_recipes = {name for make in RECIPES.values() for name in arguments(make)} - NO_MODEL_ARGUMENT
    assert set(options.MODEL_OPTIONS) == of_recipes
    of_images = {name for make in IMAGE_RECIPES.values() for name in arguments(make)} - NO_MODEL_ARGUMENT - of_recipes
    assert set(options.IMAGE_MODEL_OPTIONS) == of_images
    settings = {s.name: s.default for s in fields(TrainSettings) if s.name not in NO_OPTIONS}
    assert {name: default for name, (default, _, _) in options.TRAIN_OPTIONS.items()} == settings
    found = {p.name: p for p in cli.fit.params}
    assert {*options.MODEL_OPTIONS, *options.IMAGE_MODEL_OPTIONS, *options.TRAIN_OPTIONS} <= set(found)
    assert found["seed"].default == arguments(pf.train)["seed"]
    assert found["progress"].default == arguments(pf.fit)["progress"]


def test_options_that_are_not_given_are_left_to_the_library(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def fit(**arguments: Any) -> dict[str, Any]:
        seen.update(arguments)
        return {"stopped": "done"}

    monkeypatch.setattr("pushforward.cli.on_fit.fit", fit)
    good("fit", data, "--out", "m.safetensors")
    assert (seen["model"], seen["training"]) == ({}, {})
    good("fit", data, "--out", "m.safetensors", "--ema", 0, "--residual", "--bins", 3)
    assert (seen["model"], seen["training"]) == ({"residual": True, "bins": 3}, {"ema": 0.0})


def test_toys_are_those_of_the_library() -> None:
    assert sorted(cli.TOYS) == sorted(TOYS)


@pytest.mark.slow
def test_demo_writes_its_figures_and_pictures(tmp_path: Path) -> None:
    figures = good("demo", "--toy", "banana", "--steps", 15, "--out", tmp_path / "new" / "demo", "--progress", "none")
    wanted = "test_nll entropy gap gap_se train_seconds steps roundtrip_max logdet_max out"
    assert set(wanted.split()) <= set(figures)
    assert figures["steps"] == 15
    assert figures["gap"] == pytest.approx(figures["test_nll"] - figures["entropy"], abs=0.1)
    assert figures["gap"] > 0
    assert figures["roundtrip_max"] < 1e-3
    assert figures["logdet_max"] < 1e-3
    written = {p.name for p in Path(figures["out"]).iterdir()}
    pictures = {"four_panels.png", "density.png", "history.png", "warped_grid.png", "flow.gif"}
    assert written == pictures | {"model.safetensors"}
    again = pf.load(tmp_path / "new" / "demo" / "model.safetensors")
    assert again.shape == (2,)


def test_an_existing_demo_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is no folder" in bad("demo", "--out", tmp_path / "file", "--steps", 1)


@pytest.mark.slow
def test_fit_shows_the_schema_and_what_it_left_out(data: Path, tmp_path: Path) -> None:
    result = run("fit", data, "--out", tmp_path / "m.safetensors", *TINY)
    for text in ("400 rows", "2 values: ", "2024-01-01 to 2024-01-28", "missing cells", "360 rows to train", "verdict"):
        assert text in result.stdout
    assert "warning: column 'name' is left out: its text is unique in each row" in result.stderr
    figures = good("fit", data, "--out", tmp_path / "m.safetensors", *TINY, "--kinds", "n=category,a=positive")
    assert figures["kinds"]["n"] == "category"
    assert figures["kinds"]["a"] == "positive"
    assert figures["columns"] == ["a", "b", "colour", "n", "day"]
    assert (figures["train_rows"], figures["test_rows"]) == (360, 40)
    figures = good("fit", data, "--out", tmp_path / "m.safetensors", *TINY, "--columns", "a,n,b", "--drop", "n")
    assert figures["columns"] == ["a", "b"]


def test_loss_lines_go_to_stderr_and_leave_stdout_to_the_figures(data: Path, tmp_path: Path) -> None:
    result = run("fit", data, "--columns", "a,b", "--out", tmp_path / "loud.safetensors", *TINY[:-1], "plain")
    assert "step 20" in result.stderr
    assert "step 20" not in result.stdout
    assert "+-" in result.stdout


def test_fit_is_in_data_units_beside_a_gaussian(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal([5, -300], [0.01, 2000], (400, 2))
    np.save(tmp_path / "x.npy", x)
    figures = good("fit", tmp_path / "x.npy", "--out", tmp_path / "m.safetensors", *TINY)
    truth = -(1 + np.log(2 * np.pi) + np.log(0.01 * 2000))  # minus the entropy of the data
    assert figures["gaussian_log_density"] == pytest.approx(truth, abs=0.4)
    assert figures["test_log_density"] == pytest.approx(truth, abs=2)
    other = good("fit", tmp_path / "x.npy", "--out", tmp_path / "m.safetensors", *TINY, "--seed", 1)
    # The test rows stay the same, and so does the Gaussian but for its own noise.
    assert other["gaussian_log_density"] == pytest.approx(figures["gaussian_log_density"], abs=0.05)
    assert other["test_log_density"] != figures["test_log_density"]


def test_fit_of_several_members_is_scored_and_sampled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100, 2)))
    model = tmp_path / "m.safetensors"
    result = run("fit", tmp_path / "x.npy", "--out", model, *TINY, "--members", 2)
    assert result.exit_code == 0
    assert "2 times real_nvp" in result.stdout
    good("score", model, tmp_path / "x.npy", "--out", tmp_path / "scored.csv")
    good("sample", model, "-n", 5, "--out", tmp_path / "new.csv")
    assert run("fit", tmp_path / "x.npy", "--out", model, "--members", 0).exit_code == 2


def test_fit_says_which_is_better(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "two.npy", np.where(rng.random(600) < 0.5, -5, 5) + rng.normal(0, 0.3, 600))
    args = ["fit", tmp_path / "two.npy", "--out", tmp_path / "m.safetensors", *TINY, "--steps", 400, "--lr", 0.03]
    figures = good(*args)
    assert figures["test_log_density"] > figures["gaussian_log_density"] + 0.5
    np.save(tmp_path / "six.npy", rng.normal(size=(1000, 6)) @ rng.normal(size=(6, 6)))
    args = ["fit", tmp_path / "six.npy", "--out", tmp_path / "m.safetensors", *TINY, "--lr", 1]
    figures = good(*args, "--steps", 3, "--ema", 0)
    assert figures["gain"] < 0
    assert "behind" in figures["answers"]["ranking"]["why"]
    stacked = good(*args, "--steps", 3, "--ema", 0, "--stack")
    assert stacked["gain"] > -0.1
    assert sum(stacked["stack"].values()) == pytest.approx(1)
    assert stacked["stack"]["flow"] < 0.5


def test_options_of_a_recipe_and_lengths_are_checked(data: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "m.safetensors", *TINY]
    assert "at most one of" in bad("fit", data, *out, "--seconds", 5)
    assert "seconds must be None or a positive finite number, got 0" in bad("fit", data, *out[:2], "--seconds", 0)
    assert "batch_growth must be None or a power of 2" in bad("fit", data, *out, "--batch-growth", 3)
    assert "--bins is an option of spline_flow" in bad("fit", data, *out, "--recipe", "real_nvp", "--bins", 4)
    spline = good("fit", data, *out, "--recipe", "spline_flow", "--bins", 4, "--columns", "a,b")
    assert good("info", spline["out"])["recipe"]["arguments"]["bins"] == 4
    assert "--columns must name" in bad("fit", data, *out, "--columns", "")
    assert "no column 'z'; it has 'name', 'a'" in bad("fit", data, *out, "--given", "a", "--columns", "a,z")
    assert "unknown kind 'salad'; expected one of" in bad("fit", data, *out, "--kinds", "a=salad")
    assert "got 'a'" in bad("fit", data, *out, "--kinds", "a")
    assert "two kinds of 'a': real and integer" in bad("fit", data, *out, "--kinds", "a=real,a=integer")
    assert run("fit", data).exit_code == 2
    assert run("fit", data, *out, "--recipe", "salad").exit_code == 2
    assert run("nonsense").exit_code == 2


def test_a_name_with_a_comma_is_quoted(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", '"a, b",c', np.random.default_rng(0).normal(size=(40, 2)))
    args = ["fit", tmp_path / "x.csv", "--out", tmp_path / "m.safetensors", *TINY]
    assert good(*args, "--columns", 'c, "a, b"')["columns"] == ["a, b", "c"]


@pytest.mark.parametrize(
    "where", ["file/m.safetensors", "file/deeper/m.safetensors", "folder.safetensors", "m.pt", "m"]
)
def test_a_place_that_cannot_be_written_is_told_before_any_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.safetensors").mkdir()
    monkeypatch.setattr("pushforward.cli.on_fit.fit_table", lambda *args, **kwargs: pytest.fail("trained in vain"))
    bad("fit", data, "--out", tmp_path / where, *TINY)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder.safetensors"]


def test_new_folders_are_made(data: Path, tmp_path: Path) -> None:
    good("fit", data, "--columns", "a", "--out", tmp_path / "a" / "b" / "m.safetensors", *TINY)
    assert (tmp_path / "a" / "b" / "m.safetensors").is_file()


@pytest.mark.parametrize("in_the_masses", [True, False])
def test_ctrl_c_keeps_the_best_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_the_masses: bool
) -> None:
    from pushforward.training import run as training_run

    def interrupt(self: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(training_run.Run, "elapsed", interrupt)
    out = tmp_path / "m.safetensors"
    figures = good("fit", data, "--columns", "a,b,colour,n" if in_the_masses else "a,b", "--out", out, *TINY, code=130)
    assert figures["stopped"] == "interrupted"
    assert np.isfinite(figures["test_log_density"])
    assert pf.load(out).training_summary["stopped"] == "interrupted"
    assert "interrupted" in run("info", out).stdout


@pytest.mark.slow
def test_ctrl_c_before_the_training_writes_nothing(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pushforward", "fit", data, "--out", tmp_path / "m.safetensors", "--seconds", "60"]
    with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:  # stops it where the training begins, or soon after
            if line.startswith("split"):
                break
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    # 130, or where an exec of a string was interrupted in an import, Python ends itself by the signal: 130 to shells.
    assert process.returncode in (130, -signal.SIGINT), err
    assert "Traceback" not in err
    assert (tmp_path / "m.safetensors").exists() == ("written" in rest)


def test_errors_that_ctrl_c_became_in_an_import_are_interruptions(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        try:
            raise KeyboardInterrupt
        except BaseException:
            raise ImportError("numpy is broken")  # noqa: B904 - as packages do

    monkeypatch.setattr("pushforward.io.models.load", interrupted)
    result = run("info", model)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


@pytest.mark.slow
def test_a_reader_that_leaves_does_not_cost_the_training(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    command = f"{sys.executable} -m pushforward fit {data} --out {out} --steps 20 --progress plain 2>&1 | head -n 1"
    shown = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=True)
    assert len(shown.stdout.splitlines()) == 1
    assert shown.stderr == ""
    assert np.isfinite(pf.load(out).training_summary["test_log_density"])


def test_info_shows_what_is_in_the_file(model: Path) -> None:
    figures = good("info", model)
    assert figures["recipe"]["name"] in RECIPES
    assert figures["recipe"]["arguments"]["width"] == 8
    assert figures["training"]["steps"] == {"mass": 20, "flow": 20}
    assert figures["parameters"] == sum(p.numel() for p in pf.load(model).parameters())
    shown = run("info", model).stdout
    for text in (
        figures["recipe"]["name"],
        "2 values: ",
        "data.csv",
        "held out, log-density",
        "verdict",
        torch.__version__,
    ):
        assert text in shown
    assert "quantiles" not in shown


@pytest.mark.slow
def test_plot_draws_a_table(model: Path, data: Path, tmp_path: Path) -> None:
    figures = good("plot", model, "--data", data, "--out", tmp_path / "p", "--x", "a", "--y", "day")
    pictures = {"marginals.png", "pairs.png", "plane.png", "history.png"}
    assert {p.name for p in (tmp_path / "p").iterdir()} == pictures == {Path(p).name for p in figures["pictures"]}
    good("plot", model, "--out", tmp_path / "q")
    assert {p.name for p in (tmp_path / "q").iterdir()} == pictures - {"plane.png"}
    assert "no column 'z'" in bad("plot", model, "--out", tmp_path, "--x", "z", "--y", "a")
    assert "together" in bad("plot", model, "--out", tmp_path, "--x", "a")
    assert "single values" in bad("plot", model, "--out", tmp_path, "--x", "a", "--y", "colour")


@pytest.mark.parametrize(
    ("columns", "pictures"),
    [
        (1, {"density.png", "marginals.png"}),
        (2, {"density.png", "marginals.png", "pairs.png", "four_panels.png", "warped_grid.png"}),
        (3, {"marginals.png", "pairs.png"}),
    ],
)
@pytest.mark.parametrize("with_data", [False, True])
def test_plot_draws_a_plain_flow(tmp_path: Path, columns: int, pictures: set[str], with_data: bool) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, columns)))
    pf.save(pf.real_nvp(columns, depth=1, width=4, seed=0), tmp_path / "m.safetensors")
    extra = ["--data", tmp_path / "x.npy"] if with_data else []
    figures = good("plot", tmp_path / "m.safetensors", *extra, "--out", tmp_path / "p")
    assert {p.name for p in (tmp_path / "p").iterdir()} == pictures == {Path(p).name for p in figures["pictures"]}


@pytest.mark.parametrize("args", [["--json", "info"], ["info", "--json"]])
def test_json_is_the_last_line_wherever_it_is_asked_for(model: Path, args: list[str]) -> None:
    result = run(*args, model)
    assert json.loads(result.stdout.splitlines()[-1])["model"] == str(model)
    assert not run("info", model).stdout.splitlines()[-1].startswith("{")


def test_a_missing_extra_is_named(model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert 'pip install "pushforward[data]"' in bad("score", model, data, "--out", tmp_path / "s.csv")
    for name in [n for n in sys.modules if n == "pushforward.plots" or n.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(pf, "plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert 'pip install "pushforward[plot]"' in bad("plot", model, "--out", tmp_path)


def test_tracebacks_only_when_asked_for(model: Path, tmp_path: Path) -> None:
    args = ["score", model, tmp_path / "none.csv", "--out", tmp_path / "s.csv"]
    assert "Traceback" not in run(*args).stderr
    for wanted in (["--debug", *args], [*args, "--debug"]):
        result = run(*wanted)
        assert "Traceback" in result.stderr
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].startswith("error: ")


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with normal rows without names, in two files, and a model of the first."""
    folder = tmp_path_factory.mktemp("checked")
    rows = np.random.default_rng(0).normal(3, 2, (900, 2))
    np.save(folder / "rows.npy", rows[:600])
    np.save(folder / "new.npy", rows[600:])
    good("fit", folder / "rows.npy", "--out", folder / "model.safetensors", "--steps", "150", "--depth", "2")
    return folder


def test_check_prints_a_verdict_and_writes_a_page(checked: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "report.html"
    model, data, train = checked / "model.safetensors", checked / "new.npy", checked / "rows.npy"
    figures = good("check", model, data, "--train", train, "--html", page)
    assert figures["rows"] == 300
    assert figures["train_rows"] == 600
    assert figures["sections"]["exactness"]["verdict"] == "good"
    assert "model.safetensors on new.npy" in page.read_text()
    shown = run("check", model, data).stdout
    assert "new.npy is another table than that of the fit: all of its rows count as held out" in shown.splitlines()[0]
    assert shown.splitlines()[1].startswith("May I rank rows")
    assert "Held-out likelihood" in shown


@pytest.mark.slow
def test_check_on_the_table_of_the_fit_takes_the_rows_held_out(checked: Path, tmp_path: Path) -> None:
    model, rows = checked / "model.safetensors", np.load(checked / "rows.npy")
    result = run("check", model, checked / "rows.npy", "--json")
    assert "its 60 rows held out then are checked" in result.stdout
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["rows"], figures["train_rows"]) == (60, 540)
    test = good("info", model)["training"]
    assert figures["sections"]["likelihood"]["figures"]["mean"] == pytest.approx(test["test_log_density"], abs=1e-3)
    first = figures["sections"]["tails"]["figures"]["least_likely"][0]  # rows are counted from 1 in the whole file
    score = good("score", model, checked / "rows.npy", "--out", tmp_path / "scored.npy")
    assert score["rows"] == 600
    scored = np.load(tmp_path / "scored.npy")
    assert scored[first["row"] - 1, -1] == pytest.approx(first["log_density"], abs=1e-3)
    np.save(tmp_path / "other.npy", rows[::-1])
    assert good("check", model, tmp_path / "other.npy")["rows"] == 600


def test_check_of_a_mixed_table(model: Path, data: Path) -> None:
    figures = good("check", model, data)
    assert (figures["rows"], figures["train_rows"]) == (40, 360)
    test = pf.load(model).training_summary
    assert test["answers"] == {name: figures["answers"][name] for name in ("ranking", "probabilities")}  # one verdict
    assert figures["sections"]["likelihood"]["figures"]["mean"] == pytest.approx(test["test_log_density"], abs=1e-3)


def test_check_refuses_before_it_works(checked: Path, tmp_path: Path) -> None:
    model, data = checked / "model.safetensors", checked / "new.npy"
    assert ".html" in bad("check", model, data, "--html", tmp_path / "report.pdf")
    np.save(tmp_path / "rows.npy", np.zeros((5, 3)))
    assert "columns" in bad("check", model, tmp_path / "rows.npy")
    np.save(tmp_path / "rows.npy", np.full((5, 2), np.inf))
    assert "inf" in bad("check", model, tmp_path / "rows.npy")
