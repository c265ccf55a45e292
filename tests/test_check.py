"""The check of a density: right verdicts on good and on broken models, right figures, and manners with odd data."""

from __future__ import annotations

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

import pushforward as pf
from pushforward.arguments import as_generator
from pushforward.baselines import fit_gaussian
from pushforward.checks import Report, check
from pushforward.checks.stats import GOOD
from pushforward.density import Feature, Tensors
from pushforward.io.tables import read_table

RNG = np.random.default_rng
DENSITY = ("ranking", "probabilities")  # what is asked where samples do not matter, which takes longest


class Scale(pf.Bijection):
    """z = (x - shift) / scale, with a log-determinant that may be wrong."""

    def __init__(self, scale: float = 1.0, shift: float = 0.0, log_det_error: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([scale, shift]))
        self.error = log_det_error

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = (x - self.weight[1]) / self.weight[0]
        return z, (-x[0].numel() * self.weight[0].log() + self.error).expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * self.weight[0] + self.weight[1], (z[0].numel() * self.weight[0].log()).expand(len(z))


def normal(rows: int, features: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).standard_normal((rows, features))


def scaled(features: int, **options: float) -> pf.Flow:
    return pf.Flow(Scale(**options), features)


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
    found = {s.name: s.figures for s in true_model}
    entropy = 1 + math.log(2 * math.pi)
    likelihood = found["likelihood"]
    assert likelihood["mean"] == pytest.approx(-entropy, abs=4 * likelihood["se"])
    assert likelihood["se"] == pytest.approx(1 / math.sqrt(2000), rel=0.1)  # the variance of log p is D / 2 = 1
    assert abs(likelihood["baselines"]["gaussian"]["gain"]) < 0.01
    assert found["exactness"]["integral"] == pytest.approx(1, abs=1e-4)
    for level in found["calibration"]["coverage"]:
        assert level["coverage"] == pytest.approx(level["level"], abs=4 * level["se"])
    assert found["two_sample"]["auc"] == pytest.approx(0.5, abs=0.05)
    for tail, share in found["tails"]["shares"].items():
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


