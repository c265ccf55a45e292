"""The check of a density: right verdicts on good and on broken models, right figures, and the report of them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pushforward as pf
from checked import DENSITY, RNG, Follow, Scale, normal, scaled
from pushforward.baselines import fit_gaussian
from pushforward.checks import Report, check
from pushforward.checks.stats import GOOD


@pytest.fixture(scope="module")
def true_model() -> Report:
    return check(scaled(2), normal(2000, 2), normal(3000, 2, 1), columns=["a", "b"])


def test_the_true_density_is_good_in_every_section(true_model: Report) -> None:
    assert true_model.verdicts == dict.fromkeys(("ranking", "probabilities", "samples"), GOOD)
    assert {s.name: s.verdict for s in true_model} == {
        **dict.fromkeys(
            ("leak", "likelihood", "exactness", "calibration", "two_sample", "columns", "privacy", "tails"), GOOD
        ),
        **dict.fromkeys(("relations", "utility"), "cannot tell"),  # its columns are independent
    }


def test_the_figures_are_those_of_closed_forms(true_model: Report) -> None:
    figures = {s.name: s.figures for s in true_model}
    entropy = 1 + math.log(2 * math.pi)
    likelihood = figures["likelihood"]
    assert likelihood["mean"] == pytest.approx(-entropy, abs=4 * likelihood["se"])
    assert likelihood["se"] == pytest.approx(1 / math.sqrt(2000), rel=0.1)  # the variance of log p is D / 2 = 1
    assert abs(likelihood["baselines"]["gaussian"]["gain"]) < 0.01
    assert figures["exactness"]["integral"] == pytest.approx(1, abs=1e-4)
    for level in figures["calibration"]["coverage"]:
        assert level["coverage"] == pytest.approx(level["level"], abs=4 * level["se"])
    assert figures["two_sample"]["auc"] == pytest.approx(0.5, abs=0.05)
    for tail, share in figures["tails"]["shares"].items():
        assert share["share"] == pytest.approx(float(tail), abs=4 * share["se"] + 1e-3)


def test_a_wrong_log_determinant_is_bad_in_exactness() -> None:
    report = check(scaled(2, log_det_error=0.5), normal(1500, 2), normal(1500, 2, 1), questions=DENSITY)
    assert report["exactness"].verdict == "bad"
    assert report.verdicts["ranking"] == report.verdicts["probabilities"] == "bad"
    figures = report["exactness"].figures
    assert figures["logdet_max_float64"] == pytest.approx(0.5, abs=1e-6)
    assert figures["integral"] == pytest.approx(math.exp(0.5), abs=1e-3)
    # The claimed density is e^0.5 times too high: it seems to beat the truth, and only exactness knows better.
    assert report["likelihood"].verdict == GOOD


class TooHigh(pf.Density):
    """A standard normal density in two dimensions, times e^0.5, with no flow inside."""

    def __init__(self) -> None:
        super().__init__()
        self.space = pf.density.Vectors(2)

    def log_prob(self, x: Any, context: Tensor | None = None) -> Tensor:
        x = torch.as_tensor(x)
        return -x.square().sum(1) / 2 - math.log(2 * math.pi) + 0.5

    def sample(
        self, n: int, context: Tensor | None = None, *, generator: torch.Generator | int | None = None
    ) -> Tensor:
        assert isinstance(generator, int)
        return torch.randn(n, 2, generator=torch.Generator().manual_seed(generator))


def test_a_density_without_a_flow_is_integrated() -> None:
    report = check(TooHigh(), normal(1500, 2), normal(1500, 2, 1), questions=DENSITY)
    assert report.verdicts["ranking"] == report.verdicts["probabilities"] == "bad"
    assert report["exactness"].figures["integral"] == pytest.approx(math.exp(0.5), abs=1e-3)


@pytest.mark.parametrize(("features", "error"), [(1, 0.3), (4, -0.4), (8, 0.3)])
def test_the_integral_is_measured_without_the_map(features: int, error: float) -> None:
    figures = check(scaled(features, log_det_error=error), normal(600, features), questions=DENSITY)[
        "exactness"
    ].figures
    assert figures["integral"] == pytest.approx(math.exp(error), abs=max(5 * figures["integral_error"], 1e-6))
    assert figures["integral_error"] < 0.03


def test_a_density_that_is_too_wide() -> None:
    report = check(scaled(2, scale=1.5), normal(2000, 2), normal(2000, 2, 1))
    assert report.verdicts["probabilities"] == "bad"
    for name in ("likelihood", "calibration", "two_sample"):
        assert report[name].verdict in ("doubtful", "bad"), name
    # E log N(0, 1) - E log N(0, 1.5^2), a column: log 1.5 - (1 - 1 / 1.5^2) / 2
    gap = 2 * (math.log(1.5) - (1 - 1 / 1.5**2) / 2)
    gaussian = report["likelihood"].figures["baselines"]["gaussian"]
    assert gaussian["gain"] == pytest.approx(-gap, abs=4 * gaussian["gain_se"] + 0.005)
    # Radii are Rayleigh: F(r) - F(r / 1.5) is largest where the two densities meet.
    at = 2 * math.log(1.5**2) / (1 - 1 / 1.5**2)
    largest = math.exp(-at / 2 / 1.5**2) - math.exp(-at / 2)
    assert report["calibration"].figures["radius"]["ks"] == pytest.approx(largest, abs=0.03)
    assert report["exactness"].verdict == GOOD
    assert "heavy" in report["tails"].why


def test_shifted_samples_are_told_apart() -> None:
    report = check(scaled(2, shift=1.0), normal(2000, 2), normal(2000, 2, 1))
    for name in ("likelihood", "calibration", "two_sample", "columns"):
        assert report[name].verdict == "bad", name
    assert report["exactness"].verdict == GOOD
    # Two normals a distance d apart: AUC = Phi(d / sqrt 2), d = sqrt 2 here; KS of a column 2 Phi(1 / 2) - 1.
    figures = report["two_sample"].figures
    assert figures["auc"] == pytest.approx(0.8413, abs=0.03)
    assert figures["real_auc"] == pytest.approx(0.5, abs=0.04)
    assert report["columns"].figures["columns"][0]["ks"] == pytest.approx(0.3829, abs=0.05)
    assert report["columns"].figures["columns"][0]["w1"] == pytest.approx(1.0, abs=0.1)


def test_a_memoriser_is_found() -> None:
    train, test = normal(120, 3), normal(1000, 3, 1)
    base = pf.GaussianMixture(3, 120, means=torch.tensor(train), scales=0.004, learnable=False)
    report = check(pf.Flow(pf.Chain(), 3, base), test, train)
    assert report["privacy"].verdict == "bad"
    assert report.verdicts["samples"] == "bad"
    assert report["privacy"].figures["closer"] > 0.9
    assert report["likelihood"].figures["fit_gap"] > 1
    assert report["likelihood"].verdict == "bad"


def test_test_rows_that_were_trained_on_are_found() -> None:
    rows = normal(800, 2)
    report = check(scaled(2), rows, rows)
    assert set(report.verdicts.values()) == {"bad"}
    assert all("are training rows" in answer.why for answer in report.answers.values())


def test_a_dropped_mode_is_found() -> None:
    rng = RNG(0)
    x = rng.standard_normal((2500, 2)) * 0.5 + np.where(rng.random(2500) < 0.15, 6.0, 0.0)[:, None]
    report = check(scaled(2, scale=0.5), x[:1500], x[1500:])
    for name in ("likelihood", "calibration", "tails", "columns"):
        assert report[name].verdict == "bad", name
    assert report["tails"].figures["shares"]["0.01"]["share"] == pytest.approx(0.15, abs=0.05)
    listed = report["tails"].figures["least_likely"]
    assert all(x[row["row"], 0] > 4 for row in listed)
    assert [row["log_density"] for row in listed] == sorted(row["log_density"] for row in listed)


def test_dependent_latents_are_found_where_marginals_are_right() -> None:
    x = normal(2000, 2) @ np.linalg.cholesky([[1, 0.6], [0.6, 1]]).T
    report = check(scaled(2), x, questions=DENSITY)
    findings = {f.name: f.verdict for f in report["calibration"].findings}
    assert findings["latents"] == GOOD
    assert findings["latent_correlation"] == "bad"
    assert report.verdicts["probabilities"] == "bad"


def test_a_base_that_is_no_normal_is_judged_by_its_own_law() -> None:
    base = pf.GaussianMixture(1, 2, means=torch.tensor([[-4.0], [4.0]]), learnable=False)
    rng = RNG(3)
    x = rng.standard_normal((1500, 1)) + np.where(rng.random((1500, 1)) < 0.5, 4, -4)
    assert check(pf.Flow(pf.Chain(), 1, base), x[:, 0], questions=DENSITY)["calibration"].verdict == GOOD
    assert check(pf.Flow(pf.Chain(), 1, base), x + 2, questions=DENSITY)["calibration"].verdict == "bad"


def test_a_conditional_flow_is_checked_with_its_contexts() -> None:
    flow = pf.Flow(Follow(), 1, context_dim=1)
    rng = RNG(5)
    context = rng.standard_normal((3000, 1))
    x = context + rng.standard_normal((3000, 1))
    good = check(flow, x[:1500], x[1500:], context=context[:1500], train_context=context[1500:])
    assert set(good.verdicts.values()) == {GOOD}, good.text()
    assert good["likelihood"].figures["baselines"]["gaussian"]["mean"] == pytest.approx(-1.4189, abs=0.1)
    shuffled = rng.permutation(context)
    assert set(check(flow, x[:1500], context=shuffled[:1500]).verdicts.values()) == {"bad"}
    with pytest.raises(ValueError, match=r"a context of shape \(N, 1\)"):
        check(flow, x)
    with pytest.raises(ValueError, match="as many contexts"):
        check(flow, x, context=context[:10])


@pytest.mark.slow
def test_a_mixture_is_checked_as_one_density() -> None:
    halves = [pf.Flow(Scale(shift=shift), 1) for shift in (-2.0, 2.0)]
    rng = RNG(0)
    x = rng.standard_normal((3000, 1)) + rng.choice([-2.0, 2.0], (3000, 1))
    report = check(pf.Mixture(halves), x[:1500], x[1500:])
    assert set(report.verdicts.values()) == {GOOD}, report.text()
    assert "of 2 flows" in report.text()
    assert [f.name for f in report["calibration"].findings] == ["coverage"]  # there is no single latent space
    wrong = [halves[0], pf.Flow(Scale(shift=2.0, log_det_error=0.5), 1)]
    exactness = check(pf.Mixture(wrong), x[:1500], x[1500:])["exactness"]
    assert exactness.verdict == "bad"
    assert exactness.figures["integral"] == pytest.approx(math.exp(0.5), abs=1e-3)
    heavier = check(pf.Mixture(halves, [0.9, 0.1]), x[:1500], x[1500:])
    assert heavier.verdicts["probabilities"] == heavier.verdicts["samples"] == "bad"


def test_a_conditional_mixture_is_checked_with_its_contexts() -> None:
    class Against(Follow):
        def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return super().forward(x, None if context is None else -context)

        def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return super().inverse(z, None if context is None else -context)

    rng = RNG(5)
    context = rng.standard_normal((3000, 1)) * 3
    x = context * rng.choice([-1, 1], (3000, 1)) + rng.standard_normal((3000, 1))
    mixture = pf.Mixture([pf.Flow(Follow(), 1, context_dim=1), pf.Flow(Against(), 1, context_dim=1)])
    report = check(mixture, x[:1500], x[1500:], context=context[:1500], train_context=context[1500:])
    assert set(report.verdicts.values()) == {GOOD}, report.text()
    assert check(mixture[0], x[:1500], context=context[:1500], questions=DENSITY).verdicts["probabilities"] == "bad"


def test_baselines_are_checked_as_densities() -> None:
    x = normal(3000, 1)
    report = check(fit_gaussian(x[1500:]), x[:1500], x[1500:])
    assert {s.name for s in report if s.verdict == GOOD} == {
        "leak", "likelihood", "exactness", "calibration", "two_sample", "columns", "privacy", "tails"
    }  # fmt: skip
    assert "integrates" in report["exactness"].why
    stack = pf.Mixture([fit_gaussian(x[1500:]), scaled(1).double()])
    assert set(check(stack, x[:1500], x[1500:]).verdicts.values()) == {GOOD}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_report_and_the_global_generators_are_left_alone() -> None:
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    reports = [check(scaled(2), normal(300, 2), normal(300, 2, 1), seed=s).to_json() for s in (1, 1, 2)]
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    first, again, other = ({k: v for k, v in r.items() if k != "seconds"} for r in reports)
    assert first == again
    assert first["sections"] != other["sections"]


def test_the_report_as_text_json_and_html(true_model: Report, tmp_path: Any) -> None:
    text = true_model.text()
    assert text.startswith("May I rank rows by how likely they are?\n    GOOD: ")
    assert max(map(len, text.splitlines())) <= 120
    figures = json.loads(json.dumps(true_model.to_json(), allow_nan=False))
    assert [a["verdict"] for a in figures["answers"].values()] == [GOOD] * 3
    assert figures["sections"]["exactness"]["figures"]["integral"] == pytest.approx(1, abs=1e-3)
    page = true_model.to_html(tmp_path / "report.html", title="a < b").read_text()
    assert "<title>a &lt; b</title>" in page
    assert page.count("data:image/png;base64,") >= 8
    assert "http" not in page.replace("http-equiv", "")
    assert all(s.title in page for s in true_model)
    assert all(answer.question in page for answer in true_model.answers.values())


def test_a_page_of_a_check_that_found_little(tmp_path: Any) -> None:
    check(scaled(1), normal(3, 1)).to_html(tmp_path / "few.html")
    assert "cannot tell" in (tmp_path / "few.html").read_text()


def test_a_section_that_is_not_there(true_model: Report) -> None:
    with pytest.raises(KeyError, match="likelihood"):
        true_model["luck"]


@pytest.mark.slow
def test_a_flow_trained_on_moons_is_better_than_one_hardly_trained() -> None:
    from pushforward.toys import TOYS

    x = TOYS["moons"]().sample(14_000, generator=torch.Generator().manual_seed(0))
    order, words = [], ("good", "cannot tell", "doubtful", "bad")
    for steps in (40, 1500):
        flow = pf.real_nvp(2, seed=0)
        pf.fit(flow, x[:12_000], steps=steps, seed=0, progress="none")
        report = check(flow, x[12_000:], x[:12_000])
        order.append(sum(words.index(s.verdict) for s in report))
    assert order[1] < order[0] - 3
    assert report["two_sample"].verdict == GOOD  # type: ignore[possibly-undefined]


def test_the_column_that_is_named_is_the_one_that_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    distances = [
        {"column": "a", "ks": 0.07, "real_ks": 0.0, "w1": 0.0, "real_w1": 0.0},
        {"column": "b", "ks": 0.3, "real_ks": 0.24, "w1": 0.0, "real_w1": 0.0},
    ]
    monkeypatch.setattr("pushforward.checks.columns._distances", lambda *args: distances)
    report = check(scaled(2), normal(1000, 2), normal(1000, 2, 1), questions=["samples"])
    noise = report["columns"].figures["ks_noise"]
    assert 0.06 < noise < 0.3 - (0.24 - noise)  # b is off by more than a, and than real rows by less
    assert [row[0] for row in report["columns"].table[:2]] == ["b", "a"]
    assert next(f for f in report["columns"].findings if f.name == "column").why.startswith("column b is off")


def test_relations_are_found_whatever_columns_are_called() -> None:
    x = normal(1500, 3)
    x[:, 2] = x[:, 0] + x[:, 1]
    for columns in (None, ["a", "b", "c"]):
        section = check(scaled(3), x[:500], x[500:], columns=columns, questions=["samples"])["relations"]
        assert section.verdict == "bad", section
