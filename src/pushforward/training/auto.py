"""One rule for what is left open: which flow, and how to train it, for so many rows, columns and seconds."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

from ..flow import Flow
from ..recipes.build import RECIPES

UNLIMITED = 2**62  # rows of a function that draws fresh ones


@dataclass(frozen=True)
class Choice:
    """A flow that is not built yet, and how to train it.

    Attributes:
        recipe: the recipe's name; or a function (features, context_dim=, seed=, ...) -> `Flow`, if one was given.
        arguments: of the recipe, beside features, context_dim and seed.
        training: of `train`: batch, batch_growth, lr, weight_decay, noise and, where the time is not given, steps.
    """

    recipe: str | Callable[..., Flow]
    arguments: dict[str, Any]
    training: dict[str, Any]

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
    seconds: float | None = None,
) -> Choice:
    """What `fit`, `fit_table`, `FlowDensity` and the command line take where the user left it open.

    Of few rows a full-size flow made held-out log-densities of -1e5 and worse: it stretches without bounds where no row
    was. Noise, a smaller net and a tighter clamp end that (measured on 2 to 43 columns and 15 to 3,000 rows). From
    about 100 rows on they beat a full-covariance Gaussian by .4 to 4 nats where the rows are bent or skewed; where
    they are normal it stays ahead, by .2 nats at 400 rows.

    For more rows these were measured, where each line names what lost to the choice, or was about as good, by the test
    log-likelihood in nats of one seed (two moons: the median gap to the truth of three, at the steps that fit in 10 s):

    - Two moons, fresh rows: two triangular layers, width 32, batch 2,048, rate 1.5e-2 .0028; 2e-2 .0031; batch 1,024
      .0032; width 64, 8 bins, batch 1,024, 1e-2 .0042; affine, 16 x 32, batch 512, 5e-3 .0059.
    - The same with affine couplings at rate 5e-3, in the time of 3,600 steps of 16 x 32 with batch 512 (ten seeds):
      batch 256 growing to 2,048 .0047, 512 .0057; 24 x 24 .0048 (six seeds). In 3.3 times that (six seeds): 24 x 24
      .0025, 24 x 32 .0028, 32 x 24 .0029, 16 x 48 .0034, 16 x 32 .0036 (.0054 at rate 1e-2). In 10 s of a disturbed
      machine, when half the steps are taken, 24 x 24 falls behind. In 20 s (eight seeds): 24 x 24 growing to 4,096 in
      parts that grow by about sqrt(2) .0028 (mean .0031), to 2,048 in equal parts .0037 (.0037); 16 x 32 in 6 s (four
      seeds) .0073 and .0054.
    - 9,000 to 10,000 rows, 7 to 10 columns, 6,000 steps of splines of 8 bins (photoz; magic): weight decay .1 1.36; .5
      1.07; 1e-5 1.29 and -1.57; .3 -1.43; 1 -1.71. With 16 bins magic has -1.47 at .1. A whitened photoz with .3 had
      1.25, so nothing is whitened. Noise of .01 to .02 of a spread: 1.08 and -1.55.
    - 9,000 rows, one column given twelve (photoz, the redshift): 32 bins 1.766, 16 1.749, 48 1.759, 64 1.753; width 256
      1.751; weight decay 1 1.715 (with 16 bins).
    - 33,000 rows, 9 columns (shuttle), 6,000 steps of splines: 16 bins -16.02, 8 bins -16.72, 6 layers of 8 -16.21.
    - 260,000 rows (cover) and 380,000 (beijing), 10,000 steps of splines: 6 layers of width 128 -43.5 and -50.4, 4 of
      width 64 -44.2 (in 20,000 steps -43.9) and -54.0.
    - 3,000 rows, 43 columns (miniboone), 2,000 steps: affine with weight decay 1 -16.0, with noise .05 too -16.7;
      splines with both -17.1; affine without decay and noise .1 -18.7.
    - 100,000 rows, 63 columns (bsds300), about as long: affine of width 128, clamp 3 152.1; splines of width 64 150.0.

    Args:
        rows: the number of training rows; None for fresh ones without end.
        features: D, the number of columns.
        recipe: "auto"; or a recipe's name, or a function (features, context_dim=, seed=, ...) -> `Flow`, for which
            only the rest is chosen.
        context_dim: K, the width of the context.
        seconds: the length of the training; None for one that follows the rows.

    Raises:
        ValueError: no such recipe; fewer than 1 row or column.

    Example:
        >>> choice = choose(100_000, 7)
        >>> choice.recipe, choice.training["noise"]
        ('spline_flow', 0.0)
        >>> choice.build(7).shape
        (7,)
    """
    if recipe != "auto" and not callable(recipe) and recipe not in RECIPES:
        raise ValueError(f"recipe must be auto, one of {', '.join(RECIPES)}, or a function, got {recipe!r}")
    count = UNLIMITED if rows is None else rows
    if count < 1 or features < 1:
        raise ValueError(f"expected at least 1 row and 1 column, got {rows} and {features}")
    name = _recipe(count, features, context_dim) if recipe == "auto" else recipe
    known = name if isinstance(name, str) else None
    training = settings(known, count, features, seconds)
    steps = {"steps": steps_for(count, training["batch"])} if seconds is None else {}
    return Choice(name, _size(known, count, features, seconds), {**training, **steps})


class Settings(TypedDict):
    """Arguments of `train`."""

    batch: int
    batch_growth: int
    lr: float
    weight_decay: float
    noise: float


def settings(recipe: str | None, rows: int, features: int, seconds: float | None = None) -> Settings:
    """Batch and its growth, rate, weight decay and noise for a recipe (None: any other flow), the rows and the time."""
    found: Settings = {
        "batch": 512, "batch_growth": 1, "lr": 5e-3, "weight_decay": 1e-5, "noise": noise_for(rows, features),
    }  # fmt: skip
    if recipe == "triangular_spline_flow" and features == 2:
        # A step of so small tensors costs little more for more rows, and fresh rows cannot be learned by heart.
        found["lr"] = 1e-2
        if rows >= _MANY_PLANE_ROWS:
            found["batch"], found["lr"] = 2048, 1.5e-2
    elif recipe == "real_nvp" and features == 2 and rows == UNLIMITED:
        found["batch"], found["batch_growth"] = 256, 8 if seconds is None or seconds < _LONG_PLANE else 16
    elif rows < _MANY_TABLE_ROWS and not _are_few(rows, features):
        found["weight_decay"] = 1.0 if features >= _WIDE else 0.1 if recipe == "spline_flow" else 1e-5
    return found


def steps_for(rows: int, batch: int) -> int:
    """Steps where the length is open: 100 passes up to 10,000 steps, but 400 up to 6,000 and 3 a row up to 2,000.

    Of 9,000 rows of 13 columns (photoz), 6,000 steps gained 3.4 nats over 2,000.
    """
    passes = math.ceil(rows / batch)
    return max(min(100 * passes, 10_000), min(400 * passes, 6_000), min(max(3 * rows, 100), 2_000))


def most_steps(rows: int, batch: int) -> int | None:
    """Steps after which more time would only learn the rows by heart; None for fresh rows.

    Validation was best after 60 to 350 passes: 2,000 steps of 3,000 rows and 6,000 of 9,000 to 40,000 were measured.
    A schedule that goes on for longer overfits at its high rates, before the low ones have come.
    """
    if rows >= UNLIMITED:
        return None
    return max(steps_for(rows, batch), 100 * math.ceil(rows / batch))


def noise_for(rows: int, features: int) -> float:
    """Noise for few rows, in units of each column's spread: more for more columns."""
    return min(0.5, max(10.0, 2.5 * features) / rows) if _are_few(rows, features) else 0.0


