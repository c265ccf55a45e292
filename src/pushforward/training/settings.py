"""Every setting of a training, once: its default, its range and what it does.

The keywords of `train`, the parameters of the estimators and the options of the command line are held equal to the
fields of `TrainSettings` by tests.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np
import torch

from .objective import Objective, negative_log_likelihood

LENGTHS = ("epochs", "steps", "seconds")
LARGEST_GROWTH = 2**20
Rule = tuple[Callable[[Any], bool], str]  # whether a value is in range, and the range in words


def _number(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Real) and not isinstance(value, bool) and is_valid(value)


def _whole(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return _number(lambda v: isinstance(v, Integral) and is_valid(v))


def _or_none(rule: Rule) -> Rule:
    is_valid, words = rule
    return lambda value: value is None or is_valid(value), f"None or {words}"


_WHOLE: Rule = _whole(lambda v: True), "a whole number"
_PARTS: Rule = _whole(lambda v: v >= 1), "a whole number of at least 1"
_COUNT: Rule = _or_none(_PARTS)
_GROWTH: Rule = _or_none((
    _whole(lambda v: 1 <= v <= LARGEST_GROWTH and int(v).bit_count() == 1),
    f"a power of 2, from 1 to {LARGEST_GROWTH:,}",
))  # fmt: skip
_POSITIVE_FINITE: Rule = _or_none((_number(lambda v: 0 < v < math.inf), "a positive finite number"))
_POSITIVE: Rule = _or_none((_number(lambda v: v > 0), "a positive number"))
_NOT_NEGATIVE: Rule = _or_none((_number(lambda v: 0 <= v < math.inf), "a finite number of at least 0"))
_FRACTION: Rule = _number(lambda v: 0 <= v <= 1), "between 0 and 1"
_BELOW_ONE: Rule = _number(lambda v: 0 <= v < 1), "from 0 to below 1"
_SHARE: Rule = _or_none(_BELOW_ONE)
_SCHEDULE: Rule = (lambda v: v in ("cosine", "constant")), "cosine or constant"
_PRECISION: Rule = (lambda v: v in ("float32", "bf16")), "float32 or bf16"
_BOOL: Rule = (lambda v: isinstance(v, bool)), "True or False"
_FOLDER: Rule = _or_none(((lambda v: isinstance(v, str | PathLike)), "the path of a folder"))
_FUNCTION: Rule = callable, "a function"
_FUNCTION_OR_NONE: Rule = _or_none(_FUNCTION)


def _metadata(rule: Rule, text: str, *, same_when_resumed: bool = False, of_adamw: bool = False) -> dict[str, Any]:
    is_valid, words = rule
    return {
        "is_valid": is_valid, "range": words, "help": text, "same_when_resumed": same_when_resumed,
        "of_adamw": of_adamw,
    }  # fmt: skip


@dataclass(frozen=True)
class TrainSettings:
    """The settings of `train`.

    The metadata of each field are its `range` and `help` in words, `is_valid` (whether a value is in range),
    `same_when_resumed` (whether a run that goes on from a checkpoint must have the value that it began with), and
    `of_adamw` (whether it is an argument of AdamW, which another optimizer does not take).

    The command line reads this source without importing it: each field has its `default` first, then its `metadata`,
    and both the default of an option and the text of its help are literals.

    Example:
        >>> next(f.metadata["help"] for f in fields(TrainSettings) if f.name == "steps")
        'the length of the run in optimizer steps'
    """

    objective: Objective = field(
        default=negative_log_likelihood, metadata=_metadata(_FUNCTION,
            "the loss of a batch, a function (density, `Batch`) -> a tensor of one number. The members of a mixture "
            "are trained each by their own. Negative log-likelihood, the default, has a fast form. On a CPU it is "
            "called once more before the first step, to count its operations"
    ))  # fmt: skip
    metric: Objective | None = field(
        default=None, metadata=_metadata(_FUNCTION_OR_NONE,
            "what is measured on the validation rows, of which the lowest is best: as `objective`, which it is when "
            "None. It is called without gradients"
    ))  # fmt: skip
    optimizer: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer] | None = field(
        default=None, metadata=_metadata(_FUNCTION_OR_NONE,
            "a function of the parameters that makes an optimizer of torch, such as a class or a `functools.partial` "
            "of it, whose learning rate is the highest; None takes AdamW with `lr` and `weight_decay`"
    ))  # fmt: skip
    epochs: int | None = field(
        default=None, metadata=_metadata(_COUNT,
            "the length of the run in passes over the rows. Give at most one of epochs, steps and seconds; with none,"
            " it is 100 passes up to 10,000 steps, but 400 up to 6,000, and for few rows 3 steps a row"
    ))  # fmt: skip
    steps: int | None = field(default=None, metadata=_metadata(_COUNT, "the length of the run in optimizer steps"))
    seconds: float | None = field(
        default=None, metadata=_metadata(_POSITIVE_FINITE,
            "the length of the run in wall-clock time, set-up and validation included. It ends earlier after so many "
            "passes (100 at least) that more would learn the rows by heart"
    ))  # fmt: skip
    batch: int | None = field(
        default=None, metadata=_metadata(_COUNT,
            "rows of a step; None takes what `choose` would for the density's recipe and the number of rows",
            same_when_resumed=True,
    ))  # fmt: skip
    batch_growth: int | None = field(
        default=None, metadata=_metadata(_GROWTH,
            "how many times larger the batch is at the end, a power of 2: it doubles in parts of the run that grow, "
            "too, for many steps first and little noise last. None as for batch, but 1 where that or the epochs are "
            "given: it needs a length in steps or seconds",
            same_when_resumed=True,
    ))  # fmt: skip
    accumulate: int = field(
        default=1, metadata=_metadata(_PARTS,
            "into how many parts a batch is split, one after the other, whose gradients are added before a step: the "
            "same step in less memory, for large images. Batch normalisation sees parts alone; flows of vectors whose "
            "gradients are found by hand need little memory, and take batches whole"
    ))  # fmt: skip
    lr: float | None = field(
        default=None, metadata=_metadata(_POSITIVE_FINITE,
            "the highest learning rate; None as for batch",
            same_when_resumed=True, of_adamw=True,
    ))  # fmt: skip
    weight_decay: float | None = field(
        default=None, metadata=_metadata(_NOT_NEGATIVE,
            "of AdamW; None as for batch",
            same_when_resumed=True, of_adamw=True,
    ))  # fmt: skip
    noise: float | None = field(
        default=None, metadata=_metadata(_NOT_NEGATIVE,
            "standard deviation of the noise added to the rows each time they are drawn, in units of each column's "
            "spread. It smooths the density of few rows; None as for batch (none but for tables of few rows), 0 for "
            "none",
            same_when_resumed=True,
    ))  # fmt: skip
    dropout: float | None = field(
        default=None, metadata=_metadata(_SHARE,
            "the share of what the conditioner of a layer sees of the other numbers that is zero, at random in each "
            "step, so that few rows are not learned by heart; None as for noise, 0 for none. With it the inverse is "
            "another map in training, so it goes with neither `reversible` nor `compile`",
            same_when_resumed=True,
    ))  # fmt: skip
    schedule: str = field(
        default="cosine",
        metadata=_metadata(_SCHEDULE, 'of the learning rate: "cosine" or "constant"', same_when_resumed=True),
    )
    warmup: float = field(
        default=0.03, metadata=_metadata(_FRACTION,
            "the fraction of the run over which the rate rises from zero",
            same_when_resumed=True,
    ))  # fmt: skip
    ema: float = field(
        default=0.995, metadata=_metadata(_BELOW_ONE,
            "how much of the averaged weights is kept in a step; 0 keeps the last weights alone",
            same_when_resumed=True,
    ))  # fmt: skip
    clip: float | None = field(
        default=2.0, metadata=_metadata(_POSITIVE,
            "the largest gradient norm; None does not clip",
            same_when_resumed=True,
    ))  # fmt: skip
    patience: float | None = field(
        default=0.5, metadata=_metadata(_POSITIVE,
            "stop when validation has not improved for this fraction of the run; None never stops early"
    ))  # fmt: skip
    val_fraction: float = field(
        default=0.1, metadata=_metadata(_BELOW_ONE,
            "the fraction of the data to hold out, at most 20,000 rows; fewer than 20 rows are not split"
    ))  # fmt: skip
    checkpoint: str | PathLike[str] | None = field(
        default=None, metadata=_metadata(_FOLDER,
            "a folder where the state is written after each pass (of rows that are drawn, as images are, after each "
            "128 steps) and read from when present: a run that was stopped goes on as if it had not been. Only its "
            "length may be another"
    ))  # fmt: skip
    check: bool = field(
        default=True, metadata=_metadata(_BOOL,
            "where there is no noise, warn of columns over which a density can grow without bound: those that repeat "
            "one value or are a linear function of others. A sample of the rows is looked at"
    ))  # fmt: skip
    seed: int = field(
        default=0, metadata=_metadata(_WHOLE,
            "of the shuffling, of the held-out rows, and of the generator handed to a drawing function",
            same_when_resumed=True,
    ))  # fmt: skip
    reversible: bool = field(
        default=False, metadata=_metadata(_BOOL,
            "recompute the inputs of layers by their inverses in the backward pass instead of storing them: memory "
            "that does not grow with depth, for about half as much time again. A run whose inverse drifts is stopped"
    ))  # fmt: skip
    precision: str = field(
        default="float32", metadata=_metadata(_PRECISION,
            'of the products in conditioners: "float32", or "bf16" for bfloat16 where a GPU has units for it. Weights, '
            "maps and log-determinants stay in the precision of the rows, and so does validation",
            same_when_resumed=True,
    ))  # fmt: skip
    channels_last: bool = field(
        default=False, metadata=_metadata(_BOOL,
            "hand images to conditioners with their channels side by side in memory, as convolutions of a GPU in "
            "bfloat16 prefer"
    ))  # fmt: skip
    compile: bool = field(default=False, metadata=_metadata(_BOOL, "run the density through `torch.compile`"))

    @property
    def adamw(self) -> dict[str, Any]:
        """The arguments of AdamW."""
        return {"lr": self.lr or 0.0, "betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": self.weight_decay or 0.0}

    @property
    def max_norm(self) -> float:
        """The largest norm of the gradient."""
        return math.inf if self.clip is None else self.clip

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TrainSettings:
        """Checked settings from values by name, among which there may be others.

        Raises:
            ValueError: as `check_settings`.
        """
        check_settings(values)
        return cls(**{f.name: plain_number(values[f.name]) for f in fields(cls) if f.name in values})


def plain_number(value: Any) -> Any:
    """A number of numpy as one of Python; all else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def check_members(members: Any) -> None:
    """Refuses a number of members of a density.

    Raises:
        ValueError: it is no whole number of at least 1.
    """
    if isinstance(members, bool) or not isinstance(members, int) or members < 1:
        raise ValueError(f"members must be a whole number of at least 1, got {members!r}")


