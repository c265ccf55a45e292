"""Flow: batches, contexts, dtypes, chunks, sampling, and the density itself."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch

import pushforward as pf


def trained_like(flow: pf.Flow, scale: float = 0.1) -> pf.Flow:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator))
    return flow


@pytest.fixture
def flow() -> pf.Flow:
    flow = pf.real_nvp(2, depth=4, width=16, seed=0)
    pf.initialize(flow, torch.randn(500, 2) * torch.tensor([2.0, 0.5]) + torch.tensor([3.0, -1.0]))
    return trained_like(flow)


@pytest.fixture
def conditional() -> pf.Flow:
    return trained_like(pf.real_nvp(3, context_dim=2, depth=3, width=16, seed=0))


def test_log_prob_keeps_leading_axes(flow: pf.Flow) -> None:
    x = torch.randn(4, 5, 2)
    assert flow.log_prob(x).shape == (4, 5)
    assert flow.log_prob(x[0, 0]).shape == ()
    torch.testing.assert_close(flow.log_prob(x)[2, 3], flow.log_prob(x[2, 3]))
    z, log_det = flow.f(x)
    assert z.shape == x.shape
    assert log_det.shape == (4, 5)
    torch.testing.assert_close(flow.g(z), x)


@pytest.mark.parametrize("components", [0, 3])
def test_the_density_integrates_to_one(components: int) -> None:
    flow = pf.real_nvp(2, depth=4, width=16, components=components, seed=0)
    pf.initialize(flow, torch.randn(500, 2) * torch.tensor([2.0, 0.5]) + torch.tensor([3.0, -1.0]))
    trained_like(flow)
    with torch.no_grad():
        samples = flow.sample(20000)
        low, high = samples.min(0).values - 2, samples.max(0).values + 2
        axes = [torch.linspace(float(a), float(b), 1201) for a, b in zip(low, high, strict=True)]
        grid = torch.cartesian_prod(*axes)
        cell = float((high - low).prod()) / 1200**2
        mass = float(flow.log_prob(grid).double().exp().sum()) * cell
    assert mass == pytest.approx(1, abs=2e-3)


def test_samples_follow_the_density(flow: pf.Flow) -> None:
    """The mean of log p over samples is minus the entropy, which the grid gives independently."""
    samples, log_prob = flow.sample_with_log_prob(50_000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(log_prob, flow.log_prob(samples).detach(), rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        low, high = samples.min(0).values - 1, samples.max(0).values + 1
        axes = [torch.linspace(float(a), float(b), 801) for a, b in zip(low, high, strict=True)]
        density = flow.log_prob(torch.cartesian_prod(*axes)).double()
        cell = float((high - low).prod()) / 800**2
        entropy = -float((density.exp() * density).sum()) * cell
    error = float(log_prob.std()) / math.sqrt(len(log_prob))
    assert -float(log_prob.mean()) == pytest.approx(entropy, abs=5 * error + 1e-3)


def test_chunked_and_whole_agree(flow: pf.Flow) -> None:
    x = torch.randn(5000, 2)
    whole = flow.log_prob(x)
    with torch.no_grad():
        torch.testing.assert_close(flow.log_prob(x), whole.detach(), rtol=1e-5, atol=1e-5)
        z, log_det = flow.f(x)
    torch.testing.assert_close(z, flow.f(x)[0].detach(), rtol=1e-5, atol=1e-5)
    assert log_det.shape == (5000,)
    with torch.inference_mode():
        torch.testing.assert_close(flow.log_prob(x), whole.detach(), rtol=1e-5, atol=1e-5)


def test_chunks_leave_the_number_of_threads_alone(flow: pf.Flow) -> None:
    before = torch.get_num_threads()
    flow.sample(5000)
    assert torch.get_num_threads() == before


def test_an_error_in_a_chunk_reaches_the_caller(conditional: pf.Flow) -> None:
    with torch.no_grad(), pytest.raises(ValueError, match=r"context of shape \(N, 2\)"):
        conditional.log_prob(torch.zeros(5000, 3))


@pytest.mark.parametrize("n", [0, 1, 3, 2500])
def test_sample_shapes(flow: pf.Flow, n: int) -> None:
    x = flow.sample(n)
    assert x.shape == (n, 2)
    assert not x.requires_grad


def test_sample_with_many_contexts(conditional: pf.Flow) -> None:
    contexts = torch.randn(4, 2)
    x, log_prob = conditional.sample_with_log_prob(700, contexts)
    assert x.shape == (700, 4, 3)
    assert log_prob.shape == (700, 4)
    torch.testing.assert_close(log_prob, conditional.log_prob(x, contexts).detach(), rtol=1e-3, atol=1e-3)
    assert conditional.sample(6, torch.zeros(2)).shape == (6, 3)
    assert conditional.sample(6, torch.zeros(5, 4, 2)).shape == (6, 5, 4, 3)


def test_context_broadcasts_over_rows(conditional: pf.Flow) -> None:
    x, context = torch.randn(7, 5, 3), torch.randn(5, 2)
    one = conditional.log_prob(x, context)
    assert one.shape == (7, 5)
    torch.testing.assert_close(one[3, 2], conditional.log_prob(x[3, 2], context[2]))
    assert conditional.log_prob(x[0, 0], context).shape == (5,)


def test_a_seeded_sample_is_reproducible_and_leaves_the_global_rng(flow: pf.Flow) -> None:
    state = torch.get_rng_state()
    a = flow.sample(10, generator=torch.Generator().manual_seed(3))
    b = flow.sample(10, generator=torch.Generator().manual_seed(3))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)


def test_rsample_carries_gradients(conditional: pf.Flow) -> None:
    context = torch.randn(4, 2, requires_grad=True)
    x = conditional.rsample(3, context)
    assert x.shape == (3, 4, 3)
    x.sum().backward()
    assert context.grad is not None
    assert bool((context.grad != 0).any())


def test_rsample_of_a_mixture_says_why_not() -> None:
    with pytest.raises(ValueError, match="GaussianMixture has no reparametrised sample"):
        pf.real_nvp(2, components=2).rsample(3)


def test_distribution_speaks_torch(conditional: pf.Flow) -> None:
    d = conditional.distribution(torch.randn(4, 2))
    assert d.batch_shape == (4,)
    assert d.event_shape == (3,)
    x = d.sample((5, 6))
    assert x.shape == (5, 6, 4, 3)
    assert d.log_prob(x).shape == (5, 6, 4)
    assert d.rsample((2,)).requires_grad
    assert d.sample().shape == (4, 3)


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(3, 2, dtype=torch.float64),
        torch.ones(3, 2, dtype=torch.int64),
        np.ones((3, 2)),
        [[1.0, 1.0]] * 3,
        torch.ones(2, 3).T,
        torch.ones(3, 4)[:, ::2],
    ],
    ids=["float64", "int64", "numpy", "list", "transposed", "strided"],
)
def test_numbers_of_any_kind_are_taken(flow: pf.Flow, x: object) -> None:
    torch.testing.assert_close(flow.log_prob(x), flow.log_prob(torch.ones(3, 2)))


def test_float64_flow_is_exact_to_1e_12(flow: pf.Flow) -> None:
    flow = flow.double()
    x = torch.randn(200, 2, dtype=torch.float64)
    z, _ = flow.f(x)
    assert z.dtype == torch.float64
    assert float((flow.g(z) - x).detach().abs().max()) < 1e-12
    assert flow.sample(3).dtype == torch.float64


@pytest.mark.filterwarnings("ignore:Standardize saw no data")
@pytest.mark.parametrize("shape", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("mixing", ["auto", "flip", "permute", "lu"])
def test_any_width_at_any_distance(shape: int, mixing: str) -> None:
    flow = trained_like(pf.real_nvp(shape, mixing=mixing, seed=0))
    x = torch.cat([torch.randn(4, shape), torch.full((1, shape), 1e6), torch.full((1, shape), -1e6)]).requires_grad_()
    log_prob = flow.log_prob(x)
    assert bool(torch.isfinite(log_prob).all())
    gradients = torch.autograd.grad(log_prob.sum(), [x, *(p for p in flow.parameters() if p.numel())])
    assert all(bool(torch.isfinite(g).all()) for g in gradients)
    z, _ = flow.f(x[:4])
    torch.testing.assert_close(flow.g(z), x[:4], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.log_prob(torch.zeros(3, 5)), r"expected x of shape \(\.\.\., 2\), got \(3, 5\)"),
        (lambda f: f(torch.zeros(3, 5)), r"expected x of shape \(B, 2\), got \(3, 5\)"),
        (lambda f: f.log_prob(torch.zeros(())), r"expected x of shape"),
        (
            lambda f: f.log_prob(torch.zeros(3, 2), torch.zeros(3, 1)),
            r"expected no context, got a context of shape \(N, 1\)",
        ),
        (lambda f: f.sample(-1), "at least 0, got -1"),
        (lambda f: f.sample(2.5), "must be a whole number, got 2.5"),
        (lambda f: f.log_prob("text"), "x must be numbers, in a tensor, an array or lists of one length, got str"),
        (lambda f: f.log_prob(None), "x must be numbers, .* got NoneType"),
        (lambda f: f.log_prob([[0.0, 0.0], [1.0]]), "x must be numbers, .* got list"),
        (lambda f: f.log_prob(np.array([["a", "b"]], dtype=object)), "x must be numbers, .* got ndarray of object"),
        (lambda f: f.log_prob({"a": [0.0], "b": [0.0]}), r"x must be numbers, .* got a dict: density\.space\.read"),
        (lambda f: f.log_prob(pyarrow.table({"a": [0.0], "b": [0.0]})), "x must be numbers, .* got a Table"),
        (lambda f: f.sample(np.array([2, 3])), "must be a whole number, got array"),
        (lambda f: f.log_prob(torch.zeros(3, 2, device="meta")), "x is on meta and the density on cpu"),
    ],
)
def test_wrong_input_is_told_what_was_expected(flow: pf.Flow, call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call(flow)


def test_a_conditional_flow_asks_for_its_context(conditional: pf.Flow) -> None:
    with pytest.raises(ValueError, match=r"expected a context of shape \(N, 2\), got no context"):
        conditional.log_prob(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"expected a context of shape \(N, 2\), got a context of shape \(N, 3\)"):
        conditional.sample(2, torch.zeros(3))


def test_initialize_standardises_once() -> None:
    flow = pf.real_nvp(2, context_dim=1, seed=0)
    x, context = torch.randn(1000, 2) * 50 + 7, torch.randn(1000, 1) * 9 - 4
    pf.initialize(flow, x, context)
    z, _ = flow.f(x, context)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    before = flow.log_prob(x[:5], context[:5])
    pf.initialize(flow, x * 3 + 1, context + 2)
    torch.testing.assert_close(flow.log_prob(x[:5], context[:5]), before)


def test_log_prob_is_in_data_units() -> None:
    """Stretching the data by s in each of 2 columns costs exactly 2 log s nats."""
    x = torch.randn(1000, 2)
    small, large = pf.real_nvp(2, seed=0), pf.real_nvp(2, seed=0)
    pf.initialize(small, x)
    pf.initialize(large, x * 100)
    torch.testing.assert_close(small.log_prob(x) - large.log_prob(x * 100), torch.full((1000,), 2 * math.log(100)))


def test_constant_columns_are_named() -> None:
    x = torch.randn(50, 3)
    x[:, 1] = 4.0
    with pytest.raises(ValueError, match=r"column\(s\) \[1\] are constant \(value \[4.0\]\)"):
        pf.initialize(pf.real_nvp(3), x)


class Recorder(pf.Bijection):
    """The identity, which notes the sizes and threads it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, int]] = []

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls.append((len(x), threading.get_ident()))
        return x, x.new_zeros(len(x))

    inverse = forward


