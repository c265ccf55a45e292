"""What a training is told: objectives, metrics, optimizers, settings; and what it takes for granted for which data."""

from __future__ import annotations

import dataclasses
import inspect
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pushforward as pf
from pushforward.io.tensors import read_tensors
from pushforward.switch import PLAIN
from pushforward.toys import TwoMoons
from pushforward.training import Batch, TrainSettings, negative_log_likelihood
from pushforward.training import run as run_module
from pushforward.training.auto import complete
from pushforward.training.run import operations, threads_for
from pushforward.training.settings import check_settings


def moons(n: int = 1000, seed: int = 0) -> torch.Tensor:
    return TwoMoons().sample(n, generator=torch.Generator().manual_seed(seed))


def small(features: int = 2, seed: int = 0, **kwargs: object) -> pf.Flow:
    return pf.real_nvp(features, depth=4, width=16, seed=seed, **kwargs)  # type: ignore[arg-type]


def mean_nll(density: pf.Density, x: torch.Tensor) -> float:
    with torch.no_grad():
        return -float(density.log_prob(x).mean())


# Objectives and metrics


def test_an_objective_of_ones_own_is_what_is_lowered() -> None:
    """Rows to the left count nothing: the flow learns the others alone."""
    x = torch.cat([torch.randn(1000, 2) - 4, torch.randn(1000, 2) + 4])

    def right(density: pf.Density, batch: Batch) -> torch.Tensor:
        return -(density(batch.x) * (batch.x[:, 0] > 0)).mean()

    flow = small()
    fit = pf.fit(flow, x, steps=300, objective=right, progress="none")
    assert mean_nll(flow, x[1000:]) < 3.2
    assert mean_nll(flow, x[:1000]) > 6
    assert fit.summary["best_val_nll"] == pytest.approx(mean_nll(flow, x[1000:]) / 2, abs=0.3)


def test_negative_log_likelihood_by_name_is_the_default() -> None:
    flows = [small(), small()]
    pf.fit(flows[0], moons(), steps=30, progress="none")
    pf.fit(flows[1], moons(), steps=30, objective=negative_log_likelihood, progress="none")
    assert torch.equal(flows[0].log_prob(moons(9)), flows[1].log_prob(moons(9)))


def test_reverse_kl_needs_no_data() -> None:
    target = torch.distributions.MultivariateNormal(torch.tensor([2.0, -1.0]), torch.tensor([[1.0, 0.6], [0.6, 1.0]]))

    def reverse_kl(density: pf.Flow, batch: Batch) -> torch.Tensor:
        x = density.rsample(len(batch))
        return (density(x) - target.log_prob(x)).mean()

    flow = small()
    fit = pf.fit(flow, steps=300, batch=128, objective=reverse_kl, progress="none")  # type: ignore[arg-type]
    assert fit.summary["steps"] == 300
    assert fit.summary["best_val_nll"] is None
    x = target.sample((4000,))
    assert mean_nll(flow, x) == pytest.approx(-float(target.log_prob(x).mean()), abs=0.05)
    with pytest.raises(ValueError, match="without data, give the length of the training in steps or seconds"):
        next(pf.train(small(), objective=reverse_kl))  # type: ignore[arg-type]


def test_the_metric_decides_what_is_best() -> None:
    measured = []

    def metric(density: pf.Density, batch: Batch) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        measured.append(float(len(measured)))  # grows: the weights of the start stay the best
        return torch.tensor(measured[-1])

    flow = small()
    flow.initialize(moons())
    before = mean_nll(flow, moons())
    fit = pf.fit(flow, moons(), steps=120, metric=metric, patience=None, progress="none")
    assert mean_nll(flow, moons()) == before
    told = [e.val_nll for e in fit.epochs if e.val_nll is not None]
    assert told == measured[-len(told) :]  # those before are the early ones, within the first pass
    assert fit.summary["best_val_nll"] == 0.0  # that before the first step


def test_the_best_validation_is_that_of_the_weights_that_stay() -> None:
    flow, val = small(), moons(500, seed=3)
    pf.fit(flow, moons(), steps=200, progress="none")
    before = mean_nll(flow, val)
    fit = pf.fit(flow, moons(), val, steps=50, lr=1.0, ema=0.0, clip=None, progress="none")  # makes it worse
    assert fit.summary["best_val_nll"] == pytest.approx(before, abs=1e-5)
    assert mean_nll(flow, val) == pytest.approx(before, abs=1e-5)


