"""Dropout of what conditioners see: in steps of a training alone, repeatable, and of use where rows are few."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import pushforward as pf
from pushforward.bijections.coupling import Coupling
from pushforward.training.dropout import dropping


class Sees(torch.nn.Module):
    """A conditioner that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Tensor | None = None
        self.context: Tensor | None = None

    def forward(self, given: Tensor, context: Tensor | None) -> Tensor:
        self.seen, self.context = given, context
        return given.new_zeros(len(given), 4)


def seen(layer: Coupling, share: float, seed: int = 0) -> Tensor:
    net = layer.net
    assert isinstance(net, Sees)
    with dropping(layer, share, torch.Generator().manual_seed(seed)):
        layer(torch.ones(3000, 4), torch.ones(3000, 2))
    assert net.context is not None
    assert (net.context == 1).all()  # contexts stay
    assert net.seen is not None
    return net.seen


def test_a_share_of_the_given_half_is_zero_in_training_mode_alone() -> None:
    layer = Coupling(Sees(), pf.Affine()).train()
    dropped = seen(layer, 0.25)
    assert float((dropped == 0).double().mean()) == pytest.approx(0.25, abs=0.03)
    assert set(dropped.unique().tolist()) == {0.0, 1.0}  # what is left is not made larger
    assert torch.equal(dropped, seen(layer, 0.25))
    assert not torch.equal(dropped, seen(layer, 0.25, seed=1))
    assert (seen(layer, 0.0) == 1).all()
    assert (seen(layer.eval(), 0.25) == 1).all()
    assert not layer.net._forward_pre_hooks  # pyright: ignore


LAYERS = [
    lambda: Coupling(pf.MLP(2, 4), pf.Affine()), lambda: pf.Autoregressive(pf.MaskedMLP(4, 8), pf.Affine(), 4),
    lambda: pf.GroupAutoregressive([pf.MLP(1, 4), pf.MLP(3, 2)], pf.Affine(), [1, 2, 1]),
]  # fmt: skip


@pytest.mark.parametrize("make", LAYERS)
def test_what_is_dropped_leaves_the_log_determinant_right(make) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    layer = make().train()
    x = torch.randn(5, 4)
    with dropping(layer, 0.5, torch.Generator().manual_seed(3)):
        assert not torch.equal(layer(x)[0], layer.eval()(x)[0])
    layer.train()

    def forward(x: Tensor) -> Tensor:
        with dropping(layer, 0.5, torch.Generator().manual_seed(3)):
            return layer(x[None])[0][0]

    with dropping(layer, 0.5, torch.Generator().manual_seed(3)):
        log_det = layer(x[:1])[1]
    jacobian = torch.autograd.functional.jacobian(forward, x[0])
    assert isinstance(jacobian, Tensor)
    torch.testing.assert_close(log_det[0], jacobian.slogdet().logabsdet)


@pytest.mark.parametrize("other", ["reversible", "compile"])
def test_dropout_is_refused_where_a_layer_would_run_twice(other: str) -> None:
    with pytest.raises(ValueError, match=f"dropout goes without {other}, got dropout=0.1"):
        pf.fit(pf.real_nvp(2), torch.randn(50, 2), steps=1, dropout=0.1, **{other: True}, progress="none")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_rule_leaves_dropout_out_where_it_does_not_go() -> None:
    assert pf.choose(300, 4).training["dropout"] > 0
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    rows = {"kind": ["a", "b"] * 30} | {f"x{i}": x[:, i].numpy() for i in range(4)}
    pf.fit_table(rows, steps=1, reversible=True, stack=False, progress="none")
    pf.fit("auto", x, steps=1, reversible=True, stack=False, progress="none")
    pf.FlowDensity(training={"reversible": True}, steps=1, stack=False).fit(x.numpy())


def test_rows_that_would_be_learned_by_heart_are_not() -> None:
    x, val = torch.randn(1200, 8, generator=torch.Generator().manual_seed(0)).split([200, 1000])
    losses = []
    for dropout in (0.0, 0.5):
        flow = pf.spline_flow(8, seed=0)
        run = pf.fit(flow, x, val, steps=300, patience=None, noise=0.0, dropout=dropout, progress="none")
        losses.append(run.epochs[-1].val_nll)  # of the last weights, not the best
    assert None not in losses
    assert losses[1] < losses[0] - 0.5, losses


def test_each_network_of_groups_sees_less() -> None:
    class Net(torch.nn.Module):
        def __init__(self, outputs: int) -> None:
            super().__init__()
            self.outputs, self.zeros = outputs, 0.0

        def forward(self, given: Tensor, context: Tensor | None) -> Tensor:
            self.zeros = float((given == 0).double().mean())
            return given.new_zeros(len(given), self.outputs, *given.shape[2:])

    nets = [Net(4), Net(2)]
    layer = pf.GroupAutoregressive(nets, pf.Affine(), [1, 2, 1]).train()
    with dropping(layer, 0.25, torch.Generator().manual_seed(0)):
        layer(torch.ones(300, 4, 3, 3))
    assert [net.zeros for net in nets] == pytest.approx([0.25, 0.25], abs=0.03)
