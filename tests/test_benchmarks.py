"""The benchmarks: the README quotes only what they gave, nobody is dropped without a word, peers get equal care."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("a source without benchmarks", allow_module_level=True)
sys.path.append(str(ROOT / "benchmarks"))

import anytime  # noqa: E402
import anytime_page  # noqa: E402
import anytime_sets  # noqa: E402
import anytime_zuko  # noqa: E402
import bench  # noqa: E402
import common  # noqa: E402
import figures  # noqa: E402
import gpu  # noqa: E402
import moons_gap  # noqa: E402
import peers  # noqa: E402
import rtables  # noqa: E402
import samples  # noqa: E402
import samples_auc  # noqa: E402
import samples_model  # noqa: E402
import samples_page  # noqa: E402
import samples_sets  # noqa: E402

MADE = {"commit": "abc1234", "command": "python benchmarks/scoring.py"}
README = "\n".join(f"<!-- figures: {name} -->\n<!-- end -->" for name in figures.BLOCKS) + "\nIn Python 3.11.\n"
RUN: dict[str, Any] = {"set": "moons", "length": 10.0, "seed": 0, "steps": 9, "se": 1e-4, "seconds": 10.0}


def results() -> dict[str, Any]:
    """Results of one commit, as the scripts keep them."""
    times = {"notebook": [7.4, 7.5, 7.6], "pushforward": [1.3]}
    task = {"times": {"pushforward": [0.0032], "zuko": [0.0058]}, "errors": {"nflows": "exit 1: it fell"}}
    plain = "the notebook's settings, plain implementation"
    return {
        "anytime_moons": {"machine": MADE, "runs": [RUN | {"model": "pushforward auto", "value": 0.0033}]},
        "moons_gap": {"machine": MADE, "runs": {plain: [{"gap": 0.051, "seconds": 104.2}]}},
        "throughput": {"machine": MADE, "log_prob of 250,000 points": times},
        "peers": {"machine": MADE, "training step, D = 2, batch 100": task},
        "picture": {"machine": MADE},
        "scoring": {"machine": MADE, "score 10": {"rows": 10, "seconds": 41.4, "peak_gib": 0.58}},
    }


def written(of: dict[str, Any], at: str = "abc1234") -> tuple[str, str]:
    """The README and the table that results give."""
    blocks, found, absent = figures.rendered(of, at)
    return figures.filled(README, blocks), figures.table(found, absent)


def test_the_readme_quotes_the_figures_of_the_table_alone() -> None:
    assert not figures.problems(figures.texts(), figures.TABLE.read_text(), figures.loaded())


def test_the_commands_and_pages_that_are_named_exist() -> None:
    commands = [figure.command for figure in figures.parsed(figures.TABLE.read_text())]
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    paths = [*links, *(command.split()[1] for command in commands)]
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_results_of_one_commit_agree_with_what_they_write() -> None:
    readme, table = written(results())
    assert not figures.problems({"README.md": readme}, table, results())
    for quoted in (
        ".0033",
        ".051 nats after 104 s",
        "| 7.5 s | 1.3 s | 5.8x |",
        "| 3.2 ms | 5.8 ms |",
        "41 s within .6",
    ):
        assert quoted in readme
    assert len(figures.parsed(table)) == 7
    assert "| docs/warped_grid.png | a picture |" in table


@pytest.mark.parametrize(
    ("old", "new"),
    [("| 3.2 ms |", "| 6.0 ms |"), ("In Python 3.11", "It is 3.7x faster in Python 3.11"), ("41 s", "14 s")],
)
def test_a_figure_that_nobody_measured_is_found(old: str, new: str) -> None:
    readme, table = written(results())
    assert old in readme
    assert figures.problems({"README.md": readme.replace(old, new)}, table, results())


def test_a_page_of_the_docs_is_read_too() -> None:
    readme, table = written(results())
    told = figures.problems({"README.md": readme, "docs/speed.md": "It takes 12.5 s.\n"}, table, results())
    assert told == ["docs/speed.md: 12.5 is in no figure of the table"]


def test_a_table_that_does_not_follow_from_the_results_is_found() -> None:
    readme, table = written(results())
    assert figures.problems({"README.md": readme}, table.replace("3.2 ms", "3.1 ms"), results())
    mixed = table.replace("abc1234 |", "def5678 |", 1)
    assert any("2 commits" in line for line in figures.problems({"README.md": readme}, mixed, results()))
    dirty = table.replace("abc1234", "abc1234+")
    assert any("not committed" in line for line in figures.problems({"README.md": readme}, dirty, results()))
    changed = results()
    changed["scoring"]["score 10"]["seconds"] = 80.0
    assert figures.problems({"README.md": readme}, table, changed)


def test_results_of_another_commit_leave_the_readme() -> None:
    older = results()
    older["scoring"]["machine"] = MADE | {"commit": "def5678"}
    readme, table = written(older)
    assert "41 s" not in readme
    assert "- scoring: scoring.json is of another commit" in table
    assert not figures.problems({"README.md": readme}, table, older)


def test_a_readme_without_a_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a mark for each of moons"):
        figures.filled(README.replace("scoring", "score"), figures.rendered({}, "")[0])


def test_what_is_absent_is_named(tmp_path: Path) -> None:
    runs, absent = bench.steps(str(tmp_path / "python"), tmp_path)
    assert {"peers", "members"} == set(absent)
    assert "throughput" in runs
    assert "peers" not in runs
    assert "there is no" in bench.absent_sets(tmp_path)["magic"]


def script(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return str(path)


def test_a_peer_that_fails_is_named_with_its_error(tmp_path: Path) -> None:
    early = script(tmp_path / "early", "echo 'ImportError: no such thing' >&2", "exit 3")
    late = script(tmp_path / "late", "echo '{\"first\": 1.0}'", "read line", "echo Boom >&2", "exit 4")
    fine = script(tmp_path / "fine", "echo '{\"first\": 1.0}'", "read line", "echo '{\"seconds\": 0.5}'")
    of = {
        name: peers.Peer(python, "zuko", "step") for name, python in (("early", early), ("late", late), ("fine", fine))
    }
    of["none"] = peers.Peer(str(tmp_path / "nothing"), "zuko", "step")
    for peer in of.values():
        peer.once()
        peer.close()
    errors = {name: peer.error for name, peer in of.items()}
    assert errors["early"] == "exit 3: ImportError: no such thing"
    assert errors["late"] == "exit 4: Boom"
    assert errors["none"].startswith("FileNotFoundError")
    assert (errors["fine"], of["fine"].times) == ("", [0.5])
    assert peers.cell(of["late"], 0.25, "s", 1) == "failed"
    assert peers.cell(of["fine"], 0.25, "s", 1) == "0.5 s (2.00x)"


def test_gaps_are_measured_on_enough_points() -> None:
    flow = pf.real_nvp(2, seed=0)
    errors = [moons_gap.gap(flow, points)[1] for points in (1_000, 16_000)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert min(moons_gap.POINTS, gpu.MOONS_POINTS, anytime.TEST_POINTS) >= 200_000


def test_no_new_table_was_in_sight_of_the_rule() -> None:
    assert not set(anytime_sets.TUNED_ON) & set(anytime_sets.NEW)
    names = [name for name, _ in anytime_sets.R_TABLES.values()]
    assert all(rtables.is_open(name) for name in (*names, *samples_sets.OTHERS.values()))
    assert rtables.is_open("openintro/cle_sac")
    assert not rtables.is_open("AER/Fatalities")


def test_atoms_are_spread_without_changing_the_order() -> None:
    x = np.array([[3.0], [1.0], [1.0], [2.0]])
    out = anytime_sets.spread(x, np.random.default_rng(0))
    assert (out >= x).all()
    assert (out < x + 1).all()
    assert len(np.unique(out)) == 4


class Trials(anytime.Bench):
    """A bench whose trainings are made up: the best has rate 5e-3 and decay .1, and that of noise fails."""

    def process(self, name: str, model: str, seconds: float, seed: int, out: str, settings: Any) -> Any:
        assert (seed, out) == (anytime.TUNING_SEED, "-")
        if settings["noise"]:
            return {"error": "exit 1: FloatingPointError"}
        return {"best": 1000 * settings["rate"] - abs(settings["weight_decay"] - 0.1), "steps": 7}


def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> anytime.Bench:
    monkeypatch.setattr(anytime, "SCORES", tmp_path / "scores")
    return Trials("", tmp_path, [], [])


def test_the_peers_settings_are_chosen_by_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = trials(tmp_path, monkeypatch)
    of.choose("magic", ["pushforward auto", "zuko RealNVP", "zuko NSF coupling"], 60)
    chosen = {"rate": 5e-3, "weight_decay": 0.1, "noise": 0.0}
    assert of.settings("magic", "zuko RealNVP") == of.settings("magic", "zuko NSF coupling") == chosen
    assert of.settings("magic", "pushforward auto") == {}
    assert len(of.tuned) == 2 * 5
    assert len([t for t in of.tuned if "error" in t]) == 2
    of.choose("magic", ["zuko RealNVP"], 60)
    assert len(of.tuned) == 2 * 5


def test_a_training_that_fails_is_kept_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anytime, "SCORES", tmp_path / "scores")
    python = script(tmp_path / "python", "echo 'ValueError: no' >&2", "exit 1")
    run = anytime.Bench(python, tmp_path, [], []).score("magic", "zuko RealNVP", 1, 0)
    assert run["error"] == "exit 1: ValueError: no"
    assert "- zuko RealNVP on magic, 1 s: exit 1: ValueError: no" in anytime_page.page([run], [], [])


def test_runs_of_the_same_code_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"set": "magic", "model": "zuko RealNVP", "length": 60.0, "value": -1.0, "commit": "abc"}
    runs = [run | {"seed": 0}, run | {"seed": 1}, run | {"seed": 2, "error": "exit 1"}, run | {"set": "digits"}]
    kept = {"runs": runs, "tuned": []}
    monkeypatch.setattr(anytime, "SCORES", tmp_path)
    monkeypatch.setattr(anytime, "load", lambda name: kept)
    monkeypatch.setattr(anytime, "commit", lambda: "abc")
    (tmp_path / anytime.scores_name("magic", "zuko RealNVP", 60.0, 0)).touch()
    of = anytime.Bench.of("magic", "", tmp_path)
    assert [r["seed"] for r in of.runs] == [0, 2]
    made: list[int] = []
    monkeypatch.setattr(of, "score", lambda *job: made.append(job[-1]) or run)
    list(of.all([("magic", "zuko RealNVP", 60.0, seed) for seed in range(4)]))
    assert sorted(made) == [1, 3]
    monkeypatch.setattr(anytime, "commit", lambda: "def")
    assert anytime.Bench.of("magic", "", tmp_path).runs == []
    monkeypatch.setattr(anytime, "is_unchanged", lambda since, files: since == "abc")
    runs[1]["model"] = "pushforward auto"
    assert [r["seed"] for r in anytime.Bench.of("magic", "", tmp_path).runs] == [0, 2]


def test_code_is_the_same_whatever_its_docstrings_say() -> None:
    old, new = (f'"""{text}"""\n# {text}\ndef f():\n    """{text}"""\n    return 1\n' for text in ("a", "b"))
    assert common._code(old) == common._code(new) != common._code(new.replace("1", "2"))


def test_a_set_that_is_run_again_leaves_the_others_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(anytime, "SCORES", tmp_path / "scores")
    for name, value in (("magic", -1.0), ("digits", -2.0), ("magic", -3.0)):
        runs = [run | {"set": name, "value": value} for run in made_up_runs()]
        bench = anytime.Bench("", tmp_path, runs, [])
        for run in runs:
            np.save(anytime.SCORES / anytime.scores_name(*(run[k] for k in anytime.KEY)), np.zeros(9))
        anytime.keep(name, bench)
    kept = anytime.load("anytime")
    assert [(r["set"], r["value"]) for r in kept["runs"][::9]] == [("digits", -2.0), ("magic", -3.0)]
    assert [c["set"] for c in kept["comparisons"]] == ["digits"] * 2 + ["magic"] * 2
    assert "| digits | new | 60 | 3 | -2.000 |" in (tmp_path / "anytime.md").read_text()


def made_up_runs() -> list[dict[str, Any]]:
    run = {"set": "magic", "length": 60.0, "seconds": 60.0, "steps": 5, "se": 0.1, "value": -1.0, "stopped": "done"}
    run |= {"commit": "abc"}
    models = ("pushforward auto", "zuko RealNVP", "zuko NSF coupling")
    return [run | {"model": m, "seed": s} for m in models for s in range(3)]


def test_differences_are_paired_over_rows_and_seeds() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=4000)
    ahead = {"pushforward auto": 0.0, "zuko RealNVP": -0.5, "zuko NSF coupling": 0.0}

    def scores(run: dict[str, Any]) -> np.ndarray:
        return rows + ahead[run["model"]] + 0.1 * rng.normal(size=4000) + 0.02 * rng.normal()

    lines = anytime_page.compared(made_up_runs(), scores)
    of = {line["model"]: line for line in lines}
    assert of["zuko RealNVP"]["ahead"] == pytest.approx(0.5, abs=0.1)
    assert 0.002 < of["zuko RealNVP"]["se"] < 0.05
    words = {m: anytime_page.outcome(line["ahead"], max(line["se"], 0.03)) for m, line in of.items()}
    assert words == {"zuko RealNVP": "ahead", "zuko NSF coupling": "level"}
    page = "\n".join(anytime_page.page(made_up_runs(), [], lines))
    assert "| magic | tuned on it | 60 | 3 | -1.000 | -1.000 (" in page


def test_time_left_unused_is_told() -> None:
    runs = [RUN | {"model": "pushforward auto", "value": 0.1, "length": 60.0, "seconds": 20.0, "stopped": "early"}]
    assert any("moons 20 of 60 s (early)" in line for line in anytime_page.page(runs, [], []))


def test_batches_of_the_peers_have_the_noise_that_was_chosen() -> None:
    generator = torch.Generator().manual_seed(0)
    given = anytime_zuko.batches(torch.zeros(600, 2), torch.tensor([0.0, 0.5]), generator)
    some = torch.cat([next(given) for _ in range(4)])
    assert some.shape == (4 * 512, 2)
    assert some.std(0).tolist() == pytest.approx([0.0, 0.5], abs=0.05)


def test_weights_of_the_peers_are_averaged() -> None:
    both = anytime_zuko.Averaged(torch.nn.Linear(1, 1, bias=False))
    seen = []
    for value in range(200):
        torch.nn.init.constant_(both.raw.weight, value)
        both.update()
        seen.append(float(both.mean.weight))
    assert seen[0] < 1e-6
    assert 170 < seen[-1] < 190


def mixed_rows() -> tuple[Any, dict[str, str]]:
    import pandas as pd

    rng = np.random.default_rng(0)
    size = rng.normal(size=300)
    size[::7] = np.nan
    town = np.array([None, "a", "b", "c"], dtype=object)[rng.integers(0, 4, 300)]
    frame = pd.DataFrame({"size": size, "town": town, "count": rng.integers(0, 9, 300)})
    return frame, {"size": "number", "town": "category", "count": "number"}


def test_missing_cells_and_categories_come_back_from_forest_s_matrix() -> None:
    import pandas as pd

    frame, kinds = mixed_rows()
    x, names, labels = samples_model.encoded(frame, kinds)
    assert np.isfinite(x).all()
    assert names == ["town", "size", "size?", "count"]
    back = samples_model.decoded(x, names, labels, list(frame.columns))
    pd.testing.assert_frame_equal(back, frame, check_dtype=False)


def test_trees_tell_other_rows_and_not_the_same() -> None:
    frame, kinds = mixed_rows()
    first, second = frame.iloc[:150], frame.iloc[150:]
    assert samples_auc.auc(first, second, kinds, 0) == pytest.approx(0.5, abs=0.12)
    assert samples_auc.auc(first.assign(town="c"), second, kinds, 0) > 0.75


def test_models_without_an_environment_or_in_time_are_named(tmp_path: Path) -> None:
    of = samples.Bench(tmp_path, timeout=0.2)
    assert "--setup forest" in of.draw("ForestDiffusion", tmp_path, 3, 0)["error"]
    (tmp_path / "sdv/bin").mkdir(parents=True)
    script(tmp_path / "sdv/bin/python", "exec sleep 5")
    assert of.draw("CTGAN", tmp_path, 3, 0) == {"error": "no result after 0.2 s"}
    script(tmp_path / "sdv/bin/python", "echo 'KeyError: 3' >&2", "exit 2")
    assert samples.Bench(tmp_path, 9).draw("TVAE", tmp_path, 3, 0) == {"error": "exit 2: KeyError: 3"}


def test_only_our_samples_are_made_again_for_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "commit", lambda: "def")
    of = {model: samples.is_current({"model": model, "commit": "abc"}) for model in ("real", "TVAE", "pushforward")}
    assert of == {"real": True, "TVAE": True, "pushforward": False}
    assert samples.is_current({"model": "pushforward", "commit": "def"})


def test_the_page_of_samples_says_where_ours_is_behind() -> None:
    figures_of = {"real": (0.5, 0.9), "pushforward": (0.55, 0.85), "CTGAN": (0.8, 0.86), "TVAE": (0.52, 0.8)}
    runs = [
        {
            "set": "penguins",
            "seed": 0,
            "model": m,
            "auc": auc,
            "shapes": 0.9,
            "trends": trends,
            "trends_within": trends - (m == "pushforward") * 0.02,
            "seconds": 3.0,
            "commit": "abc",
        }
        for m, (auc, trends) in figures_of.items()
    ]
    runs.append(
        {"set": "penguins", "seed": 0, "model": "ForestDiffusion", "commit": "abc", "error": "no result after 900 s"}
    )
    page = samples_page.page(runs)
    assert page[0] == (
        "AUC below every peer's on 0 of 1 sets; pair trends at most .02 behind the best peer's on 1 of 1 "
        "(0 of 1 within the range of the held-out rows)."
    )
    assert "AUC less that of real rows: penguins +0.050." in page
    assert "pushforward is of commit abc (penguins)." in page
    assert "- ForestDiffusion on penguins: no result after 900 s" in page
    assert "| penguins | known | 0.500 | 0.550 | 0.800 | 0.520 | - |" in page