def test_an_objective_of_the_wrong_shape_is_told() -> None:
    def a_row_each(density: pf.Density, batch: Batch) -> torch.Tensor:
        return -density.log_prob(batch.x, batch.context)

    def no_tensor(density: pf.Density, batch: Batch) -> torch.Tensor:
        return "low"  # type: ignore[return-value]

    message = r"the objective must return a tensor of one number, got"
    for val in (None, moons(100)):
        with pytest.raises(ValueError, match=rf"{message} shape \(100,\)"):
            pf.fit(small(), moons(), val, objective=a_row_each, val_fraction=0.0, batch=100, steps=2, progress="none")
    with pytest.raises(ValueError, match=rf"{message} shape \(100,\)"):
        pf.fit(small(), moons(), moons(100), metric=a_row_each, steps=2, progress="none")
    with pytest.raises(ValueError, match=rf"{message} str"):
        pf.fit(small(), moons(), objective=no_tensor, val_fraction=0.0, steps=2, progress="none")


def test_a_loss_of_shape_1_is_one_number() -> None:
    def loss(density: pf.Density, batch: Batch) -> torch.Tensor:
        return negative_log_likelihood(density, batch)[None]

    flow, same = small(), small()
    pf.fit(flow, moons(), objective=loss, steps=5, progress="none")
    pf.fit(same, moons(), objective=lambda d, b: negative_log_likelihood(d, b), steps=5, progress="none")
    assert torch.equal(flow.log_prob(moons()), same.log_prob(moons()))


# Optimizers


@pytest.mark.parametrize(
    "make", [partial(torch.optim.SGD, lr=0.05, momentum=0.9), torch.optim.Adam, partial(torch.optim.RMSprop, lr=3e-3)]
)
def test_any_optimizer_of_torch_trains(make: object, tmp_path: Path) -> None:
    whole, parts = small(), small()
    before = mean_nll(whole, moons())
    settings = {"optimizer": make, "epochs": 8, "batch": 50}
    records = list(pf.train(whole, moons(), **settings))  # type: ignore[arg-type]
    assert mean_nll(whole, moons()) < before - 0.3
    assert max(r.lr for r in records) <= inspect.signature(make).parameters["lr"].default  # type: ignore[arg-type]
    for epoch in pf.train(parts, moons(), checkpoint=tmp_path, **settings):  # type: ignore[arg-type]
        if epoch.epoch >= 3:
            break
    list(pf.train(parts, moons(), checkpoint=tmp_path, **settings))  # type: ignore[arg-type]
    assert torch.equal(whole.log_prob(moons()), parts.log_prob(moons()))


def test_a_rate_beside_an_optimizer_is_refused() -> None:
    names = [field.name for field in dataclasses.fields(TrainSettings) if field.metadata["of_adamw"]]
    assert set(names) <= TrainSettings().adamw.keys()
    for name in names:
        with pytest.raises(ValueError, match=f"{name} is the optimizer's own"):
            pf.fit(small(), moons(), optimizer=torch.optim.Adam, progress="none", **{name: 0.1})  # type: ignore[arg-type]


def test_a_checkpoint_holds_weights_by_name(tmp_path: Path) -> None:
    flow = small()
    pf.fit(flow, moons(), epochs=2, checkpoint=tmp_path, progress="none")
    _, tensors = read_tensors(tmp_path / "training.safetensors")
    for name, p in flow.named_parameters():
        assert tensors[f"member/0/weights/{name}"].shape == p.shape
        assert tensors[f"member/0/average/{name}"].shape == p.shape


# Settings


def test_train_takes_every_setting_with_its_default() -> None:
    own = {f.name: f.default for f in dataclasses.fields(TrainSettings)}
    data = ("density", "data", "val", "context", "weights")
    taken = {n: p.default for n, p in inspect.signature(pf.train).parameters.items() if n not in data}
    assert taken == own
    for field in dataclasses.fields(TrainSettings):
        assert f"\n        {field.name}: " in (pf.train.__doc__ or "")
        assert field.metadata["help"]
        assert field.metadata["is_valid"](field.default)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TrainSettings)])
def test_a_setting_of_a_wrong_kind_is_told_with_its_range(name: str) -> None:
    wanted = next(f.metadata["range"] for f in dataclasses.fields(TrainSettings) if f.name == name)
    with pytest.raises(ValueError, match=f"{name} must be {wanted}, got"):
        check_settings({name: [1.5]})