class Follow(pf.Bijection):
    """z = x - context."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert context is not None
        return x - context, torch.zeros(len(x), dtype=x.dtype)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert context is not None
        return z + context, torch.zeros(len(z), dtype=z.dtype)


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
        "leak", "likelihood", "calibration", "two_sample", "columns", "privacy", "tails"
    }  # fmt: skip
    assert "no flow" in report["exactness"].why
    stack = pf.Mixture([fit_gaussian(x[1500:]), scaled(1).double()])
    assert set(check(stack, x[:1500], x[1500:]).verdicts.values()) == {GOOD}


def test_rows_that_are_no_vectors() -> None:
    x = RNG(1).standard_normal((1500, 1, 2, 2))
    report = check(pf.Flow(pf.Chain(), (1, 2, 2)), x)
    assert set(report.verdicts.values()) == {GOOD}, report.text()
    assert report["exactness"].figures["integral"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("rows", [1, 2, 15])
def test_few_rows_cannot_tell(rows: int) -> None:
    report = check(scaled(2), normal(rows, 2))
    assert set(report.verdicts.values()) == {"cannot tell"}
    assert "GOOD        Exact" in report.text()
    assert "too few" in report.answers["ranking"].why


def test_more_rows_than_are_used_at_a_time() -> None:
    report = check(scaled(1), normal(3000, 1), max_rows=200, questions=DENSITY)
    assert report.about["used"] == 200
    assert report["likelihood"].figures["rows"] == 3000


def test_a_constant_column_is_told_and_the_others_are_compared() -> None:
    x = normal(600, 2)
    x[:, 1] = 3.0
    base = pf.GaussianMixture(
        2, 1, means=torch.tensor([[0.0, 3.0]]), scales=torch.tensor([[1.0, 1e-3]]), learnable=False
    )
    report = check(pf.Flow(pf.Chain(), 2, base), x, columns=["a", "flat"], questions=DENSITY)
    assert ["constant", "", "flat: simple densities take the model's own spread of it"] in report["likelihood"].table
    assert report["likelihood"].verdict == GOOD
    assert abs(report["likelihood"].figures["baselines"]["gaussian"]["gain"]) < 0.05
    base = pf.GaussianMixture(
        2, 1, means=torch.tensor([[2.0, 3.0]]), scales=torch.tensor([[1.0, 1e-3]]), learnable=False
    )
    assert check(pf.Flow(pf.Chain(), 2, base), x, questions=DENSITY)["likelihood"].verdict == "bad"


@pytest.mark.parametrize("constant", [["x"], [7]])
@pytest.mark.slow
def test_a_constant_column_of_a_table_leaves_the_others_to_be_compared(constant: list) -> None:
    rng = RNG(0)
    rows = {"same": constant * 800, "v": rng.normal(size=800), "w": rng.normal(size=800) + 5}
    density = pf.fit_table(rows, steps=60, depth=2, width=8, progress="none")
    smaller = pf.fit_table({"v": rows["v"], "w": rows["w"]}, steps=60, depth=2, width=8, progress="none")
    new = {"same": constant * 800, "v": rng.normal(size=800), "w": rng.normal(size=800) + 5}
    section, other = (check(d, new, rows, questions=["ranking"])["likelihood"] for d in (density, smaller))
    assert section.verdict == other.verdict == GOOD
    for name, figures in section.figures["baselines"].items():
        assert figures["mean"] == pytest.approx(other.figures["baselines"][name]["mean"], abs=0.02)


def test_repeated_values_are_told() -> None:
    report = check(scaled(2), normal(1000, 2).round(1), columns=["a", "b"], questions=DENSITY)
    assert "values repeat in a, b" in report["likelihood"].why


def test_rows_without_density_are_bad() -> None:
    uniform = torch.distributions.Uniform(torch.zeros(2), torch.ones(2))
    x = RNG(0).random((500, 2))
    x[7] = 3.0
    report = check(pf.Flow(pf.Chain(), 2, uniform), x, row_numbers=range(1, 501), questions=DENSITY)
    assert report["likelihood"].verdict == "doubtful"  # it ranks last, as it should, and has no probability
    assert "row 8" in report["likelihood"].why
    assert report["tails"].figures["least_likely"][0]["row"] == 8


def test_one_row_that_decides_the_mean_is_named_as_such() -> None:
    x = normal(800, 2)
    x[3] = 1e4
    report = check(scaled(2), x[:400], normal(800, 2, 1), questions=DENSITY)
    assert report.verdicts["ranking"] == GOOD  # it is an outlier
    assert report.verdicts["probabilities"] == "doubtful"
    assert "one row costs" in report.answers["probabilities"].why


def test_bad_input_says_what_is_wrong() -> None:
    x = normal(50, 2)
    with pytest.raises(ValueError, match=r"test: expected rows of shape \(N, 2\)"):
        check(scaled(2), normal(50, 3))
    with pytest.raises(ValueError, match=r"test: expected rows.*got \(0, 2\)"):
        check(scaled(2), x[:0])
    with pytest.raises(ValueError, match=r"finite.*row 4"):
        check(scaled(2), np.where(np.arange(50)[:, None] == 4, np.nan, x))
    with pytest.raises(ValueError, match="2 column names"):
        check(scaled(2), x, columns=["a"])
    with pytest.raises(ValueError, match="a density"):
        check("model", x)
    with pytest.raises(ValueError, match="row_numbers"):
        check(scaled(2), x, row_numbers=[1])


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
    assert text.startswith("May I rank rows and find outliers with it?\n    GOOD: ")
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


class KindAndSize(Tensors):
    """Rows of a kind, 0 for "a" and 1 for "b", and a size, NaN where it is missing."""

    names, sizes = ("kind", "size"), (2, 2)

    def __init__(self) -> None:
        super().__init__((2,))
        self.names = ("kind", "size")

    def read(self, source: Any) -> Tensor:
        if "kind" not in source:
            raise ValueError("'kind' is absent")
        return torch.stack([torch.as_tensor(source[name], dtype=torch.float64) for name in self.names], 1)

    @property
    def feature_list(self) -> list[Feature]:
        own = (("kind = a", 0, True), ("kind = b", 0, True), ("size", 1, False), ("size missing", 1, True))
        return [Feature(*feature) for feature in own]

    def features(self, rows: Tensor) -> np.ndarray:
        kind, size = rows.double().numpy().T
        return np.stack([1 - kind, kind, np.nan_to_num(size), np.isnan(size)], 1)

    def encode(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The kind, whether the size is missing, the size."""
        return torch.stack([rows[:, 0], rows[:, 1].isnan(), rows[:, 1]], 1)

    def wrap(self, inner: pf.Density) -> pf.Density:
        return Encoded(inner, self)

    def matches(self, other: pf.Space) -> bool:
        return isinstance(other, KindAndSize)