def test_many_rows_are_shared_out_in_chunks_and_few_are_not() -> None:
    recorder = Recorder()
    flow = pf.Flow(recorder, 2)
    x = torch.randn(50_000, 2)
    with torch.no_grad():
        flow.log_prob(x)
    sizes = [size for size, _ in recorder.calls]
    assert sum(sizes) == 50_000
    assert max(sizes) < 5_000
    recorder.calls.clear()
    with torch.no_grad():
        flow.log_prob(x[:100])
    assert recorder.calls == [(100, threading.get_ident())]


def test_a_seeded_sample_does_not_depend_on_the_number_of_threads(flow: pf.Flow) -> None:
    before = torch.get_num_threads()
    draws = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            draws.append(flow.sample(20_000, generator=torch.Generator().manual_seed(3)))
        finally:
            torch.set_num_threads(before)
    torch.testing.assert_close(draws[0], draws[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("features", "options"),
    [
        (5, {"width": 16}),
        (5, {"width": 16, "residual": True, "hidden_layers": 3}),
        (5, {"width": 16, "activation": "silu"}),
        (5, {"width": 64}),  # hidden layers take fused products,
        (130, {"width": 64}),  # and the first one does
    ],
)
@pytest.mark.parametrize("mixing", ["flip", "lu", "permute"])
def test_chunked_and_whole_agree_with_every_net_and_mixing(features: int, options: dict, mixing: str) -> None:
    flow = trained_like(pf.real_nvp(features, context_dim=2, depth=3, mixing=mixing, seed=0, **options), 0.05)
    x, context = torch.randn(9000, features), torch.randn(9000, 2)
    z, log_det = flow.f(x, context)
    back = flow.g(z, context)
    with torch.no_grad():
        torch.testing.assert_close(flow.log_prob(x, context), flow.base.log_prob(z) + log_det, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(flow.g(z, context), back, rtol=1e-4, atol=1e-4)


def test_new_weights_are_seen_by_the_next_call() -> None:
    flow = trained_like(pf.real_nvp(3, depth=3, width=16, mixing="lu", seed=0))
    x = torch.randn(5000, 3)
    with torch.no_grad():
        before = flow.log_prob(x)
        trained_like(flow)
        after = flow.log_prob(x)
    assert (before - after).abs().max() > 1e-2
    torch.testing.assert_close(after, flow.log_prob(x).detach(), rtol=1e-4, atol=1e-4)


def test_autocast_reaches_every_chunk() -> None:
    flow = trained_like(pf.real_nvp(4, depth=3, width=64, seed=0))
    x = torch.randn(5000, 4)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rows = torch.stack([flow.log_prob(row) for row in x[-3:]])
        torch.testing.assert_close(flow.log_prob(x)[-3:], rows, rtol=1e-3, atol=1e-3)


def test_scoring_and_sampling_never_wait_for_the_device() -> None:
    """A meta tensor has no values: whatever asks for one on the host, as a GPU would have to wait for, raises."""
    with torch.device("meta"):
        flow = pf.real_nvp(6, context_dim=2, depth=3, width=16, mixing="lu")
    x, context = torch.empty(200_000, 6, device="meta"), torch.empty(200_000, 2, device="meta")
    with torch.no_grad():
        assert flow.log_prob(x, context).shape == (200_000,)
        assert flow.g(x, context).shape == (200_000, 6)
        samples, log_prob = flow.sample_with_log_prob(100_000, context[:2])
    assert samples.shape == (100_000, 2, 6)
    assert log_prob.device.type == "meta"


class Mean(torch.nn.Module):
    """An embedding of images that counts the rows it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)
        self.rows = 0

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        self.rows += len(context)
        return self.linear(context.mean((1, 2)))


def test_a_context_of_any_shape_is_embedded_once() -> None:
    embed = Mean()
    flow = pf.Flow(pf.Coupling(pf.MLP(1, 2, context_dim=2), pf.Affine()), 2, embed=embed, context_dim=(3, 5, 4))
    image = torch.randn(3, 5, 4)
    x = flow.sample(5000, image)
    assert x.shape == (5000, 2)
    assert embed.rows == 1
    with torch.no_grad():
        log_prob = flow.log_prob(x, image)
    assert log_prob.shape == (5000,)
    assert embed.rows == 2
    torch.testing.assert_close(log_prob[:3], flow.log_prob(x[:3], image.expand(3, 3, 5, 4)).detach())
    assert flow.sample(6, torch.randn(7, 2, 3, 5, 4)).shape == (6, 7, 2, 2)
    assert flow.rsample(6, torch.randn(7, 3, 5, 4)).shape == (6, 7, 2)
    assert flow.distribution(torch.randn(7, 3, 5, 4)).sample((2,)).shape == (2, 7, 2)
    with pytest.raises(ValueError, match=r"context of shape \(N, 3, 5, 4\), got a context of shape \(N, 3, 4, 4\)"):
        flow.sample(1, torch.randn(3, 4, 4))
    with pytest.raises(ValueError, match="got no context"):
        flow.sample(1)


def image_flow(embed: torch.nn.Module) -> pf.Flow:
    return pf.Flow(pf.Coupling(pf.MLP(1, 2, context_dim=2), pf.Affine()), 2, embed=embed)


class Last(torch.nn.Module):
    """An embedding of sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.GRU(4, 2, batch_first=True)

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        return self.net(context)[0][:, -1]


def images() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


@pytest.mark.parametrize(("embed", "shape"), [(images, (1, 5, 5)), (Last, (3, 4)), (Mean, (3, 5, 4))])
def test_contexts_of_any_shape_that_embed_takes(embed: Any, shape: tuple[int, ...]) -> None:
    """No context_dim says how many axes one has; the first call finds it out, whichever it is."""
    contexts, x = torch.randn(7, *shape), torch.randn(7, 2)
    calls: list[Any] = [
        lambda f: f.sample(6, contexts).shape == (6, 7, 2),
        lambda f: f.sample(6, contexts[0]).shape == (6, 2),
        lambda f: f.rsample(6, contexts).shape == (6, 7, 2),
        lambda f: f.log_prob(x, contexts).shape == (7,),
        lambda f: f.log_prob(x, contexts[0]).shape == (7,),
        lambda f: f.log_prob(x.expand(3, 7, 2), contexts).shape == (3, 7),
        lambda f: f.f(x, contexts)[1].shape == (7,),
        lambda f: f(x, contexts).shape == (7,),
        lambda f: f.distribution(contexts).sample((3,)).shape == (3, 7, 2),
        lambda f: f.inner_flows(x, contexts)[0].context.shape == (7, *shape),
    ]
    for call in calls:
        torch.manual_seed(0)
        flow, ensemble = image_flow(embed()), pf.Ensemble([image_flow(embed()), image_flow(embed())])
        assert call(flow)
        expected = [flow.log_prob(x, contexts)[i] for i in range(7)]
        one_by_one = [flow.log_prob(x[i], contexts[i]) for i in range(7)]
        torch.testing.assert_close(expected, one_by_one)
    assert ensemble.sample(6, contexts).shape == (6, 7, 2)
    assert ensemble.sample(6, contexts[0]).shape == (6, 2)
    assert ensemble.log_prob(x, contexts).shape == (7,)
    rows, many = torch.randn(64, 2), torch.randn(64, *shape)
    pf.fit(flow := image_flow(embed()), rows, context=many, steps=2, progress="none")
    assert flow.sample(2, many).shape == (2, 64, 2)
    with pytest.raises(ValueError, match="turns no part of a context"):
        image_flow(embed()).sample(1, torch.randn(7, 1, 1, 1, 9))


def test_a_mixture_embeds_each_context_once_a_member() -> None:
    embeds = [Mean(), Mean()]
    mixture = pf.Mixture([image_flow(embed) for embed in embeds])
    image = torch.randn(3, 5, 4)
    mixture.log_prob(torch.randn(7, 2), image)
    before = [embed.rows for embed in embeds]
    mixture.sample(500, torch.stack([image, image]))
    assert [embed.rows for embed in embeds] == [n + 2 for n in before]


def test_the_embedding_learns_from_a_shared_context() -> None:
    embed = Mean()
    flow = pf.Flow(pf.Coupling(pf.MLP(1, 2, context_dim=2), pf.Affine()), 2, embed=embed, context_dim=(3, 5, 4))
    flow.log_prob(torch.randn(9, 2), torch.randn(3, 5, 4)).sum().backward()
    assert embed.linear.weight.grad is not None
    assert bool((embed.linear.weight.grad != 0).any())


def test_a_textbook_flow_refuses_a_context() -> None:
    net = lambda: torch.nn.Linear(2, 2)  # noqa: E731
    flow = pf.real_nvp_from_networks(net, net, torch.tensor([[0, 1], [1, 0]]))
    with pytest.raises(ValueError, match=r"expected no context, got a context of shape \(N, 1\)"):
        flow.log_prob(torch.zeros(3, 2), torch.zeros(3, 1))


class PerElement(Recorder):
    """A layer that forgets to sum its log-determinant."""

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        return x, torch.zeros_like(x)

    inverse = forward


def test_a_wrong_log_determinant_names_its_layer() -> None:
    flow = pf.Flow(pf.Chain(pf.ActNorm(2), PerElement()), 2)
    with pytest.raises(ValueError, match=r"layer 1 of the chain, PerElement, must return .* \(3,\), .* got \(3, 2\)"):
        flow.log_prob(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="layer 1 of the chain, PerElement"):
        flow.sample(3)


class Turned(pf.Rearrangement):
    """The columns in the opposite order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        return y.flip(1)


class Broken(Recorder):
    """The identity, which returns something else than it must."""

    def __init__(self, returned: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> Any:
        return self.returned(x)

    def inverse(self, z: torch.Tensor, context: torch.Tensor | None = None) -> Any:
        return self.returned(z)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x: (x, torch.zeros(len(x), 1)), r"Broken.* log-determinant of shape \(3,\), .* got \(3, 1\)"),
        (lambda x: (x, x.new_zeros(())), r"Broken.* log-determinant of shape \(3,\), .* got \(\)"),
        (lambda x: (x, x.sum(0)), r"Broken.* log-determinant of shape \(3,\), .* got \(2,\)"),
        (lambda x: (x[:, :1], x[:, 0]), r"Broken.* must keep the shape \(3, 2\) of its input, got \(3, 1\)"),
        (lambda x: x, r"Broken.* must return a pair \(z, log_det\), got Tensor"),
    ],
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda layer: layer,
        pf.Chain,
        pf.Inverse,
        lambda layer: pf.Chain(pf.ActNorm(2), pf.Inverse(pf.Chain(layer))),
        lambda layer: pf.Within(Turned(), layer),
    ],
)
def test_a_layer_that_breaks_the_contract_is_named_wherever_it_stands(
    wrap: Callable[[pf.Bijection], pf.Bijection], returned: Callable[[torch.Tensor], Any], message: str
) -> None:
    flow = pf.Flow(wrap(Broken(returned)), 2)
    for call in (lambda: flow.log_prob(torch.zeros(3, 2)), lambda: flow(torch.zeros(3, 2)), lambda: flow.sample(3)):
        with pytest.raises(ValueError, match=message):
            call()


def test_samples_of_several_leading_axes() -> None:
    flow = pf.real_nvp(2, context_dim=1, seed=0)
    assert flow.sample((2, 3), torch.zeros(4, 1)).shape == (2, 3, 4, 2)
    assert flow.rsample([5], torch.zeros(1)).shape == (5, 2)
    x, log_prob = flow.sample_with_log_prob((), torch.zeros(4, 1))
    assert x.shape == (4, 2)
    assert log_prob.shape == (4,)
    assert torch.equal(flow.sample((6,), torch.zeros(1), generator=1), flow.sample(6, torch.zeros(1), generator=1))


@pytest.mark.parametrize("n", [2.5, "3", None, True, (2, 2.5)])
def test_a_number_of_samples_is_a_whole_number(n: Any) -> None:
    with pytest.raises(ValueError, match="number of samples must be a whole number, got"):
        pf.real_nvp(2, seed=0).sample(n)


@pytest.mark.parametrize("n", [3, (3,), [3], torch.Size([2, 3]), (), 0])
@pytest.mark.parametrize("context_dim", [0, 1])
def test_every_way_to_draw_takes_a_number_or_a_shape(n: Any, context_dim: int) -> None:
    flows = [pf.real_nvp(2, depth=1, width=4, context_dim=context_dim, seed=k) for k in range(2)]
    context, batch = (torch.zeros(5, 1), (5,)) if context_dim else (None, ())
    shape = (*(n if isinstance(n, tuple | list) else (n,)), *batch, 2)
    for density in (flows[0], pf.Ensemble(flows)):
        assert density.sample(n, context).shape == shape
        x, log_prob = density.sample_with_log_prob(n, context)
        assert (x.shape, log_prob.shape) == (shape, shape[:-1])
    assert flows[0].rsample(n, context).shape == shape
    assert flows[0].distribution(context).sample(n).shape == shape


def test_a_distribution_expands() -> None:
    flow = pf.real_nvp(2, context_dim=1, seed=0)
    d = flow.distribution(torch.zeros(3, 1)).expand((4, 3))
    assert d.batch_shape == (4, 3)
    x = d.sample((5,))
    assert x.shape == (5, 4, 3, 2)
    assert torch.allclose(d.log_prob(x), flow.log_prob(x, torch.zeros(1)))
    single = pf.real_nvp(2, seed=0)
    alone = single.distribution().expand((3,))
    x = alone.sample((5,))
    assert x.shape == (5, 3, 2)
    assert single.distribution().expand(3).batch_shape == (3,)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"of batch shape \(3,\) cannot be expanded to \(4,\)"):
        alone.expand((4,))
    assert torch.equal(alone.log_prob(x), single.log_prob(x))
    assert torch.equal(alone.log_prob(x[0, 0]), single.log_prob(x[0, 0]).expand(3))


def test_what_a_distribution_does_not_know_it_says() -> None:
    d = pf.real_nvp(1, seed=0).distribution()
    normal = torch.distributions.Normal(0.0, 1.0)
    calls = [
        lambda: d.cdf(torch.zeros(1)),
        lambda: d.icdf(torch.zeros(1)),
        lambda: d.entropy(),
        lambda: d.mean,
        lambda: d.variance,
        lambda: d.stddev,
        lambda: d.mode,
        lambda: torch.distributions.kl_divergence(d, d),
        lambda: torch.distributions.kl_divergence(d, normal),
        lambda: torch.distributions.kl_divergence(normal, d),
    ]
    for call in calls:
        with pytest.raises(NotImplementedError, match="no closed form"):
            call()


def test_float64_rows_keep_their_digits_before_a_precondition() -> None:
    """Columns whose difference float32 cannot hold; the layers after the whitening are float32."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(20_000, 2, dtype=torch.float64, generator=generator)
    x = torch.stack([z[:, 0], z[:, 0] + 1e-4 * z[:, 1]], 1) + 1000
    flow = pf.Flow(pf.Chain(pf.Precondition(2), pf.LULinear(2)), 2)
    pf.initialize(flow, x)
    with torch.no_grad():
        log_prob = flow.log_prob(x)
    assert log_prob.dtype == torch.float64
    entropy = math.log(2 * math.pi * math.e) + math.log(1e-4)
    assert float(-log_prob.mean()) == pytest.approx(entropy, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("build", [pf.real_nvp, pf.spline_flow, pf.triangular_spline_flow])
def test_a_flow_can_be_exported_for_any_number_of_rows(build) -> None:  # type: ignore[no-untyped-def]
    flow, x = trained_like(build(3, depth=2, width=8, seed=0)), torch.randn(8, 3)
    exported = torch.export.export(flow, (x,), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},)).module()
    torch.testing.assert_close(exported(torch.cat([x, x]))[:8], flow.log_prob(x), rtol=1e-4, atol=1e-4)