@pytest.mark.parametrize("data", [{"a": [1.0, 2.0], "b": [3.0, 4.0]}, "rows.csv", Path("rows.parquet")])
def test_a_table_is_for_fit_table(data: object) -> None:
    for call in (lambda: pf.fit(small(), data, progress="none"), lambda: pf.fit("auto", data, progress="none")):
        with pytest.raises(ValueError, match=r"is a table .*, which fit_table fits"):
            call()


def test_a_frame_is_for_fit_table() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"is a table .*, which fit_table fits"):
        pf.fit(small(), pandas.DataFrame(np.zeros((5, 2))), progress="none")


# What is taken for granted


class Shift(pf.Bijection):
    """A convolution moves the second half of the channels: few parameters, much arithmetic."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.net = nn.Sequential(
            nn.Conv2d(self.half, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, channels - self.half, 3, padding=1)
        )

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = x[:, : self.half], x[:, self.half :]
        return torch.cat([a, b + self.net(a)], 1), x.new_zeros(len(x))

    def inverse(self, z: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = z[:, : self.half], z[:, self.half :]
        return torch.cat([a, b - self.net(a)], 1), z.new_zeros(len(z))


def image_flow() -> pf.Flow:
    return pf.Flow(pf.Chain(Shift(2), pf.Standardize(2)), (2, 16, 16))


def test_the_arithmetic_of_a_step_is_counted_by_running_it() -> None:
    flow = small(7, mixing="flip")
    products = sum(p.numel() for p in flow.parameters() if p.ndim == 2)
    batch = Batch(torch.randn(100, 7))
    assert operations(flow, negative_log_likelihood, batch) == 6 * 100 * products
    both = pf.Mixture([small(7, mixing="flip"), small(7, seed=1, mixing="flip")])
    assert operations(both, negative_log_likelihood, batch) == 2 * 6 * 100 * products


def test_a_flow_of_convolutions_gets_more_threads_than_its_parameters_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    flow = image_flow()
    x = torch.randn(512, 2, 16, 16)
    parameters = sum(p.numel() for p in flow.parameters())
    assert 6 * 512 * parameters < run_module.SMALL_STEP_FLOP
    assert threads_for(flow, negative_log_likelihood, Batch(x), 512) == 4
    assert threads_for(small(), negative_log_likelihood, Batch(moons()), 512) == 1


def test_only_tables_of_few_rows_are_smoothed() -> None:
    def noise_and_decay(rows: int, shape: tuple[int, ...], table: bool) -> tuple[float | None, float | None]:
        settings = complete(TrainSettings(), "real_nvp", rows, shape, table)
        return settings.noise, settings.weight_decay

    assert noise_and_decay(300, (40,), True)[0] > 0  # type: ignore[operator]
    assert noise_and_decay(5000, (40,), True) == (0.0, 1.0)
    assert noise_and_decay(300, (3, 32, 32), False) == (0.0, 1e-5)
    assert noise_and_decay(5000, (40,), False) == (0.0, 1e-5)


class FewDrawn:
    """A function that draws, with a length."""

    def __len__(self) -> int:
        return 40

    def __call__(self, n: int, generator: torch.Generator) -> torch.Tensor:
        return TwoMoons().sample(n, generator=generator)


def test_images_and_functions_that_draw_are_never_smoothed_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []
    inner = pf.training.loop.with_noise  # type: ignore[attr-defined]
    monkeypatch.setattr("pushforward.training.loop.with_noise", lambda r, f, n: (levels.append(n), inner(r, f, n))[1])
    for flow, data in ((image_flow(), torch.randn(60, 2, 16, 16)), (small(), FewDrawn()), (small(), moons(60))):
        pf.fit(flow, data, steps=2, progress="none")
    assert levels[:2] == [0.0, 0.0]
    assert levels[2] > 0


def test_dropout_and_batch_norm_work_in_their_modes() -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))
            self.modes: set[tuple[bool, bool]] = set()

        def forward(self, context: torch.Tensor) -> torch.Tensor:
            self.modes.add((self.training, torch.is_grad_enabled()))
            return self.net(context)

    layers = [pf.Coupling(pf.MLP(1, 2, width=8, context_dim=2), pf.Affine(), flip=k % 2 == 1) for k in range(2)]
    embed = Watched()
    flow = pf.Flow(pf.Chain(*layers), 2, embed=embed)
    context = torch.randn(400, 1)
    for epoch in pf.train(flow, context + torch.randn(400, 2), context=context, steps=60):
        assert not flow.training, epoch
    assert embed.modes == {(True, True), (False, False)}  # steps; everything else
    assert not flow.training
    assert torch.equal(flow.log_prob(moons(5), context[:5]), flow.log_prob(moons(5), context[:5]))


# Bases and supports


def test_a_uniform_base_trains() -> None:
    spline = pf.RationalQuadratic(8, bound=1.0)
    layers = [pf.Coupling(pf.MLP(1, spline.num_params), spline, flip=k % 2 == 1) for k in range(4)]
    flow = pf.Flow(pf.Chain(*layers), 2, base=torch.distributions.Uniform(-1.0, 1.0))
    x = torch.rand(3000, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    fit = pf.fit(flow, x * (1 - 0.3 * x.flip(1).abs()), steps=100, progress="none")
    assert fit.stopped == "done"
    assert fit.summary["best_val_nll"] < 1.2


def test_rows_outside_of_the_bases_support_are_told() -> None:
    base = torch.distributions.LogNormal(torch.zeros(2), torch.ones(2))
    flow = pf.Flow(pf.Chain(pf.Coupling(pf.MLP(1, 2), pf.Affine())), 2, base=base)
    with pytest.warns(UserWarning, match="fall outside the support of the base"):
        fit = pf.fit(flow, torch.randn(2000, 2), steps=60, progress="none")
    assert fit.stopped == "diverged"


# Mixtures


def unlike() -> pf.Mixture:
    return pf.Mixture([small(), pf.spline_flow(2, depth=3, width=16, seed=1)], weights=[0.25, 0.75])


def test_unlike_members_learn_each_by_itself(tmp_path: Path) -> None:
    mixture, x = unlike(), moons(2000)
    before = [mean_nll(member, x) for member in mixture]
    fit = pf.fit(mixture, x, steps=150, progress="none")
    assert all(mean_nll(member, x) < b - 0.3 for member, b in zip(mixture, before, strict=True))
    assert fit.density is mixture
    assert fit.flow is mixture
    assert mixture.weights.tolist() == [0.25, 0.75]
    assert fit.summary["best_val_nll"] is not None
    whole, parts = unlike(), unlike()
    list(pf.train(whole, moons(), epochs=4, batch=64))
    for epoch in pf.train(parts, moons(), epochs=4, batch=64, checkpoint=tmp_path):
        if epoch.epoch >= 2:
            break
    resumed = unlike()
    list(pf.train(resumed, moons(), epochs=4, batch=64, checkpoint=tmp_path))
    assert torch.equal(whole.log_prob(moons(9)), resumed.log_prob(moons(9)))


def test_a_member_with_bad_batches_goes_back_alone() -> None:
    class Broken(pf.Bijection):
        def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
            return x * (math.nan if torch.is_grad_enabled() else 1.0), x.new_zeros(len(x))

        def inverse(self, z: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
            return z, z.new_zeros(len(z))

    bad = pf.Flow(pf.Chain(Broken(), small().bijection), 2)
    mixture = pf.Mixture([bad, small(seed=1)])
    mixture.initialize(moons())
    before = [mean_nll(member, moons()) for member in mixture]
    with pytest.warns(UserWarning, match="back to the last good weights"):
        pf.fit(mixture, moons(), steps=60, patience=None, progress="none")
    after = [mean_nll(member, moons()) for member in mixture]
    assert after[0] == before[0]
    assert after[1] < before[1]


def test_a_density_of_ones_own_trains() -> None:
    class Normal(pf.Density):
        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(2))
            self.space = pf.Vectors(2)

        def log_prob(self, x: torch.Tensor, context: object = None) -> torch.Tensor:
            return -0.5 * (x - self.mean).square().sum(1) - math.log(2 * math.pi)

        def sample(self, n: int, context: object = None, *, generator: object = None) -> torch.Tensor:
            return self.mean + torch.randn(n, 2)

    density = Normal()
    pf.fit(density, torch.randn(1000, 2) + torch.tensor([3.0, -1.0]), steps=400, lr=0.05, progress="none")
    torch.testing.assert_close(density.mean.detach(), torch.tensor([3.0, -1.0]), atol=0.15, rtol=0)


ANOTHER: dict[str, Any] = {
    "batch": 50, "batch_growth": 4, "lr": 1e-4, "weight_decay": 5.0, "noise": 0.5, "schedule": "constant",
    "warmup": 0.5, "ema": 0.0, "clip": 0.01, "seed": 1,
    "precision": "bf16",
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TrainSettings) if f.metadata["same_when_resumed"]])
def test_every_setting_takes_effect_and_a_checkpoint_keeps_it(name: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "batch": 100, "batch_growth": 1, "lr": 1e-2, "weight_decay": 0.0, "noise": 0.0, "patience": None, "steps": 40,
        "check": False, "progress": "none",
    }  # fmt: skip
    x, val = moons(400), moons(100, seed=1)
    densities = []
    for changed in ({}, {name: ANOTHER[name]}, {}):
        density = small()
        pf.fit(density, x, val, **settings | changed)
        densities.append(density.log_prob(val))
    assert torch.equal(densities[0], densities[2])
    assert not torch.allclose(densities[0], densities[1], rtol=1e-4, atol=1e-4)
    pf.fit(small(), x, val, **settings, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=rf"other settings: {{'{name}': [^,]*}}, now {{'{name}': [^,]*}}$"):
        pf.fit(small(), x, val, **settings | {name: ANOTHER[name]}, checkpoint=tmp_path)


@pytest.mark.parametrize("optimizer", [None, partial(torch.optim.SGD, lr=0.01)])
def test_a_batch_in_parts_gives_the_same_steps(optimizer: Any) -> None:
    x, weights = moons(230), torch.linspace(0, 2, 230)

    def sizes_and_flow(accumulate: int) -> tuple[list[int], pf.Flow]:
        sizes = []

        def objective(density: pf.Density, batch: Batch) -> torch.Tensor:
            sizes.append(len(batch))
            return negative_log_likelihood(density, batch)

        flow = small()
        pf.fit(flow, x, x[:10], weights=weights, objective=objective, metric=negative_log_likelihood, batch=100,
               steps=20, noise=0.0, optimizer=optimizer, accumulate=accumulate, progress="none")  # fmt: skip
        return sizes, flow

    whole, in_parts = sizes_and_flow(1), sizes_and_flow(3)
    assert whole[0][-2:] == [100, 100]
    assert in_parts[0][-6:] == [34, 34, 32] * 2
    torch.testing.assert_close(in_parts[1].log_prob(x), whole[1].log_prob(x), atol=1e-3, rtol=1e-4)
    with pytest.raises(ValueError, match="accumulate must be a whole number of at least 1, got 0"):
        sizes_and_flow(0)


@pytest.mark.skipif(PLAIN, reason="torch.optim itself loads it")
def test_a_training_does_not_load_torchs_compiler() -> None:
    """It takes seconds, which a training of a given length would lose."""
    code = (
        "import sys, torch, pushforward as pf\n"
        "pf.fit(pf.spline_flow(2, depth=2, width=8), torch.randn(50, 2), steps=3, progress='none')\n"
        "print('torch._dynamo' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False"]


def test_arguments_in_the_wrong_order_are_told() -> None:
    with pytest.raises(ValueError, match="the first argument must be a density, the second its rows; got Tensor"):
        pf.fit(moons(), small())  # type: ignore[arg-type]


def test_a_record_is_shown_by_its_summary() -> None:
    fit = pf.fit(small(), moons(50), steps=3, progress="none")
    assert repr(fit) == f"Fit({fit.summary})"


def fitted_with(by: str, settings: dict[str, Any]) -> None:
    """A training whose defaults are chosen, of columns some of which are independent, of states, or of images."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 9))
    x[:, 1] += x[:, 0] ** 2
    if by == "fit":
        pf.fit("auto", x, stack=False, progress="none", steps=2, **settings)
    elif by == "table":
        table = {"size": x[:300, 0], "count": rng.poisson(3, 300), "kind": rng.choice(["a", "b"], 300),
                 "sort": rng.choice(["c", "d"], 300)}  # fmt: skip
        pf.fit_table(table, stack=False, progress="none", steps=2, **settings)
    elif by == "images":
        images = rng.integers(0, 256, (30, 8, 8)).astype(np.uint8)
        pf.fit_images(images, model={"depths": [1], "widths": [4]}, recipe="patch_flow", progress="none", steps=2,
                      **settings)  # fmt: skip
    else:
        pytest.importorskip("sklearn")
        pf.FlowDensity(steps=2, stack=False, training=settings).fit(x)


@pytest.mark.parametrize("by", ["fit", "table", "images", "estimator"])
def test_an_optimizer_of_ones_own_takes_no_defaults_of_adamw(by: str) -> None:
    made = []

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=1e-3))
        return made[-1]

    fitted_with(by, {"optimizer": optimizer})
    assert made
