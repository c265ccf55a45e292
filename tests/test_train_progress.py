"""What a training shows while it runs: lines, a bar, a function of one's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

import pushforward as pf
from flows import moons, small
from pushforward.training.progress import describe, reporter


def test_the_time_that_is_left_is_told_until_the_end() -> None:
    epoch = pf.Epoch(1.0, 10, 30.0, 0.25, 1.0, None, 1e-3, 0)
    assert epoch.seconds_left == 90
    assert "30.0 s, at most 90 s left" in describe(epoch, None)
    assert "left" not in describe(replace(epoch, progress=0.99), None)
    assert replace(epoch, stopped="early").seconds_left == 0


def test_plain_progress_prints_lines_and_none_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    pf.fit(small(), moons(), steps=60, batch=100, progress="none")
    assert capsys.readouterr().err == ""
    pf.fit(small(), moons(), steps=60, batch=100, progress="plain")
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 22
    assert "train" in lines[-1]
    assert "validation" in lines[-1]


def test_rich_progress_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    pf.fit(small(), moons(), steps=60, batch=100, progress="rich")
    assert "train" in capsys.readouterr().err


def test_a_part_of_a_training_shows_no_validation_of_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    epochs = list(pf.train(small(), moons(), epochs=2))
    for kind in ("plain", "rich"):
        with reporter(kind) as show:
            show(replace(epochs[-1], part="first", val_nll=7.25))
            show(replace(epochs[-1], part="second", val_nll=None))
        shown = capsys.readouterr().err.rpartition("second")[2]
        assert shown
        assert "7.25" not in shown


def test_progress_may_be_a_function() -> None:
    seen: list[pf.Epoch] = []
    record = pf.fit(small(), moons(), steps=20, progress=seen.append)
    assert seen == record.epochs
    assert seen[-1].step == 20


def test_a_record_is_shown_by_its_summary() -> None:
    fit = pf.fit(small(), moons(50), steps=3, progress="none")
    assert repr(fit) == f"Fit({fit.summary})"