def whitens(rows: int, features: int) -> bool:
    """Whether the numbers of a table are made uncorrelated before the flow.

    It gained 5.1 nats (taxis), 9.9 (photoz) and .4 (bsds300), but lost 2.1 with 3,000 rows of 43 columns (miniboone).
    """
    return features < _WIDE or rows >= _MANY_TABLE_ROWS


_MANY_PLANE_ROWS = 50_000
_MANY_TABLE_ROWS = 20_000
_MANY_SPLINE_ROWS, _LONG = 100_000, 200.0  # rows and seconds from which larger splines pay
_LONG_PLANE = 20.0  # seconds from which more affine couplings pay, and larger batches at the end
_SHAPE_ROWS = 2_000  # of fewer, splines of one number learn by heart what the context says
_WIDE = 32  # columns from which a step of splines costs several of affine couplings


def _are_few(rows: int, features: int) -> bool:
    """Whether a full-size flow would learn the rows by heart."""
    return rows < 200 * math.sqrt(features)


def _recipe(rows: int, features: int, context_dim: int) -> str:
    if features == 1 and context_dim and rows >= _SHAPE_ROWS:
        # Its shape, not its place and scale alone, depends on the context (photoz: by .5 nats over a mixture's shift).
        return "spline_flow"
    if features == 1 or _are_few(rows, features) or features >= _WIDE:
        return "real_nvp"
    return "triangular_spline_flow" if features == 2 else "spline_flow"


def _size(recipe: str | None, rows: int, features: int, seconds: float | None) -> dict[str, Any]:
    """Arguments of a recipe that suit a number of rows, and the time if it is given."""
    if features == 1 and recipe == "spline_flow":
        return {"depth": 1, "width": 128, "bins": 32}  # a second layer would have no column left to move
    if features == 1:
        return {"depth": 2, "width": 16} | ({"components": rows // 10} if rows < 80 else {})
    if _are_few(rows, features):
        return {"depth": 4, "width": 32, "clamp": 0.7}
    if recipe == "triangular_spline_flow":
        return {"depth": 2, "width": 32} if features == 2 else {"depth": 4, "width": 64}
    if recipe == "spline_flow":
        wide = rows >= _MANY_SPLINE_ROWS and (seconds is None or seconds >= _LONG)
        return ({"depth": 6, "width": 128} if wide else {"depth": 4, "width": 64}) | {"bins": 16}
    if features == 2:
        deep = rows == UNLIMITED and (seconds is None or seconds >= _LONG_PLANE)
        return {"clamp": 1.5} | ({"depth": 24, "width": 24} if deep else {})
    if features >= _WIDE and rows >= _MANY_TABLE_ROWS:
        return {"depth": 8, "width": 128}
    return {"depth": 8, "width": 64, "clamp": 1.5}
