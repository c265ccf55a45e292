"""The command line, as a user meets it: what it prints, writes, refuses, and leaves behind."""

from __future__ import annotations

import errno
import inspect
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result

import pushforward as pf
from pushforward import cli
from pushforward.data import tables
from pushforward.data.toys import TOYS

TINY = ["--steps", "20", "--depth", "2", "--width", "8", "--progress", "none"]


def run(*args: Any) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in args])


def good(*args: Any) -> dict[str, Any]:
    """Runs a command that must succeed; its figures."""
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def bad(*args: Any) -> str:
    """Runs a command that must fail in one line; the line."""
    result = run(*args)
    assert result.exit_code == 1, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def write_csv(path: Path, names: str, rows: np.ndarray) -> Path:
    path.write_text("\n".join([names, *(",".join(map(str, row)) for row in rows.tolist())]) + "\n")
    return path


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of two columns and a name, and a model of it."""
    folder = tmp_path_factory.mktemp("house")
    rng = np.random.default_rng(0)
    a = rng.normal(50, 5, 300)
    names = [f"n{i}" for i in range(300)]
    lines = [f"{n},{x},{y}" for n, x, y in zip(names, a, 1000 - 10 * a + rng.normal(0, 20, 300), strict=True)]
    (folder / "data.csv").write_text("name,a,b\n" + "\n".join(lines) + "\n")
    good("fit", folder / "data.csv", "--columns", "a,b", "--out", folder / "model.safetensors", *TINY)
    return folder


@pytest.fixture
def model(house: Path) -> Path:
    return house / "model.safetensors"


@pytest.fixture
def data(house: Path) -> Path:
    return house / "data.csv"


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


def defaults(function: Callable[..., Any], left_out: set[str]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in left_out}


def test_options_are_the_arguments_of_the_library() -> None:
    table = {name: default for name, (default, _, _) in cli.MODEL_OPTIONS.items()}
    assert table == defaults(pf.real_nvp, {"context_dim", "standardize", "seed"})
    table = {name: default for name, (default, _, _) in cli.TRAIN_OPTIONS.items()}
    assert table == defaults(pf.train, {"context", "weights", "seed"})
    options = {p.name: p.default for p in cli.fit.params}
    for name, (default, kind, _) in (cli.MODEL_OPTIONS | cli.TRAIN_OPTIONS).items():
        assert name in options
        if kind is not bool and default is not None:
            assert options[name] == default
    assert options["seed"] == defaults(pf.train, set())["seed"]
    assert options["progress"] == defaults(pf.fit, set())["progress"]


def test_toys_are_those_of_the_library() -> None:
    assert sorted(cli.TOYS) == sorted(TOYS)


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


def test_loss_lines_go_to_stderr_and_leave_stdout_to_the_figures(house: Path, data: Path) -> None:
    args = ["fit", data, "--columns", "a,b", "--out", house / "loud.safetensors", *TINY[:-1], "plain"]
    result = run(*args)
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
    assert figures["gain"] == pytest.approx(figures["test_log_density"] - figures["gaussian_log_density"])
    assert (figures["train_rows"], figures["test_rows"]) == (360, 40)
    other = good("fit", tmp_path / "x.npy", "--out", tmp_path / "m.safetensors", *TINY, "--seed", 1)
    assert other["gaussian_log_density"] == figures["gaussian_log_density"]  # the test rows stay the same
    assert other["test_log_density"] != figures["test_log_density"]


def test_fit_says_which_is_better(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "two.npy", np.where(rng.random(600) < 0.5, -5, 5) + rng.normal(0, 0.3, 600))
    args = ["fit", tmp_path / "two.npy", "--out", tmp_path / "m.safetensors", *TINY, "--steps", 400, "--lr", 0.03]
    assert "the flow is better" in run(*args).stdout
    samples = pf.load(tmp_path / "m.safetensors").sample(500, generator=torch.Generator().manual_seed(0))
    assert (samples.abs() < 3).double().mean() < 0.05  # the mixture base leaves no bridge, a normal one must
    np.save(tmp_path / "six.npy", rng.normal(size=(100, 6)))
    args = ["fit", tmp_path / "six.npy", "--out", tmp_path / "m.safetensors", "--steps", 1, "--progress", "none"]
    assert "the Gaussian is better" in run(*args, "--lr", "1e-9").stdout


def test_columns_far_from_zero_keep_their_detail(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([1.7e9 + rng.normal(0, 30, 400), rng.normal(0, 1, 400)])
    np.save(tmp_path / "x.npy", x)
    figures = good("fit", tmp_path / "x.npy", "--out", tmp_path / "m.safetensors", *TINY)
    assert abs(figures["gain"]) < 1
    good("sample", tmp_path / "m.safetensors", "-n", 200, "--out", tmp_path / "s.npy", "--seed", 0)
    assert len(np.unique(np.load(tmp_path / "s.npy")[:, 0])) == 200  # float32 would leave steps of 128


def test_score_keeps_all_columns_and_matches_the_library(house: Path, model: Path, data: Path, tmp_path: Path) -> None:
    figures = good("score", model, data, "--out", tmp_path / "s.csv")
    original, scored = data.read_text().splitlines(), (tmp_path / "s.csv").read_text().splitlines()
    assert scored[0] == "name,a,b,log_density"
    assert [line.rpartition(",")[0] for line in scored[1:]] == original[1:]
    flow = pf.load(model)
    log_density = flow.log_prob(tables.read_table(data).matrix(["a", "b"])).detach().numpy()
    found = tables.read_table(tmp_path / "s.csv").matrix(["log_density"])[:, 0]
    assert np.allclose(found, log_density, atol=1e-5)
    assert figures["mean_log_density"] == pytest.approx(log_density.mean(), abs=1e-4)
    good("score", model, data, "--out", tmp_path / "s.parquet")
    assert pq.read_table(tmp_path / "s.parquet").column_names == ["name", "a", "b", "log_density"]


def test_score_finds_columns_by_name(model: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "one.csv", "a,b", np.array([[50.0, 500.0]]))
    write_csv(tmp_path / "two.csv", "b,extra,a", np.array([[500.0, 7.0, 50.0]]))
    np.save(tmp_path / "three.npy", [[50.0, 500.0]])
    values = [
        good("score", model, tmp_path / f, "--out", tmp_path / "s.csv") for f in ("one.csv", "two.csv", "three.npy")
    ]
    assert len({v["mean_log_density"] for v in values}) == 1
    assert values[0]["se"] is None  # one row has no standard error, and JSON no NaN


def test_scores_at_a_million_are_finite(model: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "far.csv", "a,b", np.array([[1e6, -1e6], [0, 0]]))
    assert good("score", model, tmp_path / "far.csv", "--out", tmp_path / "s.csv")["min"] < -1000


def test_samples_have_the_columns_of_the_model(model: Path, tmp_path: Path) -> None:
    for name in ("s.csv", "again.csv", "s.parquet", "s.npy"):
        assert good("sample", model, "-n", 25, "--seed", 3, "--out", tmp_path / name)["columns"] == ["a", "b"]
    assert (tmp_path / "s.csv").read_text() == (tmp_path / "again.csv").read_text()
    table = tables.read_table(tmp_path / "s.csv")
    assert table.names == ("a", "b")
    assert len(table) == 25
    assert np.array_equal(table.matrix().astype(np.float32), np.load(tmp_path / "s.npy"))
    first = good("sample", model, "-n", 5, "--out", tmp_path / "new.npy")
    second = good("sample", model, "-n", 5, "--out", tmp_path / "new2.npy")
    assert first["seed"] != second["seed"]
    assert not np.array_equal(np.load(tmp_path / "new.npy"), np.load(tmp_path / "new2.npy"))
    good("score", model, tmp_path / "s.csv", "--out", tmp_path / "scored.csv")


def test_chosen_columns_of_a_nameless_file_are_found_again(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal([0, 100, 7, 1e4], 1, (60, 4))
    np.save(tmp_path / "x.npy", x)
    fitted = good("fit", tmp_path / "x.npy", "--columns", "x3,x1", "--out", tmp_path / "m.safetensors", *TINY)
    assert fitted["columns"] == ["x1", "x3"]
    scored = good("score", tmp_path / "m.safetensors", tmp_path / "x.npy", "--out", tmp_path / "s.npy")
    assert scored["mean_log_density"] == pytest.approx(fitted["test_log_density"], abs=2)
    assert np.load(tmp_path / "s.npy").shape == (60, 5)
    np.save(tmp_path / "x.npy", x[:, :3])
    assert "3 columns" in bad("score", tmp_path / "m.safetensors", tmp_path / "x.npy", "--out", tmp_path / "s.npy")


def test_info_shows_what_is_in_the_file(model: Path) -> None:
    figures = good("info", model)
    assert figures["recipe"]["name"] == "real_nvp"
    assert figures["recipe"]["arguments"]["width"] == 8
    assert figures["schema"]["columns"] == ["a", "b"]
    assert figures["training"]["steps"] == 20
    assert figures["parameters"] == sum(p.numel() for p in pf.load(model).parameters())
    shown = run("info", model).stdout
    for text in ("real_nvp", "a, b", "data.csv", torch.__version__):
        assert text in shown


@pytest.mark.parametrize(
    ("columns", "pictures"),
    [
        (1, {"density.png"}),
        (2, {"density.png", "four_panels.png", "warped_grid.png"}),
        (3, {"pairs.png"}),
    ],
)
@pytest.mark.parametrize("with_data", [False, True])
def test_plot_draws_what_fits(tmp_path: Path, columns: int, pictures: set[str], with_data: bool) -> None:
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


def test_a_name_with_a_comma_is_quoted(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", '"a, b",c', np.random.default_rng(0).normal(size=(40, 2)))
    args = ["fit", tmp_path / "x.csv", "--out", tmp_path / "m.safetensors", *TINY]
    assert good(*args, "--columns", 'c, "a, b"')["columns"] == ["c", "a, b"]


def bad_table(kind: str) -> tuple[str, Any]:
    x = np.random.default_rng(0).normal(size=(40, 2))
    if kind == "nan":
        x[5, 1] = np.nan
    elif kind == "infinite":
        x[0, 0] = np.inf
    elif kind == "constant":
        x[:, 1] = 3
    elif kind == "constant but for the test rows":
        x = np.zeros((40, 2))
        x[:, 0] = np.arange(40)
        order = np.random.default_rng(20160527).permutation(40)
        x[order[0], 1] = 1
    elif kind.startswith("rows"):
        x = x[: int(kind[4:])]
    return kind, x


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "column 'b' has a missing cell or NaN in row 6"),
        ("infinite", "column 'a' has inf in row 1"),
        ("constant", "constant column 'b' (always 3)"),
        ("constant but for the test rows", "training part of"),
        ("rows0", "no rows, only a header"),
        ("rows1", "has 1 row; at least 25 are needed"),
        ("rows5", "has 5 rows; at least 25 are needed"),
    ],
)
def test_fit_refuses_rows_that_have_no_density(tmp_path: Path, kind: str, message: str) -> None:
    path = write_csv(tmp_path / "x.csv", "a,b", bad_table(kind)[1])
    assert message in bad("fit", path, "--out", tmp_path / "m.safetensors", *TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def test_thirty_rows_are_enough(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", "a,b", np.random.default_rng(0).normal(size=(30, 2)))
    figures = good("fit", path, "--out", tmp_path / "m.safetensors", *TINY)
    assert figures["test_rows"] == 3
    assert figures["best_val_nll"] is not None


def test_words_get_help_with_columns(data: Path, tmp_path: Path) -> None:
    line = bad("fit", data, "--out", tmp_path / "m.safetensors", *TINY)
    assert "column 'name' is not numeric: row 1 holds 'n0'" in line
    assert line.endswith("--columns a,b")
    assert "no column 'z'" in bad("fit", data, "--columns", "a,z", "--out", tmp_path / "m.safetensors")


def test_bad_tables_to_score(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    np.save(tmp_path / "three.npy", np.zeros((2, 3)))
    write_csv(tmp_path / "less.csv", "a,c", np.zeros((2, 2)))
    write_csv(tmp_path / "scored.csv", "a,b,log_density", np.ones((2, 3)))
    assert "lacks column 'b' of the model; it has 'a', 'c'" in bad("score", model, tmp_path / "less.csv", "--out", out)
    assert "the model has 2 ('a', 'b')" in bad("score", model, tmp_path / "three.npy", "--out", out)
    assert "already has a column 'log_density'" in bad("score", model, tmp_path / "scored.csv", "--out", out)
    assert "expected a file ending in .csv" in bad("score", model, data, "--out", tmp_path / "s.txt")
    assert "'name' is not numeric" in bad("score", model, data, "--out", tmp_path / "s.npy")
    assert "none.csv: No such file or directory" in bad("score", model, tmp_path / "none.csv", "--out", out)
    assert not [*tmp_path.glob("s.*"), *tmp_path.glob(".*")]


def test_bad_models(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:-100])
    (tmp_path / "text.safetensors").write_text("no model")
    pf.save(pf.real_nvp(2, context_dim=1), tmp_path / "conditional.safetensors")
    pf.save(pf.real_nvp(2), tmp_path / "names.safetensors", schema={"columns": ["only one"]})
    pf.save(pf.Flow(pf.ActNorm(2), 2), tmp_path / "by_hand.safetensors")
    for name in ("cut", "text", "conditional", "names", "by_hand", "none"):
        assert name in bad("sample", tmp_path / f"{name}.safetensors", "--out", tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()
    assert "composed by hand" in run("info", tmp_path / "by_hand.safetensors").stdout
    assert "not named" in run("info", tmp_path / "conditional.safetensors").stdout


@pytest.mark.parametrize(
    "where", ["file/m.safetensors", "file/deeper/m.safetensors", "folder.safetensors", "m.pt", "m"]
)
def test_a_place_that_cannot_be_written_is_told_before_any_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.safetensors").mkdir()
    monkeypatch.setattr("pushforward.cli.on_tables.train_flow", lambda *args, **kwargs: pytest.fail("trained in vain"))
    bad("fit", data, "--columns", "a,b", "--out", tmp_path / where, *TINY)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder.safetensors"]


def test_an_existing_demo_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is no folder" in bad("demo", "--out", tmp_path / "file", "--steps", 1)


def test_new_folders_are_made(data: Path, tmp_path: Path) -> None:
    good("fit", data, "--columns", "a", "--out", tmp_path / "a" / "b" / "m.safetensors", *TINY)
    assert (tmp_path / "a" / "b" / "m.safetensors").is_file()


def test_a_full_disk_leaves_nothing(model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(text: Any, file: Any, delimiter: str) -> None:
        file.write(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pushforward.data._csv.write_rows", full)
    for args in (["score", model, data], ["sample", model]):
        assert "s.csv: No space left on device" in bad(*args, "--out", tmp_path / "s.csv")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_keeps_the_best_weights(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pushforward.training import run

    def interrupt(self: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(run.Run, "elapsed", interrupt)
    args = ["fit", data, "--columns", "a,b", "--out", tmp_path / "m.safetensors", *TINY]
    assert good(*args)["stopped"] == "interrupted"
    assert pf.load(tmp_path / "m.safetensors").training_summary["stopped"] == "interrupted"


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


def test_values_beyond_float32_are_fitted_in_float64(tmp_path: Path) -> None:
    np.save(tmp_path / "huge.npy", 1e40 * np.random.default_rng(0).normal(size=(200, 2)))
    good("fit", tmp_path / "huge.npy", "--out", tmp_path / "m.safetensors", "--steps", 20)
    assert pf.load(tmp_path / "m.safetensors")._like().dtype == torch.float64
    assert "--columns must name" in bad("fit", tmp_path / "huge.npy", "--out", "m.safetensors", "--columns", "")


def test_usage_errors_have_exit_code_2(data: Path) -> None:
    assert run("fit", data).exit_code == 2
    assert run("fit", data, "--out", "m.safetensors", "--mixing", "salad").exit_code == 2
    assert run("nonsense").exit_code == 2
    assert "at most one of" in bad("fit", data, "--out", "m.safetensors", "--steps", 5, "--seconds", 5)


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
    assert shown.startswith("VERDICT")
    assert "Held-out likelihood" in shown


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


def test_check_refuses_before_it_works(checked: Path, tmp_path: Path) -> None:
    model, data = checked / "model.safetensors", checked / "new.npy"
    assert ".html" in bad("check", model, data, "--html", tmp_path / "report.pdf")
    assert "columns" in bad("check", model, _saved(tmp_path, np.zeros((5, 3))))
    assert "NaN" in bad("check", model, _saved(tmp_path, np.full((5, 2), np.nan)))


def _saved(folder: Path, rows: np.ndarray) -> Path:
    np.save(folder / "rows.npy", rows)
    return folder / "rows.npy"
