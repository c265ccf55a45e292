"""Tails of flows of arrays: draws leave the rows as often as further rows would, and never by an exponential of one."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.flow import Flow
from pushforward.training import Batch
from pushforward.training.tails import MOST_LOST, as_many_as, calibrate_tails, drawn_in_time

N = 400
Rows = tuple[Batch, Batch]


def normal(width: float) -> tuple[Flow, Rows]:
    """A flow whose draws are `width` times as wide as the rows, and rows to train on and to hold out."""
    rows = np.random.default_rng(0).normal(size=(2 * N, 2))
    first = pf.Precondition(2, bends=True)
    first.initialize(torch.from_numpy(rows))
    flow = Flow(pf.Chain(first, pf.Standardize(2)), 2).double()
    with torch.no_grad():
        flow.bijection[1].initialize(torch.from_numpy(width * rows))  # type: ignore[index]
    parts = torch.from_numpy(rows).split(N)
    return flow, (Batch(parts[0]), Batch(parts[1]))


def beyond(flow: pf.Density, rows: torch.Tensor) -> np.ndarray:
    """How far draws lie beyond the rows, in their ranges."""
    drawn, x = flow.sample(40_000, generator=1).double().numpy(), rows.numpy()
    return np.maximum(x.min(0) - drawn, drawn - x.max(0)) / np.ptp(x, 0)


def test_draws_leave_the_rows_as_often_as_further_rows() -> None:
    flow, parts = normal(1.6)
    whole = torch.cat([part.x for part in parts])
    before, score = beyond(flow, whole), float(flow.log_prob(parts[1].x).mean())
    calibrate_tails(flow, *parts, seed=0)
    after = beyond(flow, whole)
    wanted = 2 / (len(whole) + 1)
    assert (before > 0).mean() > 10 * wanted
    assert 0.4 < (after > 0).mean() / wanted < 2
    assert float(flow.log_prob(parts[1].x).mean()) > score - 0.05


def test_what_is_bent_is_still_a_density_and_is_saved(tmp_path: Path) -> None:
    flow, parts = normal(1.6)
    calibrate_tails(flow, *parts, seed=0)
    assert not flow.bijection[0].tails().are_lines().any()  # type: ignore[index, union-attr]
    x = torch.linspace(-9, 9, 1501, dtype=torch.float64)
    grid = torch.cartesian_prod(x, x)
    assert float(flow.log_prob(grid).exp().sum()) * float(x[1] - x[0]) ** 2 == pytest.approx(1, abs=1e-3)
    far = 3 * parts[0].x
    assert pf.check_bijection(flow.bijection, far).ok
    pf.save(flow, tmp_path / "flow.safetensors")
    other = normal(1.0)[0]
    torch.testing.assert_close(pf.load(tmp_path / "flow.safetensors", into=other).log_prob(far), flow.log_prob(far))


def test_tails_that_are_right_stay_about_as_they_are() -> None:
    flow, parts = normal(1.0)
    before = flow.log_prob(parts[1].x)
    calibrate_tails(flow, *parts, seed=0)
    assert float((flow.log_prob(parts[1].x) - before).mean().abs()) < 0.05


def test_a_tail_that_held_out_rows_need_stays() -> None:
    """Held-out rows far beyond the others: draws that go as far are right."""
    flow, (rows, held_out) = normal(3.0)
    far = Batch(held_out.x * 3)
    before = float(flow.log_prob(far.x).mean())
    calibrate_tails(flow, rows, far, seed=0)
    assert float(flow.log_prob(far.x).mean()) >= before - MOST_LOST


def test_bends_that_cost_too_much_leave_no_trace() -> None:
    flow, (rows, held_out) = normal(3.0)
    calibrate_tails(flow, rows, Batch(held_out.x * 10), seed=0)
    assert flow.bijection[0].tails().are_lines().all()  # type: ignore[index, union-attr]


def test_when_time_is_over_nothing_is_drawn_or_bent() -> None:
    flow, (train, held_out) = normal(1.6)
    calibrate_tails(flow, train, held_out, seed=0, until=0.0)
    assert flow.bijection[0].tails().are_lines().all()  # type: ignore[index, union-attr]


def test_draws_in_time() -> None:
    asked: list[int] = []

    def sample(n: int, contexts: torch.Tensor) -> torch.Tensor:
        asked.append(len(contexts))
        time.sleep(len(contexts) * 1e-4)
        return contexts[None]

    contexts = torch.arange(700)
    assert drawn_in_time(sample, contexts, 4096, math.inf) is not None  # no matter how long it takes
    assert asked.pop() == 4096
    some = drawn_in_time(sample, contexts, 4096, time.perf_counter() + 0.35)  # for two thirds of it
    assert some is not None
    assert 1024 <= len(some) < 4096
    assert torch.equal(some, torch.arange(len(some)) % 700)  # in turn
    assert drawn_in_time(sample, contexts, 4096, time.perf_counter() + 0.06) is None


@pytest.mark.parametrize("bad", [set(), {3}, {0, 7}, {2, 3, 4}, set(range(8))])
def test_as_many_as_leaves_out_what_does_harm(bad: set[int]) -> None:
    asked: list[list[int]] = []

    def is_harmless(some: list[int]) -> bool:
        asked.append(some)
        return not bad & set(some)

    assert as_many_as(range(8), is_harmless, math.inf) == sorted(set(range(8)) - bad)
    assert len(asked) <= 1 + 2 * 3 * max(len(bad), 1)
    asked.clear()
    assert as_many_as(range(8), is_harmless, 0.0) == ([] if bad else list(range(8)))
    assert len(asked) == 1
    assert as_many_as([], is_harmless, math.inf) == []


def test_rows_half_of_which_are_alike() -> None:
    """More rows are one value than lie between the quantiles that stay."""
    flow, (rows, held_out) = normal(1.6)
    parts = [Batch(torch.where(part.x.abs() < 0.8, 0.0, part.x)) for part in (rows, held_out)]
    calibrate_tails(flow, *parts, seed=0)
    assert flow.log_prob(parts[0].x).isfinite().all()
    assert float(flow.log_prob(parts[1].x).mean()) > -9


def test_the_fold_after_logarithms_ends_at_the_farthest_row() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).standard_cauchy((2000, 2)))
    layer = pf.Precondition(2, bends=True)
    z = layer.initialize(rows)
    assert layer.heavy.all()
    most = z.abs().amax(0)
    far = torch.stack([most + 4, most + 8, most + 12]).double()
    logs = layer.inverse(far)[0].abs().log()
    torch.testing.assert_close(logs[2] - logs[1], logs[1] - logs[0], rtol=0.1, atol=0.0)  # not fourfold
    assert pf.check_bijection(layer.double(), 30 * rows[:50]).ok


def test_draws_of_few_rows_with_heavy_columns_stay_in_sight() -> None:
    rng = np.random.default_rng(0)
    size = np.exp(1.5 * rng.normal(size=(150, 1)))
    x = size * np.exp(0.3 * rng.normal(size=(150, 4)))
    density = pf.fit("auto", x, steps=300, progress="none", seed=0).density
    assert density is not None
    over = beyond(density, torch.from_numpy(x))
    assert over.max() < 1e4
    assert (over > 0.25).mean() < 5e-3


def test_old_files_have_straight_tails() -> None:
    path = Path(__file__).parent / "golden" / "cli_given_v1.safetensors"
    layer = pf.load(path).inner.precondition
    assert layer.tails().are_lines().all()
