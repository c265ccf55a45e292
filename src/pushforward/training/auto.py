"""One rule for what is left open: which flow, and how to train it, for so many rows, columns and seconds.

The rule is three tables, of each of which the first line that fits holds. What was measured to find them is told in
`benchmarks/results/auto.md`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypedDict

from ..bijections.whitening import are_few
from ..flow import Flow
from ..recipes.build import RECIPES
from .settings import TrainSettings, takes_dropout

UNLIMITED = 2**62  # rows of a function that draws fresh ones
SMOOTHED_DECAY = 1e-5  # weight decay where nothing asks for more
MANY_ROWS = 20_000  # fewer are learned by heart, but for dropout
_DROPOUT = 0.2

INF = math.inf
ALL = (0, INF)
FEW = (-INF, -INF)  # stands for fewer rows than 200 sqrt(columns): a full-size flow learns them by heart
FRESH = (UNLIMITED, INF)
OPEN = (INF, INF)  # a length in seconds that was not given, which other spans that end at INF have, too


class Line(NamedTuple):
    """A line of a table: from (inclusive) and to (exclusive) of rows, columns and seconds, and what it gives."""

    columns: tuple[float, float]
    rows: tuple[float, float]
    seconds: tuple[float, float]
    recipe: str  # the one that the line is for, "" for any; in RECIPE_OF what rows are given: a "context", or "states"
    gives: dict[str, Any]


# fmt: off
RECIPE_OF = (
    #    columns    rows            seconds     given       recipe
    Line((1, 2),    (2_000, INF),   ALL,        "context",  {"recipe": "spline_flow"}),
    Line((1, 2),    (2_000, INF),   ALL,        "states",   {"recipe": "spline_flow"}),
    Line((1, 2),    ALL,            ALL,        "",         {"recipe": "real_nvp"}),
    Line((2, 3),    FEW,            ALL,        "",         {"recipe": "real_nvp"}),
    Line((2, 3),    ALL,            ALL,        "",         {"recipe": "triangular_spline_flow"}),
    Line(ALL,       FEW,            ALL,        "states",   {"recipe": "real_nvp"}),
    Line((32, INF), ALL,            ALL,        "states",   {"recipe": "real_nvp"}),
    Line(ALL,       ALL,            ALL,        "states",   {"recipe": "spline_flow"}),
    Line((32, INF), (20_000, INF),  ALL,        "",         {"recipe": "real_nvp"}),
    Line((64, INF), ALL,            ALL,        "",         {"recipe": "real_nvp"}),
    Line(ALL,       ALL,            ALL,        "",         {"recipe": "autoregressive_spline_flow"}),
)
SIZE_OF = (
    #    columns    rows            seconds     recipe                        arguments of the recipe
    Line((1, 2),    ALL,            ALL,        "spline_flow",                {"depth": 1, "width": 128, "bins": 32}),
    Line((1, 2),    (0, 80),        ALL,        "",                           {"depth": 2, "width": 16, "components": 10}),  # noqa: E501
    Line((1, 2),    ALL,            ALL,        "",                           {"depth": 2, "width": 16}),
    Line(ALL,       FEW,            ALL,        "autoregressive_spline_flow", {"depth": 3, "width": 64}),
    Line(ALL,       FEW,            ALL,        "",                           {"depth": 4, "width": 32, "clamp": 0.7}),
    Line((2, 3),    ALL,            ALL,        "triangular_spline_flow",     {"depth": 2, "width": 32}),
    Line(ALL,       ALL,            ALL,        "triangular_spline_flow",     {"depth": 4, "width": 64}),
    Line(ALL,       (100_000, INF), (200, INF), "autoregressive_spline_flow", {"depth": 5, "width": 128}),
    Line(ALL,       ALL,            ALL,        "autoregressive_spline_flow", {"depth": 3, "width": 128}),
    Line(ALL,       (100_000, INF), (200, INF), "spline_flow",                {"depth": 6, "width": 128, "bins": 16}),
    Line(ALL,       ALL,            ALL,        "spline_flow",                {"depth": 4, "width": 64, "bins": 16}),
    Line((2, 3),    FRESH,          (20, INF),  "",                           {"clamp": 1.5, "depth": 24, "width": 24}),
    Line((2, 3),    ALL,            ALL,        "",                           {"clamp": 1.5}),
    Line((32, INF), (20_000, INF),  ALL,        "",                           {"depth": 8, "width": 128}),
    Line(ALL,       ALL,            ALL,        "",                           {"depth": 8, "width": 64, "clamp": 1.5}),
)
TRAINING_OF = (  # beside batch 512 without growth, lr 5e-3, weight decay 1e-5, `noise_for` and `dropout_for`
    #    columns    rows            seconds     recipe                        arguments of `train`
    Line((2, 3),    (50_000, INF),  ALL,        "triangular_spline_flow",     {"batch": 2048, "lr": 1.5e-2}),
    Line((2, 3),    ALL,            ALL,        "triangular_spline_flow",     {"lr": 1e-2}),
    Line((2, 3),    FRESH,          OPEN,       "real_nvp",                   {"batch": 256, "batch_growth": 8}),
    Line((2, 3),    FRESH,          (20, INF),  "real_nvp",                   {"batch": 256, "batch_growth": 16}),
    Line((2, 3),    FRESH,          ALL,        "real_nvp",                   {"batch": 256, "batch_growth": 8}),
    Line(ALL,       FEW,            ALL,        "",                           {}),
    Line((32, INF), (0, 20_000),    ALL,        "",                           {"weight_decay": 1.0}),
    Line((32, INF), (0, 300_000),   ALL,        "real_nvp",                   {"weight_decay": 0.1}),
    Line(ALL,       (0, 20_000),    ALL,        "spline_flow",                {"weight_decay": 0.1}),
    Line(ALL,       ALL,            ALL,        "",                           {}),
)
# fmt: on


@dataclass(frozen=True)
class Choice:
    """A flow that is not built yet, and how to train it.

    Attributes:
        recipe: the recipe's name; or a function (features, context_dim=, seed=, ...) -> `Flow`, if one was given.
        arguments: of the recipe, beside features, context_dim and seed.
        training: of `train`: batch, batch_growth, lr, weight_decay, noise, dropout and, where the time is open, steps.
    """

    recipe: str | Callable[..., Flow]
    arguments: dict[str, Any]
    training: dict[str, Any]

    def build_members(self, count: int, features: int, *, seed: int, **given: Any) -> list[Flow]:
        """As many flows, which differ in their seeds alone; otherwise as `build`."""
        return [self.build(features, seed=seed + 1000 * k, **given) for k in range(count)]

    def build(self, features: int, *, context_dim: int = 0, seed: int | None = None, **given: Any) -> Flow:
        """The flow over (features,); `given` arguments of the recipe go before the chosen ones, but None is not given.

        Raises:
            ValueError: the recipe does not take what was given, or returns no flow over (features,).
        """
        make = self.recipe if callable(self.recipe) else RECIPES[self.recipe]
        known = inspect.signature(make).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
        given = {k: v for k, v in given.items() if v is not None}
        if context_dim:
            given["context_dim"] = context_dim
        for name in given:
            if name not in known and not takes_all:
                raise ValueError(f"the recipe {getattr(make, '__name__', make)} takes no {name}")
        arguments = {k: v for k, v in self.arguments.items() if k in known} | given
        if "seed" in known or takes_all:
            arguments["seed"] = seed
        flow = make(features, **arguments)
        if not isinstance(flow, Flow) or flow.shape != (features,):
            raise ValueError(f"the recipe must return a Flow over ({features},), got {flow!r:.80}")
        return flow


def choose(
    rows: int | None,
    features: int,
    *,
    recipe: str | Callable[..., Flow] = "auto",
    context_dim: int = 0,
    states: bool = False,
    seconds: float | None = None,
    columns: Sequence[int] | None = None,
) -> Choice:
    """What `fit`, `fit_table`, `FlowDensity` and the command line take where the user left it open.

    Of few rows a full-size flow stretches without bounds where no row was: noise and a smaller net (of affine couplings
    with a tighter clamp) end that. Fresh rows cannot be learned by heart, so that larger rates and batches pay.

    Args:
        rows: the number of training rows; None for fresh ones without end.
        features: D, the number of columns.
        recipe: "auto"; or a recipe's name, or a function (features, context_dim=, seed=, ...) -> `Flow`, for which
            only the rest is chosen.
        context_dim: K, the width of the context.
        states: whether the context tells the states of discrete columns, as in a table.
        seconds: the length of the training; None for one that follows the rows.
        columns: those that the flow looks at, as `dependent_columns` finds them; None for all. A recipe that takes no
            `columns` looks at all.

    Raises:
        ValueError: no such recipe; fewer than 1 row or column.

    Example:
        >>> choice = choose(100_000, 7)
        >>> choice.recipe, choice.training["noise"]
        ('autoregressive_spline_flow', 0.0)
        >>> choice.build(7).shape
        (7,)
    """
    if recipe != "auto" and not callable(recipe) and recipe not in RECIPES:
        raise ValueError(f"recipe must be auto, one of {', '.join(RECIPES)}, or a function, got {recipe!r}")
    count = UNLIMITED if rows is None else rows
    if count < 1 or features < 1:
        raise ValueError(f"expected at least 1 row and 1 column, got {rows} and {features}")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    features = features if columns is None else len(columns)
    if recipe == "auto":
        given = "states" if states else "context" if context_dim else ""
        recipe = _look_up(RECIPE_OF, given, count, features, None)["recipe"]
    name = recipe if isinstance(recipe, str) else ""
    size = _look_up(SIZE_OF, name, count, features, seconds)
    if name == "autoregressive_spline_flow":
        size["width"] = max(size["width"], features)  # which must tell the columns apart
    if "components" in size:  # one for so many rows
        size["components"] = count // size["components"]
    size |= {"precondition": True, "columns": columns}
    training = settings(name, count, features, seconds)
    steps = {"steps": steps_for(count, training["batch"])} if seconds is None else {}
    return Choice(recipe, size, {**training, **steps})


class Settings(TypedDict):
    """Arguments of `train`."""

    batch: int
    batch_growth: int
    lr: float
    weight_decay: float
    noise: float
    dropout: float


def settings(recipe: str | None, rows: int, features: int, seconds: float | None = None) -> Settings:
    """The training of a recipe (None: any other flow) for so many rows and columns, and a time in seconds."""
    common: Settings = {
        "batch": 512, "batch_growth": 1, "lr": 5e-3, "weight_decay": SMOOTHED_DECAY,
        "noise": noise_for(rows, features), "dropout": dropout_for(rows, features),
    }  # fmt: skip
    common.update(_look_up(TRAINING_OF, recipe or "", rows, features, seconds))  # type: ignore[typeddict-item]
    return common


def complete(given: TrainSettings, recipe: str | None, rows: int, shape: Sequence[int], table: bool) -> TrainSettings:
    """The settings of a training, with what was left open taken from the rule.

    Args:
        given: by the user.
        recipe: the name of the flow's recipe; None for any other density.
        rows: to train on; `UNLIMITED` for fresh ones.
        shape: of one row.
        table: whether the rows are a table of numbers (N, D) in memory: only these are smoothed by noise and strong
            decay where they are few, never images or what a function draws.
    """
    chosen = settings(recipe, rows, math.prod(shape), given.seconds)
    if not table:
        chosen |= {"noise": 0.0, "weight_decay": SMOOTHED_DECAY, "dropout": 0.0}
    if not takes_dropout(vars(given)):
        chosen["dropout"] = 0.0
    if given.batch is not None or given.epochs is not None:
        chosen["batch_growth"] = 1
    return replace(given, **{name: value for name, value in chosen.items() if getattr(given, name) is None})


def steps_for(rows: int, batch: int) -> int:
    """Steps where the length is open: 100 passes up to 10,000 steps, but 400 up to 6,000 and 3 a row up to 2,000."""
    passes = math.ceil(rows / batch)
    return max(min(100 * passes, 10_000), min(400 * passes, 6_000), min(max(3 * rows, 100), 2_000))


def most_steps(rows: int, batch: int) -> int | None:
    """Steps after which more time would only learn the rows by heart; None for fresh rows.

    A schedule that goes on for longer overfits at its high rates, before the low ones have come.
    """
    if rows >= UNLIMITED:
        return None
    return max(steps_for(rows, batch), 100 * math.ceil(rows / batch))


def noise_for(rows: int, features: int) -> float:
    """Noise for few rows, in units of each column's spread: more for more columns."""
    return min(0.5, max(10.0, 2.5 * features) / rows) if are_few(rows, features) else 0.0


def dropout_for(rows: int, features: int) -> float:
    """Dropout for all but many rows; of two columns a coupling sees one, and learns nothing without it."""
    return _DROPOUT if features > 2 and rows < MANY_ROWS else 0.0


def _look_up(table: Sequence[Line], recipe: str, rows: int, columns: int, seconds: float | None) -> dict[str, Any]:
    """What the first line that fits gives."""
    length = INF if seconds is None else seconds

    def fits(line: Line) -> bool:
        few = are_few(rows, columns) if line.rows == FEW else _within(rows, line.rows)
        return few and line.recipe in ("", recipe) and _within(columns, line.columns) and _within(length, line.seconds)

    return dict(next(line.gives for line in table if fits(line)))


def _within(value: float, span: tuple[float, float]) -> bool:
    return span[0] <= value < span[1] or value == span[1] == INF
