"""Contexts of a flow: of any shape, broadcast, embedded once, learned from."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pushforward as pf


def test_context_broadcasts_over_rows(conditional: pf.Flow) -> None:
    x, context = torch.randn(7, 5, 3), torch.randn(5, 2)
    one = conditional.log_prob(x, context)
    assert one.shape == (7, 5)
    torch.testing.assert_close(one[3, 2], conditional.log_prob(x[3, 2], context[2]))
    assert conditional.log_prob(x[0, 0], context).shape == (5,)


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
