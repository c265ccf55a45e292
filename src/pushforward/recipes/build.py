"""What recipes have in common: the register that files refer to, the checks of sizes, and the stack of layers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import numpy as np
import torch
from torch import Tensor

from ..bases import GaussianMixture, as_shape
from ..bijections import (
    ActNorm,
    Bijection,
    Chain,
    LULinear,
    OnChannels,
    Permute,
    Precondition,
    PreconditionContext,
    Rotation,
    Standardize,
)
from ..flow import Flow
from ..nets import MLP, StandardizeContext

# What a model file may name; `load` builds nothing else.
RECIPES: dict[str, Callable[..., Flow]] = {}  # over vectors
IMAGE_RECIPES: dict[str, Callable[..., Flow]] = {}  # over (C, H, W)
MIXINGS = ("auto", "flip", "permute", "lu")
P = ParamSpec("P")
Conditioner = Callable[[int, int], MLP]  # features in, features out -> the network of a layer, masked or not


def recipe(
    sizes: Callable[[int], dict[str, int]] | None = None,
    *,
    register: dict[str, Callable[..., Flow]] = RECIPES,
) -> Callable[[Callable[P, Flow]], Callable[P, Flow]]:
    """Registers a recipe by its name and writes name and arguments on the flows that it builds, for `save`.

    Args:
        sizes: the number of columns -> the values of the arguments that are None, so that a saved model keeps its own
            sizes whatever later versions choose; nothing where the recipe has no such arguments.
        register: where it is put.
    """

    def decorate(build: Callable[P, Flow]) -> Callable[P, Flow]:
        signature = inspect.signature(build)

        @functools.wraps(build)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> Flow:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
            given |= {n: _listed(v) for n, v in given.items() if isinstance(v, np.generic | np.ndarray | list | tuple)}
            for name, size in sizes(_features(given["shape"])).items() if sizes else ():
                if given[name] is None:
                    given[name] = size
            flow = build(*bound.args, **bound.kwargs)
            arguments = {k: _listed(v) for k, v in given.items()}
            flow.recipe = {"name": build.__name__, "arguments": arguments}
            return flow

        register[build.__name__] = wrapper
        return wrapper

    return decorate


def _listed(value: Any) -> Any:
    """An argument as a file holds it, which nobody else changes: sequences and arrays as lists."""
    if isinstance(value, list | tuple):
        return [_listed(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic | Tensor) else value


def stack(
    shape: int | tuple[int, ...],
    layer: Callable[[int, int, bool, Conditioner], Bijection],
    *,
    depth: int | None,
    width: int | None,
    hidden_layers: int,
    activation: str = "relu",
    residual: bool = False,
    mixing: str,
    mixings: tuple[str, ...] = MIXINGS,
    context_dim: int,
    components: int | None,
    standardize: bool,
    precondition: bool,
    columns: Sequence[int] | None,
    seed: int | None,
    net: type[MLP] = MLP,
) -> Flow:
    """A flow of layers (given, moved, flip, conditioner) that take turns in which half they condition on.

    Raises:
        ValueError: the shape is none of vectors, a size is out of range, the mixing is unknown, or `columns` are none
            of the shape's.
    """
    width_of_rows = features = _features(shape)
    if columns is not None:
        columns = [int(column) for column in columns]
        features = len(columns)
        if not columns or len(set(columns)) < features or not set(columns) <= set(range(width_of_rows)):
            raise ValueError(f"columns must be some of 0 to {width_of_rows - 1}, each once, got {columns}")
    depth, components = check_size("depth", depth), check_size("components", components)
    context_dim = check_size("context_dim", context_dim)
    if mixing not in mixings:
        raise ValueError(f"mixing must be {', '.join(mixings[:-1])} or {mixings[-1]}, got {mixing!r}")
    if mixing == "auto":
        mixing = "lu" if features > 2 else "flip"
    generator = generator_of(seed)
    conditioner = functools.partial(
        net, width=check_size("width", width), hidden_layers=check_size("hidden_layers", hidden_layers),
        activation=activation, residual=residual, context_dim=context_dim, generator=generator,
    )  # fmt: skip
    first: list[Bijection] = [Precondition(width_of_rows, bends=True)] if precondition else []
    if columns is not None and standardize and not precondition:
        first = [Standardize(width_of_rows)]
    layers: list[Bijection] = [Standardize(features)] if standardize else []
    for i in range(depth):
        flip = i % 2 == 1
        if mixing == "rotation":
            layers.append(Rotation(features))
        elif i > 0 and mixing == "permute":
            layers.append(Permute(torch.randperm(features, generator=torch.Generator().manual_seed(i), device="cpu")))
        elif i > 0 and mixing == "lu":
            layers.append(LULinear(features))
        smaller, larger = features // 2, features - features // 2
        given, moved = (larger, smaller) if flip else (smaller, larger)
        layers.append(layer(given, moved, flip, conditioner))
    layers.append(ActNorm(features))
    base = GaussianMixture(width_of_rows, components, generator=generator) if components else None
    embed = None
    if context_dim and (precondition or standardize):
        embed = PreconditionContext(context_dim) if precondition else StandardizeContext(context_dim)
    if columns is not None:
        layers = [OnChannels(columns, Chain(*layers))]
    return Flow(Chain(*first, *layers), width_of_rows, base, embed, context_dim=context_dim)


def generator_of(seed: int | None) -> torch.Generator | None:
    """The source of the initial weights; None stands for torch's global one.

    Raises:
        ValueError: the seed is no whole number.
    """
    if not isinstance(seed, int | None):
        raise ValueError(f"seed must be a whole number or None, got {seed!r}")
    return None if seed is None else torch.Generator().manual_seed(seed)


def _features(shape: int | tuple[int, ...]) -> int:
    """D, of the shape D or (D,) of vectors."""
    sizes = as_shape(shape)
    if len(sizes) != 1:
        raise ValueError(f"this recipe is for vectors: expected shape D or (D,), got {sizes}")
    return sizes[0]


_RANGES = {
    "depth": (1, 1000),
    "levels": (1, 12),
    "blocks": (0, 1000),
    "checkerboards": (0, 1000),
    "width": (1, 1_000_000),
    "coarse_width": (1, 1_000_000),
    "hidden_layers": (0, 100),
    "context_dim": (0, 1_000_000),
    "components": (0, 100_000),
    "bins": (0, 1000),
    "sigmoids": (0, 1000),
}


def check_size(name: str, value: int | None) -> int:
    """Raises ValueError unless a size is a whole number in the range of its name."""
    low, high = _RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
    return value


def check_sizes(name: str, values: Any) -> None:
    """Raises ValueError unless sizes are a list of whole numbers in the range of its name's singular, one at least."""
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"{name} must be a list of whole numbers, one for each scale, got {values!r}")
    for value in values:
        check_size(name.removesuffix("s"), value)
