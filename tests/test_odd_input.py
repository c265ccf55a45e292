"""Input that is odd but plausible: of numpy, with gradients, of another layout, or for a layer of another size."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import pushforward as pf
from pushforward.bijections.spline import RationalQuadratic
from pushforward.training.loop import _identity


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


X = torch.randn(400, 2, generator=seeded())


def test_numbers_of_numpy_are_settings_and_seeds() -> None:
    flow = pf.real_nvp(2, depth=2, width=8, seed=0)
    settings: dict[str, Any] = {
        "batch": np.int64(50),
        "seed": np.int64(2),
        "lr": np.float32(1e-3),
        "steps": np.int64(3),
    }
    assert pf.fit(flow, X, progress="none", **settings).summary["steps"] == 3
    assert pf.fit("auto", X, progress="none", stack=False, **settings).summary["steps"] == 3
    assert torch.equal(flow.sample(3, generator=np.int64(1)), flow.sample(3, generator=1))  # type: ignore[arg-type]


def test_arrays_of_any_layout_are_scored_and_masked_ones_refused() -> None:
    flow, x = pf.real_nvp(2, depth=2, width=8, seed=0), X.numpy()
    torch.testing.assert_close(flow.log_prob(x[::-1]), flow.log_prob(X).flip(0))
    torch.testing.assert_close(flow.log_prob(x.astype(">f4")), flow.log_prob(X))
    assert flow.log_prob(np.ma.masked_less(x, 0.0))[x.min(1) < 0].isnan().all()
    assert torch.equal(flow.space.read(x[::-1]), X.flip(0))
    assert torch.equal(flow.space.read(x.astype(">f4")).float(), X)


def test_rows_with_gradients_are_learned_from() -> None:
    rows = X.clone().requires_grad_()
    pf.fit(pf.real_nvp(2, depth=2, width=8, activation="tanh"), 2 * rows, noise=0.1, steps=3, progress="none")
    pf.fit("auto", 2 * rows, steps=3, progress="none")
    assert rows.grad is None


def test_one_number_a_row_is_no_context_of_many() -> None:
    with pytest.raises(ValueError, match=r"c\[:, None\] is one number a row"):
        pf.fit("auto", X, context=torch.randn(400), steps=1, progress="none")


@pytest.mark.parametrize("layer", [pf.ActNorm, pf.Standardize, pf.BatchNorm])
def test_a_layer_of_one_channel_is_not_spread_over_two(layer: Any) -> None:
    with pytest.raises(ValueError, match="1 channels, got 2"):
        pf.Flow(pf.Chain(layer(1)), 2).log_prob(X)


def test_all_columns_may_be_named() -> None:
    flow = pf.real_nvp(2, depth=2, width=8, columns=[0, 1], precondition=True)
    pf.fit(flow, X, steps=3, progress="none")
    assert flow.log_prob(X).isfinite().all()


def test_what_could_not_be_initialised_stays_as_it_was() -> None:
    flow = pf.real_nvp(2, depth=2, width=8, context_dim=1)
    context, constant = torch.randn(400, 1), X.clone()
    constant[:, 1] = 3.0
    with pytest.raises(ValueError, match="constant"):
        flow.initialize(constant, 1e6 * context)
    with pytest.raises(ValueError, match="x must hold finite numbers"):
        flow.initialize(torch.where(X[0, 0] == X, torch.nan, X), context)
    flow.initialize(X, context)
    other = pf.real_nvp(2, depth=2, width=8, context_dim=1)
    other.initialize(X, context)
    for name, value in flow.named_buffers():
        torch.testing.assert_close(value, dict(other.named_buffers())[name])


def test_a_spline_is_the_identity_outside_to_the_last_digit() -> None:
    spline = RationalQuadratic(bins=8, bound=3.0)
    params = (3 * torch.randn(64, spline.num_params, 16, generator=seeded())).requires_grad_()
    y, log_slope = spline.forward(torch.full((64, 16), 5.0), params)
    log_slope.sum().backward()
    assert params.grad is not None
    assert float(params.grad.abs().max()) == 0
    assert float(log_slope.detach().abs().max()) == 0
    torch.testing.assert_close(y.detach(), torch.full((64, 16), 5.0))


class Plain(torch.distributions.Distribution):
    """Without a support, as many of users are."""

    arg_constraints: ClassVar = {}

    def log_prob(self, value: Tensor) -> Tensor:
        return -value.square().sum(-1)


def on(base: torch.distributions.Distribution) -> pf.Flow:
    return pf.Flow(pf.real_nvp(2, depth=2, width=8).bijection, 2, base)


def test_bases_that_are_any_distribution() -> None:
    mean = torch.from_numpy(np.zeros(2))
    prior = torch.distributions.MultivariateNormal(mean, torch.eye(2, dtype=torch.float64))
    flow = on(prior)
    assert flow.sample(3).dtype == torch.float32
    learned = torch.zeros(2, requires_grad=True) + 1
    assert on(torch.distributions.Normal(learned, 1.0)).sample(3).shape == (3, 2)
    plain = Plain(event_shape=torch.Size([2]), validate_args=False)
    assert on(plain).log_prob(X).isfinite().all()


def test_an_objective_is_told_by_what_it_is_and_not_by_where_it_lies() -> None:
    def penalised(penalty: Any) -> Any:
        return lambda density, batch: penalty(density, batch)

    def penalty(density: Any, batch: Any) -> Any:
        return -density(batch.x).mean()

    for objective in (penalised(penalty), functools.partial(penalty, penalty), penalised(object())):
        assert " at 0x" not in _identity(objective)


def test_a_recipe_keeps_its_own_arguments() -> None:
    columns = [0, 1]
    flow = pf.real_nvp(3, depth=2, width=8, columns=columns)
    columns[0] = 2
    assert flow.recipe["arguments"]["columns"] == [0, 1]  # type: ignore[index]


def test_weights_and_seconds_out_of_range() -> None:
    flow = pf.real_nvp(2, depth=2, width=8)
    with pytest.raises(ValueError, match="weights must be finite"):
        pf.Mixture([flow, pf.real_nvp(2, depth=2, width=8)], weights=[np.inf, 1])
    with pytest.raises(ValueError, match="seconds must be positive"):
        pf.choose(100, 2, seconds=-1)
