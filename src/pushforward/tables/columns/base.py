"""Kind: what a column of a table is. A cell has a state, perhaps a number, and comes back from the two.

The states of a category are its values. Those of a number are: an ordinary value, whose number an inner density models,
single values that hold a large share of the rows, and missing. A missing cell is the last state of any kind.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from .marginal import MarginalTransform

Values = NDArray[np.float64]
States = NDArray[np.int64]
Mask = NDArray[np.bool_]

_SHOWN_WHOLE = 1e15  # whole numbers below are shown to the last digit


@dataclass(frozen=True)
class Cells:
    """N cells of one column, encoded.

    Attributes:
        state: (N,) int64, the discrete part: `num_states` for what was never seen, -1 for what is impossible.
        base: (N,) float64, the number as `Kind.marginal` takes it (on a lattice the lower end of its cell), NaN where
            there is none.
        width: (N,) float64, the width of the cell that the number stands for, counted as base is; 0 where continuous.
        log_mass: (N,) float64, log-mass of the cell given its state, for what the inner density does not model.
        error: what is impossible or was never seen, in words, or "".
        is_unseen: (N,), which cells hold what was never seen; None for none.
    """

    state: States
    base: Values
    width: Values
    log_mass: Values
    error: str = ""
    is_unseen: Mask | None = None

    @staticmethod
    def of_states(state: NDArray[np.integer]) -> Cells:
        """Cells without numbers: states (N,)."""
        return Cells(state.astype(np.int64), np.full(len(state), np.nan), np.zeros(len(state)), np.zeros(len(state)))


@dataclass(frozen=True)
class Request:
    """What is asked of a column.

    Attributes:
        kind: by its tag; None infers it.
        values: the numbers of the kind, such as the bounds in "bounded:0:1".
        form: how texts of times are written, as in "date:%d/%m/%Y"; None takes what fits.
        named: whether the table has names.
        max_categories: how many categories have a state of their own.
        gaussian: whether numbers are gaussianized by quantiles; see `infer_schema`.
    """

    kind: str | None = None
    values: tuple[float, ...] = ()
    form: str | None = None
    named: bool = True
    max_categories: int = 256
    gaussian: bool | None = None
    cache: dict[str, Any] = field(default_factory=dict, init=False, compare=False)  # what kinds tried in turn share


def fact(is_valid: Callable[[Any], bool], default: Any = MISSING, *, of: type[Facts] | None = None) -> Any:
    """A field of a kind of column that stands in files, and what its value must be there; `of` facts of its own."""
    return field(default=default, metadata={"is_valid": is_valid, "of": of})


def is_text(value: Any) -> bool:
    """Whether a value of a file is a text."""
    return isinstance(value, str)


def is_flag(value: Any) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether it is a number of a size that can be calculated with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def is_positive(value: Any) -> bool:
    """Whether it is a number above zero."""
    return is_number(value) and value > 0


def is_share(value: Any) -> bool:
    """Whether it is a share of a whole, but not all of it."""
    return is_number(value) and 0 <= value < 1


def unseen_share(once: int, cells: int) -> float:
    """The probability that a further cell holds what was never seen.

    The estimate of Good (1953, after Turing): as often as a cell held what no other did, each of `cells` tried in turn;
    a half is added to either outcome (Krichevsky and Trofimov 1981), so that it is never 0 and never 1.

    Args:
        once: how many values were seen once.
        cells: how many cells were seen.

    Example:
        >>> round(unseen_share(0, 99), 4), round(unseen_share(99, 99), 4)
        (0.005, 0.995)
    """
    return (once + 0.5) / (cells + 1)


def log_logistic(values: Values, centre: float, scale: float) -> Values:
    """Log-density of the logistic distribution at values (N,): what little is known of numbers never seen."""
    t = np.abs(values - centre) / scale
    return -t - 2 * np.log1p(np.exp(-t)) - math.log(scale)


def optional(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """None, or what another check takes."""
    return lambda value: value is None or is_valid(value)


def each(is_valid: Callable[[Any], bool], size: int | None = None) -> Callable[[Any], bool]:
    """A list (of a size) of what another check takes."""
    return lambda value: (
        isinstance(value, list | tuple) and size in (None, len(value)) and all(is_valid(v) for v in value)
    )


@dataclass(frozen=True)
class Facts:
    """A dataclass that is written to JSON and read back with each field checked."""

    def to_json(self) -> dict[str, Any]:
        """The fields that differ from their defaults, JSON-able."""
        facts = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {f.name: f.default for f in fields(self)}
        return {
            name: value.to_json() if isinstance(value, Facts) else value
            for name, value in facts.items() if value != plain[name]
        }  # fmt: skip

    @classmethod
    def checked(cls, facts: Mapping[str, Any], what: str) -> Self:
        """The inverse of `to_json`, where nested kinds are built already.

        Raises:
            ValueError: a fact of `what` is unknown, missing, of a wrong kind, or contradicts another; it is named.
        """
        known = {f.name: f for f in fields(cls)}
        facts = {
            name: of.checked(value, what)
            if isinstance(value, Mapping) and name in known and (of := known[name].metadata["of"]) is not None
            else value
            for name, value in facts.items()
        }
        for name, value in facts.items():
            if name not in known or not known[name].metadata["is_valid"](value):
                raise ValueError(f"{what}: bad value of {name!r}")
        absent = [name for name, f in known.items() if f.default is MISSING and name not in facts]
        if absent:
            raise ValueError(f"{what} has no {absent[0]}")
        made = cls(**{name: _tuples(value) for name, value in facts.items()})
        if not made.is_consistent():
            raise ValueError(f"{what}: its facts contradict each other")
        return made

    def is_consistent(self) -> bool:
        """Whether the facts agree with each other."""
        return True


class Kind(ABC):
    """What a column is. Concrete kinds are frozen dataclasses whose fields are `fact`s, and are registered.

    Attributes:
        tag: the kind's name in files.
        aliases: further names by which it is asked for.
        usage: how it is asked for, with its numbers.
        arity: how many numbers may be asked for with it.
        name: of the column.
        dtype: the Arrow type in which cells are given back.
        missing: whether missing cells were seen, and so have a probability.
        unseen: the probability of a cell that holds what was never seen; 0 makes it impossible, as in older files.
        note: what was decided and why, for people.
    """

    tag: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    usage: ClassVar[str] = ""
    arity: ClassVar[tuple[int, ...]] = (0,)
    name: str
    dtype: str
    missing: bool
    unseen: float
    note: str

    @classmethod
    @abstractmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """The column as this kind (or as a better one), None where it is none.

        Raises:
            ValueError: the kind was asked for, and the cells do not fit it.
        """

    @classmethod
    def accepts_request(cls, values: tuple[float, ...]) -> bool:
        """Whether these numbers may be asked for."""
        return len(values) in cls.arity and all(v > 0 for v in values)

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """JSON-able: the tag as "kind", and the facts."""

    @property
    def kind(self) -> str:
        """What it is, for people and for `infer_schema`."""
        return self.tag

    @property
    def modelled(self) -> bool:
        """False for a column that is left out."""
        return True

    @property
    def coded(self) -> Kind:
        """What is modelled in its place: itself, but for a relation."""
        return self

    @property
    @abstractmethod
    def num_values(self) -> int:
        """How many states its cells have, but for missing."""

    @property
    def num_states(self) -> int:
        """How many states its cells have; 1 means that there is nothing discrete to model."""
        return self.num_values + self.missing

    @property
    def is_discrete(self) -> bool:
        """Whether there is something discrete to model."""
        return self.modelled and self.num_states > 1

    @property
    def has_number(self) -> bool:
        """Whether cells of the first states have a number, which `marginal` maps."""
        return False

    @property
    def num_numbered_states(self) -> int:
        """How many of the first states have a number."""
        return 0

    @property
    def is_dequantized(self) -> bool:
        """Whether numbers stand for cells, over which they are spread (uniform dequantization, Theis et al. 2016)."""
        return False

    @property
    def marginal(self) -> MarginalTransform:
        """The map of the numbers to about a standard normal."""
        raise NotImplementedError(f"{type(self).__name__} has no numbers")

    @property
    def is_complete(self) -> bool:
        """Whether it can stand in a schema, without a wrapper around it."""
        return True

    def encode(self, column: Column) -> Cells:
        """N cells -> states and numbers; the probability of the seen and the unseen is part of their log-mass.

        Raises:
            ValueError: the cells are of another kind than the column's, or infinite.
        """
        cells = self.encode_present(column)
        is_missing = column.is_missing
        if is_missing.any():
            cells.state[is_missing] = self.num_values if self.missing else -1
            cells.base[is_missing] = np.nan
            cells.log_mass[is_missing] = 0
        bad = cells.state < 0
        seen = replace(cells, log_mass=cells.log_mass + math.log1p(-self.unseen)) if self.unseen else cells
        if not bad.any():
            return seen
        invalid = np.flatnonzero(bad & ~is_missing)
        what = self.describe_invalid(column[invalid]) if len(invalid) else "missing cells, which it had not"
        error = f"column {self.name!r}: {int(bad.sum()):,} with {what}"
        if not self.unseen:
            return replace(cells, error=error)
        seen.log_mass[bad] = math.log(self.unseen) + self.log_unseen(column[np.flatnonzero(bad)])
        state, base = np.where(bad, self.num_states, cells.state), np.where(bad, np.nan, cells.base)
        return Cells(state, base, np.where(bad, 0.0, cells.width), seen.log_mass, error, bad)

    def log_unseen(self, column: Column) -> Values:
        """Log-mass or log-density (N,) of cells never seen, among all such cells: by default they are one event."""
        return np.zeros(len(column))

    @abstractmethod
    def encode_present(self, column: Column) -> Cells:
        """As `encode`; what it gives for missing cells does not matter. The arrays are new ones."""

    @abstractmethod
    def describe_invalid(self, column: Column) -> str:
        """What some impossible cells are, in words."""

    @abstractmethod
    def decode(self, state: States, number: Values, rng: np.random.Generator) -> Column:
        """The inverse of `encode`: a column of the dtype, of valid cells whatever the numbers are.

        Args:
            state: (N,).
            number: (N,), as `marginal` takes it, used where the state has one.
            rng: chooses where several cells share a state.
        """

    def accepts(self, state: States, number: Values) -> Mask:
        """Which pairs of a drawn state (N,) and number (N,) may be sampled: True (N,) where the cell of `decode` is
        encoded to the same pair, not far beyond all that was seen."""
        return np.ones(len(state), dtype=bool)

    def encode_in(self, columns: Mapping[str, Column]) -> Cells:
        """As `encode`, among all columns of a table, by name."""
        return self.encode(columns[self.name])

    def decode_in(
        self, state: States, number: Values, rng: np.random.Generator, columns: Mapping[str, Column]
    ) -> tuple[Column, Mask]:
        """As `decode` and `accepts`, among the columns that stand before it."""
        return self.decode(state, number, rng), self.accepts(state, number)

    def is_like(self, other: Kind) -> bool:
        """Whether its cells are those of another kind, however numbers are mapped."""
        return self == other

    def without_spline(self) -> Kind:
        """The same with a line through the middle half of `marginal` in place of its spline."""
        return self

    @property
    def feature_names(self) -> list[tuple[str, bool]]:
        """The names of what `features` gives, and whether each is an indicator."""
        return [(f"{self.name} = {self.state_name(state)}", True) for state in range(self.num_states)]

    def features(self, column: Column) -> Values:
        """N cells as numbers (N, F) for classifiers and distances: by default indicators of their states."""
        return (self.encode(column).state[:, None] == np.arange(self.num_states)).astype(np.float64)

    def state_name(self, state: int) -> str:
        """A state, for people."""
        return "(missing)" if state == self.num_values else str(state)

    def parts(self) -> list[str]:
        """The facts, in words, but for missing cells and the note."""
        return []

    def describe(self) -> str:
        """The facts, in words."""
        return "; ".join(self.parts() + ["missing cells"] * self.missing + [self.note] * bool(self.note))

    def show(self, value: float) -> str:
        """A value, for people."""
        if abs(value) < _SHOWN_WHOLE and value == int(value):
            return f"{value + 0.0:.0f}"  # a zero without a sign
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.7g}"


@dataclass(frozen=True, kw_only=True)
class Plain(Facts, Kind):
    """A kind that is no wrapper around another."""

    def to_json(self) -> dict[str, Any]:
        """The tag as "kind", and the facts that differ from their defaults."""
        return {"kind": self.tag, **super().to_json()}

    name: str = fact(is_text)
    dtype: str = fact(is_text)
    missing: bool = fact(is_flag, False)
    unseen: float = fact(is_share, 0.0)
    note: str = fact(is_text, "")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