def check_settings(given: Mapping[str, Any]) -> None:
    """Checks settings of `train` by name; what is not among them, or None where that is allowed, is left open.

    Raises:
        ValueError: one is out of range or of a wrong type, or two do not go together.
    """
    lengths = {name: given[name] for name in LENGTHS if given.get(name) is not None}
    if len(lengths) > 1:
        raise ValueError(f"give at most one of epochs, steps and seconds, got {lengths}")
    for setting in fields(TrainSettings):
        if setting.name in given and not setting.metadata["is_valid"](given[setting.name]):
            raise ValueError(f"{setting.name} must be {setting.metadata['range']}, got {given[setting.name]!r}")
    growth = given.get("batch_growth") or 1
    if "epochs" in lengths and growth > 1:
        raise ValueError(f"batch_growth needs a length in steps or seconds, got {growth} with epochs={given['epochs']}")
    for other in ("reversible", "compile"):
        if given.get("dropout") and given.get(other):
            raise ValueError(f"dropout goes without {other}, got dropout={given['dropout']} and {other}=True")
    if given.get("optimizer") is not None:
        for setting in fields(TrainSettings):
            if setting.metadata["of_adamw"] and given.get(setting.name, setting.default) != setting.default:
                raise ValueError(f"{setting.name} is the optimizer's own: give it to the function that makes it")


