"""Wrappers: kinds around other kinds, most of whose facts are those of the inner one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from .base import Cells, Facts, Kind, Mask, Request, States, Values, fact
from .marginal import MarginalTransform
from .number import Number, as_number


def _is_kind(value: Any) -> bool:
    return isinstance(value, Kind)


@dataclass(frozen=True, kw_only=True)
class Wrapper(Facts, Kind):
    """A kind around another, most of whose facts are that of the inner one."""

    inner: Kind = fact(_is_kind)

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """None: kinds wrap themselves."""
        return None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def to_json(self) -> dict[str, Any]:
        """The tag as "kind", and the facts that differ from their defaults."""
        return {"kind": self.tag, **super().to_json()}

    @property
    def name(self) -> str:  # type: ignore[override]
        """Of the column."""
        return self.inner.name

    @property
    def dtype(self) -> str:  # type: ignore[override]
        """The Arrow type in which cells are given back."""
        return self.inner.dtype

    @property
    def missing(self) -> bool:  # type: ignore[override]
        """Whether missing cells have a probability."""
        return self.inner.missing

    @property
    def unseen(self) -> float:  # type: ignore[override]
        """The probability of what was never seen."""
        return self.inner.unseen

    @property
    def note(self) -> str:  # type: ignore[override]
        """What was decided and why."""
        return self.inner.note

    @property
    def kind(self) -> str:
        """That of the inner kind."""
        return self.inner.kind

    @property
    def num_values(self) -> int:
        """How many states its cells have, but for missing."""
        return self.inner.num_values

    @property
    def has_number(self) -> bool:
        """Whether cells of the first states have a number."""
        return self.inner.has_number

    @property
    def num_numbered_states(self) -> int:
        """How many of the first states have a number."""
        return self.inner.num_numbered_states

    @property
    def is_dequantized(self) -> bool:
        """Whether numbers stand for cells."""
        return self.inner.is_dequantized

    @property
    def marginal(self) -> MarginalTransform:
        """The map of the numbers."""
        return self.inner.marginal

    def encode_present(self, column: Column) -> Cells:
        """As the inner kind."""
        return self.inner.encode_present(column)

    def log_unseen(self, column: Column) -> Values:
        """As the inner kind."""
        return self.inner.log_unseen(column)

    def describe_invalid(self, column: Column) -> str:
        """As the inner kind."""
        return self.inner.describe_invalid(column)

    def decode(self, state: States, number: Values, rng: np.random.Generator) -> Column:
        """As the inner kind."""
        return self.inner.decode(state, number, rng)

    def accepts(self, state: States, number: Values) -> Mask:
        """As the inner kind."""
        return self.inner.accepts(state, number)

    def is_like(self, other: Kind) -> bool:
        """Whether the inner kinds are alike, and all else is the same."""
        if not isinstance(other, Wrapper) or not self.inner.is_like(other.inner):
            return False
        return self == replace(other, inner=self.inner)

    def without_spline(self) -> Kind:
        """The same around a straight inner kind."""
        return replace(self, inner=self.inner.without_spline())

    @property
    def feature_names(self) -> list[tuple[str, bool]]:
        """As the inner kind."""
        return self.inner.feature_names

    def features(self, column: Column) -> Values:
        """As the inner kind."""
        return self.inner.features(column)

    def parts(self) -> list[str]:
        """As the inner kind."""
        return self.inner.parts()

    def show(self, value: float) -> str:
        """A value, for people."""
        return self.inner.show(value)


@dataclass(frozen=True, kw_only=True)
class NumberWrapper(Wrapper):
    """A wrapper around a kind of numbers, which is one, too: see `Number` for what its methods do."""

    @property
    def number(self) -> Number:
        """The inner kind."""
        return as_number(self.inner)

    @property
    def innermost(self) -> Kind:
        """What is left without any wrapper."""
        return self.inner.innermost if isinstance(self.inner, NumberWrapper) else self.inner

    def is_consistent(self) -> bool:
        """Whether it is around numbers."""
        return isinstance(self.innermost, Number)

    def encode_present(self, column: Column) -> Cells:
        """See `encode_values`."""
        return self.number.encode_column(column, self.encode_values)

    def encode_values(self, values: NDArray[Any]) -> Cells:
        """As the inner kind."""
        return self.number.encode_values(values)

    def decode(self, state: States, number: Values, rng: np.random.Generator) -> Column:
        """See `decode_values`."""
        return self.number.write(self.decode_values(state, number), (state == self.num_values) & self.missing)

    def decode_values(self, state: States, w: Values) -> NDArray[Any]:
        """As the inner kind."""
        return self.number.decode_values(state, w)

    def with_map(self, knots: Any, heavy: tuple[bool, bool]) -> Any:
        """The same with a marginal map."""
        return replace(self, inner=self.number.with_map(knots, heavy))