class Encoded(pf.Density):
    """The density of rows whose encoding has some density."""

    def __init__(self, inner: pf.Density, space: pf.Space) -> None:
        super().__init__()
        self.inner, self.space = inner, space

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        return self.inner.log_prob(self.space.encode(x), context)

    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        drawn = self.inner.sample(n, context, generator=generator)
        return torch.stack([drawn[:, 0], drawn[:, 2].where(drawn[:, 1] == 0, math.nan)], 1)


class Mixed(pf.Density):
    """Half of the rows are ("a", N(0, 1)), the others ("b", N(3, 1)); a tenth of the numbers is missing."""

    def __init__(self, share: float = 0.5, missing: float = 0.1) -> None:
        super().__init__()
        self.space, self.share, self.missing = KindAndSize(), share, missing

    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        generator = as_generator(generator)
        uniform = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        kind = (uniform[:, 0] > self.share).double()
        size = torch.randn(n, generator=generator, dtype=torch.float64) + 3 * kind
        return torch.stack([kind, size.where(uniform[:, 1] > self.missing, math.nan)], 1)

    def log_prob(self, x: Tensor, context: Any = None) -> Tensor:
        first, z = x[:, 0] == 0, x[:, 1] - 3 * x[:, 0]
        density = math.log(1 - self.missing) - 0.5 * z**2 - 0.5 * math.log(2 * math.pi)
        share = torch.where(first, self.share, 1 - self.share).log()
        return share + torch.where(z.isnan(), math.log(self.missing), density)

    def latent(self, x: Tensor, context: Any = None) -> Tensor:
        z, noise = x[:, 1] - 3 * x[:, 0], torch.randn(len(x), generator=as_generator(0), dtype=x.dtype)
        return torch.where(z.isnan(), noise, z)[:, None]


def columns_of(rows: Tensor) -> dict[str, Tensor]:
    return {"size": rows[:, 1], "kind": rows[:, 0]}


@pytest.mark.slow
def test_rows_of_a_space_that_checks_do_not_know() -> None:
    truth = Mixed()
    test, train = truth.sample(1500, generator=1), columns_of(truth.sample(2000, generator=2))
    report = check(truth, columns_of(test), train)
    assert set(report.verdicts.values()) == {GOOD}, report.text()
    assert report["likelihood"].figures["mean"] == pytest.approx(float(truth.log_prob(test).mean()))
    assert list(report["likelihood"].figures["baselines"]) == ["gaussian", "mixture", "classes", "kernel"]
    assert report["likelihood"].figures["baselines"]["gaussian"]["gain"] > 0.1  # which follows no kind
    compared = {f["column"]: f["ks"] for f in report["columns"].figures["columns"]}
    assert set(compared) == {"kind = a", "kind = b", "size", "size missing"}
    off = check(Mixed(share=0.8), columns_of(test), train)
    assert off.verdicts["samples"] == "bad"
    compared = {f["column"]: f["ks"] for f in off["columns"].figures["columns"]}
    assert compared["kind = a"] == pytest.approx(0.3, abs=0.05)
    assert off["two_sample"].figures["telling_columns"][0]["column"] == "kind"
    assert check(Mixed(missing=0.4), columns_of(test), train)["columns"].verdict == "bad"
    with pytest.raises(ValueError, match="test: 'kind' is absent"):
        check(truth, {"size": test[:, 1]})
    report = check(pf.Mixture([truth, Mixed(share=0.8)], [0.9, 0.1]), columns_of(test), train)
    assert "bad" not in report.verdicts.values()


