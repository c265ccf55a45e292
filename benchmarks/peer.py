"""One library at one task, in a process of its own: reads a line, does the task once, answers with the seconds it took.

    python benchmarks/peer.py LIBRARY TASK FEATURES DEPTH WIDTH ROWS

Every library builds the same function: affine couplings whose merged network has two ReLU layers. `peers.py` runs it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def steps_of(rows: int) -> int:
    """Steps of one timed piece of training: some tenths of a second."""
    return 50 if rows <= 128 else 5


def zuko_flow(features: int, depth: int, width: int) -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
    import zuko

    flow = zuko.flows.RealNVP(features, transforms=depth, hidden_features=(width, width))
    return flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,))


def nflows_flow(features: int, depth: int, width: int) -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
    import torch
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.nn.nets import MLP
    from nflows.transforms.base import CompositeTransform
    from nflows.transforms.coupling import AffineCouplingTransform

    def net(given: int, params: int) -> Any:
        mlp = MLP([given], [params], [width, width], activation=torch.nn.functional.relu)
        inner = mlp.forward
        mlp.forward = lambda inputs, context=None: inner(inputs)  # its couplings hand on a context, its MLP takes none
        return mlp

    mask = torch.arange(features) % 2
    layers = [AffineCouplingTransform(mask if i % 2 else 1 - mask, net) for i in range(depth)]
    flow = Flow(CompositeTransform(layers), StandardNormal([features]))
    return flow, flow.log_prob, flow.sample


def normflows_flow(features: int, depth: int, width: int) -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
    import normflows as nf

    first = (features + 1) // 2
    layers = []
    for _ in range(depth):
        net = nf.nets.MLP([first, width, width, 2 * (features - first)])
        layers += [nf.flows.AffineCouplingBlock(net, scale_map="exp"), nf.flows.Permute(features, mode="swap")]
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(features, trainable=False), layers)
    return flow, flow.log_prob, lambda n: flow.sample(n)[0]


def freia_flow(features: int, depth: int, width: int) -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
    import math

    import FrEIA.framework as framework
    import FrEIA.modules as modules
    import torch
    from torch import nn

    def net(given: int, params: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(given, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, params)
        )

    flow = framework.SequenceINN(features)
    for _ in range(depth):
        flow.append(modules.AllInOneBlock, subnet_constructor=net)

    def log_prob(x: Any) -> Any:
        z, log_det = flow(x)
        return log_det - 0.5 * (z**2).sum(1) - 0.5 * features * math.log(2 * math.pi)

    return flow, log_prob, lambda n: flow(torch.randn(n, features), rev=True)[0]


TORCH = {"zuko": zuko_flow, "nflows": nflows_flow, "normflows": normflows_flow, "FrEIA": freia_flow}


def torch_task(
    library: str, task: str, features: int, depth: int, width: int, rows: int, compiled: bool
) -> Callable[[], float]:
    import torch

    torch.manual_seed(0)
    flow, log_prob, sample = TORCH[library](features, depth, width)
    x = torch.randn(rows, features)
    if task == "step":
        optimizer = torch.optim.Adam(flow.parameters(), lr=1e-4, fused=True)
        score = torch.compile(log_prob) if compiled else log_prob

        def run() -> None:
            for _ in range(steps_of(rows)):
                optimizer.zero_grad()
                (-score(x).mean()).backward()
                optimizer.step()

        return timed(run, steps_of(rows))

    def evaluate() -> None:
        with torch.no_grad():
            log_prob(x) if task == "log_prob" else sample(rows)

    return timed(evaluate)


def pushforward_task(task: str, features: int, depth: int, width: int, rows: int) -> Callable[[], float]:
    import torch

    import pushforward as pf

    flow = pf.real_nvp(features, depth=depth, width=width, mixing="flip", seed=0)
    if task == "step":  # with all that `train` does: clipping, averaged weights, schedule, checks
        x = torch.randn(steps_of(rows) * rows, features)
        epochs = pf.train(flow, x, batch=rows, epochs=100_000, val_fraction=0.0, patience=None)
        return timed(lambda: next(epochs), steps_of(rows))
    x = torch.randn(rows, features)

    def evaluate() -> None:
        with torch.no_grad():
            flow.log_prob(x) if task == "log_prob" else flow.sample(rows)

    return timed(evaluate)


def flowjax_task(task: str, features: int, depth: int, width: int, rows: int) -> Callable[[], float]:
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import jax.random as jr
    import optax
    from flowjax.bijections import Affine
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow

    key = jr.key(0)
    # Its maps go from base to data; either direction of a coupling is in closed form, so neither is at a disadvantage.
    flow = coupling_flow(
        key, base_dist=Normal(jnp.zeros(features)), transformer=Affine(), flow_layers=depth, nn_width=width, nn_depth=2
    )
    x = jr.normal(key, (rows, features))
    if task == "step":
        params, static = eqx.partition(flow, eqx.is_inexact_array)
        optimizer = optax.adam(1e-4)
        state = {"params": params, "moments": optimizer.init(params)}

        @jax.jit
        def step(params: Any, moments: Any, x: Any) -> Any:
            gradient = jax.grad(lambda p: -eqx.combine(p, static).log_prob(x).mean())(params)
            updates, moments = optimizer.update(gradient, moments)
            return optax.apply_updates(params, updates), moments

        def run() -> None:
            for _ in range(steps_of(rows)):
                state["params"], state["moments"] = step(state["params"], state["moments"], x)
            jax.block_until_ready(state["params"])

        return timed(run, steps_of(rows))
    score = eqx.filter_jit(lambda flow, x: flow.log_prob(x))
    draw = eqx.filter_jit(lambda flow, key: flow.sample(key, (rows,)))
    call = (lambda: score(flow, x)) if task == "log_prob" else (lambda: draw(flow, key))
    return timed(lambda: jax.block_until_ready(call()))


def timed(run: Callable[[], object], pieces: int = 1) -> Callable[[], float]:
    def once() -> float:
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) / pieces

    return once


def main() -> None:
    library, task, *sizes = sys.argv[1:]
    features, depth, width, rows = (int(s) for s in sizes)
    if library == "pushforward":
        once = pushforward_task(task, features, depth, width, rows)
    elif library == "flowjax":
        once = flowjax_task(task, features, depth, width, rows)
    else:
        name, _, compiled = library.partition(" ")
        once = torch_task(name, task, features, depth, width, rows, compiled == "compiled")
    start = time.perf_counter()
    once()
    print(json.dumps({"first": time.perf_counter() - start}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": once()}), flush=True)


if __name__ == "__main__":
    main()
