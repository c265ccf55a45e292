"""Many rows through a flow: chunks and threads give what the whole gives, and nothing waits for the device."""

from __future__ import annotations

import threading

import pytest
import torch

import pushforward as pf
from flows import Recorder, stirred


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
    flow = pf.real_nvp(features, context_dim=2, depth=3, mixing=mixing, seed=0, **options)
    stirred(flow, 0.05, seed=5)  # some other weights lose a digit more in float32, in a row of 9,000
    x, context = torch.randn(9000, features), torch.randn(9000, 2)
    z, log_det = flow.f(x, context)
    back = flow.g(z, context)
    with torch.no_grad():
        torch.testing.assert_close(flow.log_prob(x, context), flow.base.log_prob(z) + log_det, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(flow.g(z, context), back, rtol=1e-4, atol=1e-4)


def test_new_weights_are_seen_by_the_next_call() -> None:
    flow = stirred(pf.real_nvp(3, depth=3, width=16, mixing="lu", seed=0), 0.1)
    x = torch.randn(5000, 3)
    with torch.no_grad():
        before = flow.log_prob(x)
        stirred(flow, 0.1)
        after = flow.log_prob(x)
    assert (before - after).abs().max() > 1e-2
    torch.testing.assert_close(after, flow.log_prob(x).detach(), rtol=1e-4, atol=1e-4)


def test_autocast_reaches_every_chunk() -> None:
    flow = stirred(pf.real_nvp(4, depth=3, width=64, seed=0), 0.1)
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
