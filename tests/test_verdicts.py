"""The answers of a check: limits in one table, the rule that joins findings, and false alarms by simulation."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

import pushforward as pf
from pushforward.baselines import fit_gaussian, fit_gaussian_mixture
from pushforward.checks import Finding, Report, check, thresholds
from pushforward.checks.relations import linear_relations
from pushforward.checks.stats import ALPHA, share_noise
from pushforward.checks.thresholds import QUESTIONS, THRESHOLDS, answer, rate

RNG = np.random.default_rng
GOOD, DOUBTFUL, BAD, UNKNOWN = "good", "doubtful", "bad", "cannot tell"


class Drawn(pf.Density):
    """A density of the rows of a table whose samples are what a function of a random generator makes.

    Its log-density is that of another one: what counts here is its samples.
    """

    def __init__(self, density: pf.Density, draw: Any) -> None:
        super().__init__()
        self.inner, self.draw = density, draw
        self.space = density.space

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        return self.inner.log_prob(x, context)

    def sample(self, n: int, context: Any = None, *, generator: Any = None) -> Any:
        return pa.table(self.draw(n, RNG(generator if isinstance(generator, int) else None)))


def city(n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Towns lie in countries, a part is never above its whole, and a total is the sum of two."""
    number = rng.choice(12, n, p=[0.03, *[0.97 / 11] * 11])
    whole, other = np.exp(rng.normal(size=n)), rng.normal(size=n)
    part = whole * rng.random(n)
    return {
        "town": [f"t{i}" for i in number], "country": [f"c{i // 3}" for i in number],
        "whole": whole, "part": part, "other": other, "total": whole + other,
    }  # fmt: skip


@pytest.fixture(scope="module")
def cities() -> tuple[pf.Density, dict[str, Any], dict[str, Any]]:
    """A density of towns, training rows, held-out rows."""
    train = city(1500, RNG(1))
    with pytest.warns(UserWarning, match="linear function"):
        density = pf.fit_table(train, steps=20, depth=2, width=8, stack=False, progress="none")
    return density, train, city(700, RNG(2))


def samples_of(cities: Any, draw: Any) -> Report:
    density, train, test = cities
    return check(Drawn(density, draw), test, train, questions=["samples"])


def found(report: Report) -> dict[str, str]:
    return {f.name: f.verdict for section in report for f in section.findings}


def test_true_samples_of_a_table_pass(cities: Any) -> None:
    report = samples_of(cities, city)
    assert report.verdicts == {"samples": GOOD}, report.text()
    told = {r["what"] for r in report["relations"].figures["relations"]}
    assert "part <= whole" in told
    assert any(text.startswith("the linear relation of") and "total" in text for text in told)
    x = RNG(1).normal(size=(500, 2)) * [500, 1]
    words = [what for what, _ in linear_relations(np.column_stack([x, x.sum(1)]), ["large", "small", "sum"])]
    assert all("small" in what for what in words)
    assert len(words) == 1
    assert report["utility"].figures["columns"]["total"]["real"] > 0.8
    assert "from data" in report["utility"].why


@pytest.mark.filterwarnings("ignore:.*never seen")
def test_tables_without_repeated_rows_are_not_copied_by_chance() -> None:
    rng = RNG(0)
    every = rng.permutation(np.unique(rng.poisson(9, (6000, 4)), axis=0))
    train, test = every[:2000], every[2000:2500]
    table = {f"x{i}": train[:, i] for i in range(4)}
    density = pf.fit_table(table, steps=20, depth=2, width=8, stack=False, progress="none")
    drawn = Drawn(density, lambda n, rng: {f"x{i}": rng.poisson(9, n) for i in range(4)})
    report = check(drawn, {f"x{i}": test[:, i] for i in range(4)}, table, questions=["samples"])
    figures = report["privacy"].figures
    assert figures["exact_copies"] > 0.1 > (test[:, None] == train).all(2).mean() == 0
    assert report["privacy"].verdict == GOOD, report.text()


def test_what_samples_lose_is_found(cities: Any) -> None:
    train = {name: np.asarray(values) for name, values in cities[1].items()}

    def draw(n: int, rng: np.random.Generator) -> dict[str, Any]:
        rows = {name: np.asarray(values) for name, values in city(n, rng).items()}
        for name in ("country", "part", "total"):
            rows[name] = rng.permutation(rows[name])
        rows["town"] = np.where(rows["town"] == "t0", "t1", rows["town"])
        rows["other"] = np.where(rng.random(n) < 0.05, 30.0, rows["other"])
        copied, which = np.arange(n) % 5 == 0, rng.integers(0, len(train["town"]), n)
        return {name: np.where(copied, train[name][which], values) for name, values in rows.items()}

    report = samples_of(cities, draw)
    lost = {name for name, verdict in found(report).items() if verdict in (DOUBTFUL, BAD)}
    assert lost >= {"classifier", "relation", "combination", "far", "copies", "utility"}, report.text()
    assert report.verdicts["samples"] == BAD