@pytest.mark.slow
def test_a_fitted_table_is_judged_as_a_flow_is() -> None:
    rng = np.random.default_rng(0)
    colour = rng.choice(["red", "green", "blue"], 1500, p=[0.5, 0.3, 0.2])
    size = rng.normal(size=1500) + 2 * (colour == "red")
    price = np.where(rng.random(1500) < 0.1, np.nan, 0.5 * size + rng.normal(size=1500))
    rows = {"colour": colour, "size": size, "count": rng.poisson(4, 1500), "price": pa.array(price, from_pandas=True)}
    table = pa.table(rows)
    train, test = table.slice(0, 1200), table.slice(1200)
    for given in ([], ["colour", "size"]):
        density = pf.fit_table(train, given=given, steps=150, progress="none", stack=False)
        report = check(density, test, train)
        assert report["exactness"].verdict == "good"
        assert "bad" not in report.verdicts.values(), report.text()
        likelihood = report["likelihood"].figures
        assert likelihood["mean"] == pytest.approx(float(density.log_prob(test).mean()))
        assert abs(likelihood["baselines"]["gaussian"]["gain"]) < 1  # both in the units that the rows decide
    halved = train.set_column(1, "size", pa.array(0.5 * size[:1200]))
    other = check(pf.fit_table(halved, steps=150, progress="none", stack=False), test, train)
    assert other.verdicts["probabilities"] == other.verdicts["samples"] == "bad"


def test_a_csv_with_missing_words_and_rare_ones_is_judged(tmp_path: Path) -> None:
    rng = RNG(0)
    words = np.array([f"w{i}" for i in range(60)])[np.minimum(rng.zipf(1.6, 1200), 60) - 1]
    words[rng.random(1200) < 0.1] = ""
    sizes = rng.normal(size=1200) + (words == "w0")
    path = tmp_path / "t.csv"
    lines = [f"{w},{s:.6f}" for w, s in zip(words, sizes, strict=True)]
    path.write_text("\n".join(["word,size", *lines[:1000]]) + "\n")
    train = read_table(path)
    path.write_text("\n".join(["word,size", *lines[1000:], "new,0.5", "newer,0.1"]) + "\n")
    test = read_table(path)
    density = pf.fit_table(train, steps=200, depth=2, width=16, progress="none", stack=False)
    assert density.schema["word"].missing
    with pytest.warns(UserWarning, match="a category never seen"):
        report = check(density, test, train)
    likelihood = report["likelihood"]
    assert likelihood.figures["impossible"] == 0
    assert likelihood.figures["unseen"] >= len({*words[1000:]} - {*words[:1000]}) > 0
    assert any("never seen in training" in remark for *_, remark in likelihood.table)
    assert math.isfinite(likelihood.figures["mean"])
    assert likelihood.verdict == GOOD
    # Two rare words that share one row are no strong correlation, and one of them more or less is no wrong column.
    assert report["columns"].verdict in (GOOD, "cannot tell")
    assert report["columns"].figures["correlation"]["real_largest"] < 0.5


def test_a_lack_of_scikit_learn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"v": normal(400, 1)[:, 0], "w": np.array(["a", "b"] * 200)}
    density = pf.fit_table(rows, steps=20, depth=2, width=8, progress="none", stack=False)
    for name in ("sklearn", "sklearn.exceptions", "sklearn.mixture"):
        monkeypatch.setitem(sys.modules, name, None)
    section = check(density, rows, rows, questions=["ranking"])["likelihood"]
    assert any("need scikit-learn: pip install" in remark for *_, remark in section.table)


def test_baselines_of_rounded_numbers_count_as_the_model_does() -> None:
    rng = RNG(0)
    values = np.where(rng.random(3000) < 0.8, np.round(rng.normal(50, 20, 3000)), np.round(rng.normal(50, 20, 3000), 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density = pf.fit_table({"v": values[:2000]}, steps=300, progress="none", stack=False)
        report = check(density, {"v": values[2000:]}, {"v": values[:2000]}, questions=DENSITY)
    # A Gaussian is the truth, but for the rounding: the model cannot be far above it if they are in one unit.
    assert abs(report["likelihood"].figures["baselines"]["gaussian"]["gain"]) < 0.15
