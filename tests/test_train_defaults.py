"""What a training takes for granted: threads by arithmetic, noise for few rows of a table, modes of layers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import pushforward as pf
from flows import moons, small
from pushforward.switch import PLAIN
from pushforward.toys import TwoMoons
from pushforward.training import Batch, TrainSettings, negative_log_likelihood
from pushforward.training import threads as threads_module
from pushforward.training.auto import complete
from pushforward.training.threads import operations, threads_for


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
    assert 6 * 512 * parameters < threads_module.SMALL_STEP_FLOP
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