def test_a_rare_category_that_is_lost_is_told(cities: Any) -> None:
    def draw(n: int, rng: np.random.Generator) -> dict[str, Any]:
        rows = city(n, rng)
        return rows | {"town": ["t1" if town == "t0" else town for town in rows["town"]]}

    report = samples_of(cities, draw)
    assert found(report)["rare"] == BAD
    assert report["relations"].figures["rare"]["lost"] == 1
    assert "one of town: 0 % of samples" in report["relations"].table[-1][2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_texts_that_are_nearly_unique_and_come_again_are_told() -> None:
    def people(n: int, rng: np.random.Generator) -> dict[str, Any]:
        names = [f"n{i}" for i in rng.integers(0, 10**6, n)]
        return {"name": [x if rng.random() < 0.8 else "(none)" for x in names], "v": rng.normal(size=n)}

    train, test = people(200, RNG(1)), people(200, RNG(2))
    density = pf.fit_table(train, kinds={"name": "category"}, steps=20, depth=2, width=8, progress="none")
    known = train["name"]
    again = Drawn(density, lambda n, rng: people(n, rng) | {"name": [known[i] for i in rng.integers(0, 200, n)]})
    report = check(again, test, train, questions=["samples"])
    assert found(report)["texts"] == BAD
    assert "name that stands in one training row alone" in " ".join(f.why for f in report["privacy"].findings)
    assert found(check(Drawn(density, people), test, train, questions=["samples"]))["texts"] == GOOD


def test_rare_rows_that_are_singled_out_are_told() -> None:
    train, test = RNG(1).standard_t(2, (1200, 4)), RNG(2).standard_t(2, (1200, 4))
    fitted = torch.tensor(train)
    copier = pf.Flow(pf.Chain(), 4, pf.GaussianMixture(4, 1200, means=fitted, scales=0.1, learnable=False))
    report = check(copier, test, train, questions=["samples"])
    assert found(report)["singled_out"] == BAD
    assert "rare training rows have a sample beside them" in report["privacy"].table[-1][2]


def test_a_question_alone_and_its_answer_are_those_of_the_whole_check() -> None:
    x = RNG(0).normal(size=(900, 2))
    density = fit_gaussian(x[:300])
    whole, part = (check(density, x[600:], x[:600], questions=q) for q in (list(QUESTIONS), ["ranking"]))
    assert list(part.answers) == ["ranking"]
    assert part.answers["ranking"] == whole.answers["ranking"]
    assert {s.name for s in part} == {"leak", "likelihood", "exactness"}
    for wrong in ("ranking", [], ["luck"]):
        with pytest.raises(ValueError, match="questions must be some of ranking, probabilities, samples"):
            check(density, x, questions=wrong)


def test_being_ahead_of_densities_that_had_few_rows_says_nothing() -> None:
    x = RNG(0).normal(size=(400, 2))
    x = np.where(np.arange(400)[:, None] % 2, x - 6, x + 6)
    truth = pf.GaussianMixture(2, 2, means=torch.tensor([[-6.0, -6.0], [6.0, 6.0]]), learnable=False)
    few = check(pf.Flow(pf.Chain(), 2, truth), x[:36], questions=["ranking"])
    assert few.verdicts == {"ranking": UNKNOWN}
    assert "had 18 rows to learn from" in few.answers["ranking"].why
    assert check(pf.Flow(pf.Chain(), 2, truth), x[:36], x[36:], questions=["ranking"]).verdicts == {"ranking": GOOD}
    worse = check(pf.Flow(pf.Chain(), 2), x[:36], questions=["ranking"])  # a loss against them says much
    assert worse.verdicts == {"ranking": BAD}
    assert "does better on new rows" in worse.answers["ranking"].why


def test_a_model_that_learned_by_heart_is_no_copier() -> None:
    """Training rows far likelier than others cost held-out likelihood, and make no copies by themselves."""
    rng = RNG(0)
    train, test = rng.normal(size=(150, 20)), rng.normal(size=(800, 20))
    report = check(fit_gaussian(train), test, train)
    assert report["likelihood"].figures["fit_gap"] > 2
    assert report["privacy"].verdict == GOOD


def test_the_rule_that_joins_findings() -> None:
    ok = [Finding("behind", GOOD, "ahead"), Finding("coverage", GOOD, "calibrated"), Finding("tails", UNKNOWN, "few")]
    assert answer("ranking", ok, {}).verdict == GOOD
    assert answer("probabilities", ok, {}).why == "calibrated"
    unsure = [Finding("coverage", UNKNOWN, "too few rows"), *ok[::2]]
    assert (answer("probabilities", unsure, {}).verdict, answer("ranking", unsure, {}).verdict) == (UNKNOWN, GOOD)
    off = [Finding("tails", DOUBTFUL, "light"), Finding("latents", BAD, "bent"), *ok[:2]]
    answered = answer("probabilities", off, {})
    limits = "good up to 5 points, bad beyond 15"
    assert (answered.verdict, answered.why) == (BAD, f"bent; {limits} (see also tails: doubtful)")
    assert answered.line == f"BAD: bent; {limits} (see also tails: doubtful)"
    assert answered.advice.startswith("fit for longer")
    assert answer("ranking", off, {}).advice == ""
    absent = answer("samples", ok, {"two_sample": "3 rows are too few"})
    assert (absent.verdict, absent.why) == (UNKNOWN, "3 rows are too few")


def test_limits() -> None:
    assert {t.section for t in THRESHOLDS} == {
        "leak", "likelihood", "exactness", "calibration", "tails", "two_sample", "columns", "relations", "utility",
        "privacy",
    }  # fmt: skip
    for t in THRESHOLDS:
        assert t.good < t.bad
        assert set(t.questions) <= set(QUESTIONS)
        middle = min((t.good + t.bad) / 2, t.good + 1)
        assert [rate(t.name, v, 0) for v in (t.good, middle)] == [GOOD, DOUBTFUL]
        assert math.isinf(t.bad) or rate(t.name, 1.01 * t.bad, 0) == BAD
    page = Path(__file__).parents[1] / "docs" / "verdicts.md"
    assert thresholds.markdown() in page.read_text()


def test_the_noise_of_two_shares() -> None:
    rng = RNG(0)
    for p in (0.001, 0.05, 0.5):
        a, b = rng.binomial(400, p, 20_000) / 400, rng.binomial(9000, p, 20_000) / 9000
        alarms = [x - y > share_noise(x, 400, y, 9000) for x, y in zip(a, b, strict=True)]
        assert np.mean(alarms) <= 1.5 * ALPHA


def null_rate(density: pf.Density, rows: int, seeds: range) -> Counter[tuple[str, str]]:
    """Answers for rows that were drawn from the density itself."""
    counts: Counter[tuple[str, str]] = Counter()
    space = density.space
    for seed in seeds:
        train, test = (
            space.flatten_samples(density.sample(n, generator=3 * seed + k)) for k, n in ((1, 2 * rows), (2, rows))
        )
        counts.update(check(density, test, train, seed=seed).verdicts.items())
    return counts


def mixture() -> pf.Density:
    x = np.concatenate([RNG(0).normal(-2, 1, (2000, 3)), RNG(1).normal(2, 0.5, (1000, 3))])
    return fit_gaussian_mixture(x, 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mixture", "table"])
def test_rows_drawn_from_the_model_pass_at_their_nominal_rate(kind: str) -> None:
    density = mixture()
    if kind == "table":
        with pytest.warns(UserWarning, match="linear function"):
            density = pf.fit_table(city(2000, RNG(1)), steps=100, depth=2, width=16, progress="none")
    seeds = range(5)  # benchmarks/verdicts.py takes 200
    counts = null_rate(density, 400, seeds)
    for name in QUESTIONS:
        alarms = counts[name, DOUBTFUL] + counts[name, BAD]
        assert alarms <= 1, counts  # with 3 in 100, two or more of 5 come in 1 of 120 runs
        assert counts[name, GOOD] >= 0.8 * len(seeds), counts


def test_the_findings_that_chance_decides_are_as_many_as_is_said() -> None:
    exact = {"no_density", "map", "rounding", "lost"}  # chance gives none
    counts = [
        sum(question in t.questions and t.name not in exact for t in thresholds.THRESHOLDS)
        for question in thresholds.QUESTIONS
    ]
    assert f"at most {max(counts)} findings that chance decides" in (thresholds.__doc__ or "")
    assert max(counts) * ALPHA <= 0.03  # at most 3 of 100
