"""Columns that always hold the same number or date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from ...io.notation import is_pattern
from ...io.times import is_form
from .base import Cells, Kind, Plain, Request, States, Values, fact, is_number, log_logistic, optional
from .base import unseen_share as _unseen_share
from .date import Date
from .look import plain
from .number import Number, among_unseen, number_features, with_indicator
from .real import Real


@dataclass(frozen=True, kw_only=True)
class Constant(Plain):
    """One value, or missing.

    Attributes:
        value: the value, of a date in the unit of its dtype.
        form: how it is written, where it came as text: see `Number`.
    """

    tag = "constant"

    value: float = fact(is_number)
    form: str | None = fact(optional(lambda v: is_form(v) or is_pattern(v)), None)

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """Numbers and dates, whatever kind of them was asked for.

        Raises:
            ValueError: dates of a form were asked for, and there are other cells.
        """
        asked, column = request.kind, Date.as_asked(column, request)
        if column.holds == "times" or (asked == "date" and column.times is not None):
            kind: Number = Date.bare(column)
        elif column.numbers is not None and asked != "date" and (asked is not None or column.holds == "numbers"):
            whole = column.numbers.dtype == np.int64
            own = "string" if column.form else "int64" if whole else "double"
            kind = Real(name=column.name, dtype=own if column.dtype == "text" else column.dtype, form=column.form)
        else:
            return None
        values = kind.read(column)[~column.is_missing]
        if values.min() != values.max():
            return None
        return cls(name=column.name, dtype=kind.dtype, missing=bool(column.is_missing.any()),
                   unseen=_unseen_share(0, len(column)), value=plain(values[0]),
                   form=kind.form)  # fmt: skip

    @property
    def number(self) -> Number:
        """How the value is read, written and shown."""
        cls = Date if Date.is_temporal(self.dtype) or is_form(self.form) else Real
        return cls(name=self.name, dtype=self.dtype, missing=self.missing, form=self.form)

    @property
    def num_values(self) -> int:
        """One state."""
        return 1

    def encode_present(self, column: Column) -> Cells:
        """No other value was seen."""
        return Cells.of_states(np.where(self.number.read(column) == self.value, 0, -1))

    def log_unseen(self, column: Column) -> Values:
        """See `Number.log_unseen`: how far other values may be is not known, so as far as zero."""
        elsewhere = log_logistic(self.number.read(column).astype(np.float64), self.value, max(abs(self.value), 1.0))
        return among_unseen(self, column, elsewhere)

    def describe_invalid(self, column: Column) -> str:
        """The first of the other values."""
        return self.number.describe_invalid(column)

    def decode(self, state: States, number: Values, rng: np.random.Generator) -> Column:
        """The value."""
        value: NDArray[Any] = np.full(len(state), self.value)
        return self.number.write(value, (state == 1) & self.missing)

    @property
    def feature_names(self) -> list[tuple[str, bool]]:
        """The value, and whether it is missing where that may be."""
        return number_features(self)

    def features(self, column: Column) -> Values:
        """See `Number.features`."""
        return with_indicator(self, self.number.read(column), column.is_missing, self.value)

    def parts(self) -> list[str]:
        """The value."""
        return [f"always {self.show(self.value)}"]

    def show(self, value: float) -> str:
        """A value, for people."""
        return self.number.show(value)
