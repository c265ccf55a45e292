"""What `train` may be asked for: its settings are checked here, before any row is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

LENGTHS = ("epochs", "steps", "seconds")
LARGEST_GROWTH = 2**20


def check_settings(given: Mapping[str, Any]) -> None:
    """Checks settings of `train` by name; what is not among them, or None where that is allowed, is left open.

    Raises:
        ValueError: one is out of range or of a wrong type, or two do not go together.
    """
    lengths = {name: given[name] for name in LENGTHS if given.get(name) is not None}
    if len(lengths) > 1:
        raise ValueError(f"give at most one of epochs, steps and seconds, got {lengths}")
    for name, (is_good, wanted) in _RULES.items():
        if name in given and not is_good(given[name]):
            raise ValueError(f"{name} must be {wanted}, got {given[name]!r}")
    growth = given.get("batch_growth") or 1
    if "epochs" in lengths and growth > 1:
        raise ValueError(f"batch_growth needs a length in steps or seconds, got {growth} with epochs={given['epochs']}")


def _number(is_good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Real) and not isinstance(value, bool) and is_good(value)


def _optional(is_good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_good(value)


_whole = _number(lambda v: isinstance(v, Integral))
_count = _optional(lambda v: _whole(v) and v >= 1)
_growth = _optional(lambda v: _whole(v) and 1 <= v <= LARGEST_GROWTH and int(v).bit_count() == 1)
_positive = _optional(_number(lambda v: 0 < v < math.inf))
_not_negative = _optional(_number(lambda v: 0 <= v < math.inf))
_above_zero = _optional(_number(lambda v: v > 0))
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (_count, "a positive whole number"),
    "steps": (_count, "a positive whole number"),
    "seconds": (_positive, "positive and finite"),
    "batch": (_count, "a whole number of at least 1"),
    "batch_growth": (_growth, f"a power of 2, from 1 to {LARGEST_GROWTH:,}"),
    "lr": (_positive, "positive and finite"),
    "weight_decay": (_not_negative, "None or a number of at least 0"),
    "noise": (_not_negative, "None or a number of at least 0"),
    "schedule": (lambda v: v in ("cosine", "constant"), "cosine or constant"),
    "warmup": (_number(lambda v: 0 <= v <= 1), "between 0 and 1"),
    "ema": (_number(lambda v: 0 <= v < 1), "from 0 to below 1"),
    "clip": (_above_zero, "positive or None"),
    "patience": (_above_zero, "positive or None"),
    "val_fraction": (_number(lambda v: 0 <= v < 1), "from 0 to below 1"),
    "seed": (_whole, "a whole number"),
}
