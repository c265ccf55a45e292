"""What callers give: numbers, how many samples, sources of randomness, contexts and their axes."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


def first_floating(*tensors: Iterable[Tensor]) -> Tensor:
    """The first tensor of floating point, which tells the dtype and the device of a density; an empty one of none."""
    return next((t for t in itertools.chain(*tensors) if t.is_floating_point()), torch.empty(0))


def like(density: nn.Module) -> Tensor:
    """A tensor of the dtype and on the device of a density."""
    return first_floating(density.parameters(), density.buffers())


def as_numbers(values: Any, name: str, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers as a tensor on the device of another one, of a dtype or of the other one's.

    Raises:
        ValueError: they are complex, no numbers, a table, or a tensor that is sparse or on another device.
    """
    if isinstance(values, Tensor) and values.device != like.device:
        raise ValueError(f"{name} is on {values.device} and the density on {like.device}: move one of them with .to()")
    if isinstance(values, Tensor) and values.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor, got one of {values.layout}: give {name}.to_dense()")
    if "complex" in str(getattr(values, "dtype", "")):
        raise ValueError(f"{name} must be real numbers, got {values.dtype}: give real and imaginary parts as columns")
    advice = ""
    if isinstance(values, Dataset | DataLoader):
        advice = "give its tensors, or train on a function (n, generator) that draws n rows"
    elif hasattr(values, "columns") or hasattr(values, "column_names") or isinstance(values, Mapping):
        by_name = "density.space.read(table) takes the columns by their names, and fit_table fits a density of tables"
        advice = "give its columns of numbers as an array" if name == "context" else by_name
    if advice:
        got = f"got a {type(values).__name__}: {advice}"
        raise ValueError(f"{name} must be numbers, in a tensor, an array or lists, {got}")
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
        values = filled(values)
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))  # the only ones that torch takes
        values = values if values.flags.writeable else values.copy()  # of others it warns
    try:
        return torch.as_tensor(values, dtype=dtype or like.dtype, device=like.device)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f" of {kind}" if (kind := getattr(values, "dtype", None)) is not None else ""
        raise ValueError(
            f"{name} must be numbers, in a tensor, an array or lists of one length, got {type(values).__name__}{got}: "
            f"{error}"
        ) from None


def filled(values: Any) -> Any:
    """An array with NaN in place of numbers that are masked; all else as it is."""
    return np.ma.filled(values.astype(np.float64), np.nan) if np.ma.is_masked(values) else values


def as_count(n: Any) -> int:
    """A number of samples, of any integer type.

    Raises:
        ValueError: it is no whole number, or negative.
    """
    try:
        count = operator.index(n)
    except TypeError:
        count = None
    if count is None or isinstance(n, bool):
        raise ValueError(f"the number of samples must be a whole number, got {n!r}")
    if count < 0:
        raise ValueError(f"the number of samples must be at least 0, got {n}")
    return count


def as_leading(n: int | Sequence[int]) -> tuple[int, ...]:
    """How many samples, or the shape of their leading axes -> that shape.

    Raises:
        ValueError: as `as_count`.

    Example:
        >>> as_leading(5), as_leading((2, 3))
        ((5,), (2, 3))
    """
    return tuple(map(as_count, n)) if isinstance(n, tuple | list) else (as_count(n),)


def as_generator(generator: torch.Generator | int | None, device: torch.device | str = "cpu") -> torch.Generator | None:
    """A source of randomness: a seed becomes a generator on the device; None is torch's global one.

    Example:
        >>> as_generator(3).initial_seed()
        3
    """
    if isinstance(generator, np.integer):
        generator = int(generator)
    if generator is not None and not isinstance(generator, int | torch.Generator):
        raise ValueError(f"generator must be a torch.Generator, a seed or None, got {generator!r}")
    return torch.Generator(device).manual_seed(generator) if isinstance(generator, int) else generator


def as_seed(seed: Any) -> int:
    """A seed that numpy and scikit-learn take, from 0 to below 2^32, from any whole number.

    Raises:
        ValueError: it is no whole number.

    Example:
        >>> as_seed(7), as_seed(-1), as_seed(2**32)
        (7, 4294967295, 0)
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ValueError(f"seed must be a whole number, got {seed!r}")
    return int(seed) % 2**32


def as_device(device: str | torch.device) -> torch.device:
    """A device of torch that this machine has.

    Raises:
        ValueError: it is none, or cannot be used here.

    Example:
        >>> as_device("cpu")
        device(type='cpu')
    """
    try:
        return torch.empty(0, device=device).device
    except (TypeError, RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        expected = 'one of torch\'s on this machine, such as "cpu"'
        raise ValueError(f"device must be {expected}, got {device!r}: {reason}") from None


def split_contexts(context: Tensor, rank: int) -> tuple[Tensor, tuple[int, ...]]:
    """Contexts (*M, *shape), of which one has `rank` axes -> (prod(M), *shape), the leading axes *M.

    Raises:
        ValueError: there are fewer axes.
    """
    if context.ndim < rank:
        raise ValueError(f"expected a context with at least {rank} axes, got shape {tuple(context.shape)}")
    leading, shape = context.shape[: context.ndim - rank], context.shape[context.ndim - rank :]
    return context.reshape(math.prod(leading), *shape), tuple(leading)


def repeated(contexts: Tensor | None, times: int) -> Tensor | None:
    """Contexts (B, ...), one time after another: (times B, ...); None for none."""
    return None if contexts is None else contexts.repeat(times, *[1] * (contexts.ndim - 1))


def possible_ranks(shape: tuple[int, ...], leading: tuple[int, ...] | None) -> list[int]:
    """How many axes one context may have, likeliest first; at least one number.

    Args:
        shape: of all contexts.
        leading: the leading axes of the rows that they belong to; None where there are no rows.

    Example:
        >>> possible_ranks((7, 1, 64, 64), None)
        [1, 2, 3, 4]
        >>> possible_ranks((7, 1, 64, 64), (7,))  # those of the rows' own leading axes first
        [3, 2, 4]
    """
    ranks = range(1, len(shape) + 1)
    if leading is None:
        return list(ranks)
    of_rows = [rank for rank in ranks if shape[: len(shape) - rank] == leading]
    fits = [rank for rank in ranks if _broadcasts(shape[: len(shape) - rank], leading) and rank not in of_rows]
    return [*of_rows, *fits] or [1]


def _broadcasts(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes broadcast."""
    return all(len({*sizes, 1}) <= 2 for sizes in zip(one[::-1], other[::-1], strict=False))


def has_dtype(values: Any, dtype: torch.dtype) -> bool:
    """Whether a tensor or an array has a dtype."""
    return str(getattr(values, "dtype", None)).removeprefix("torch.") == str(dtype).removeprefix("torch.")