def check_training(given: Mapping[str, Any]) -> None:
    """Checks the arguments of `train` by name, before other work that comes first.

    Raises:
        TypeError: `train` has no such setting.
        ValueError: as `check_settings`.
    """
    known = [setting.name for setting in fields(TrainSettings)]
    for name in sorted(given.keys() - set(known)):
        near = get_close_matches(name, known, 1)
        raise TypeError(f"train has no setting {name!r}" + (f": is {near[0]!r} meant?" if near else ""))
    check_settings(given)


def passes_as_steps(given: Mapping[str, Any], rows: int, batch: int) -> dict[str, Any]:
    """Settings with their length in epochs told in steps, for rows that are drawn, of which `train` sees no end.

    Args:
        given: settings of `train`.
        rows: of an epoch.
        batch: rows of a step where the settings do not say.
    """
    if given.get("epochs") is None:
        return dict(given)
    batch = given.get("batch") or batch
    return {**given, "epochs": None, "batch": batch, "steps": math.ceil(given["epochs"] * rows / batch)}


def with_defaults(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Given settings of `train`, and defaults for the others: but for those that do not go with the given ones.

    These are AdamW's own where another optimizer is given, and dropout where `takes_dropout` does not hold.
    """
    left_out = {f.name for f in fields(TrainSettings) if f.metadata["of_adamw"]} if given.get("optimizer") else set()
    left_out |= set() if takes_dropout(given) else {"dropout"}
    return {name: value for name, value in defaults.items() if name not in left_out} | dict(given)


def takes_dropout(given: Mapping[str, Any]) -> bool:
    """Whether a training with given settings runs each layer once a step, as dropout needs."""
    is_likelihood = given.get("objective", negative_log_likelihood) is negative_log_likelihood
    return is_likelihood and not (given.get("reversible") or given.get("compile"))


def described() -> str:
    """The settings as lines of the section "Args" of a docstring."""
    lines = (f"{setting.name}: {setting.metadata['help'].rstrip('.')}." for setting in fields(TrainSettings))
    return "\n".join(
        textwrap.fill(line, 120, initial_indent=" " * 8, subsequent_indent=" " * 12) for line in lines
    ).lstrip()
