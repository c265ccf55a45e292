"""What is known about one column of a table: its kind, its states, and the facts that its kind needs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from .marginal import Marginal

if TYPE_CHECKING:
    from .relation import Relation

KINDS = (
    "real", "positive", "bounded", "circular", "quantised", "integer", "date", "category", "constant", "empty",
    "dropped",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column: JSON-able, and all that is needed to encode its cells and to give them back.

    A column has a discrete part, its states, and perhaps a number that the flow models. The states of a category are
    its values. Those of a number are: an ordinary value (modelled by the flow), each atom, and missing.

    Attributes:
        name: of the column.
        kind: one of `KINDS`.
        dtype: the Arrow type to give back.
        missing: whether missing cells were seen, and so have a probability.
        atoms: single values that hold a large share of the rows; all values where there are few.
        flows: whether ordinary values are modelled by the flow.
        step: distance of neighbouring values of a column on a lattice, None where values are continuous. Dates count
            in the unit of their dtype.
        origin: one value of the lattice.
        coarse: a wider step that many, but not all, of the values keep to, counted from origin: such a value has a
            state of its own, which tells the flow that it stands for a wider cell.
        digits: significant ones of values on a lattice or its coarse step, where decimals of the step do not tell them.
        low: lower bound of the values, None for none; a continuous value lies strictly above it.
        high: upper bound.
        period: of a circular column, whose values then lie in [low, high).
        cut: where the circle is cut open.
        categories: the values of a category as text, the frequent first.
        counts: rows of each category.
        own: how many of the categories have a state of their own; the rare rest shares one.
        knots: see `Marginal`.
        heavy: see `Marginal`.
        form: how dates are written, where they came as text.
        extent: the smallest and largest value seen, for people.
        relation: to columns before it: what it is more than their sum is modelled in its place, unless it is given.
        note: what was decided and why, for people.
    """

    name: str
    kind: str
    dtype: str
    missing: bool = False
    atoms: tuple[float, ...] = ()
    flows: bool = False
    step: float | None = None
    origin: float = 0
    coarse: float | None = None
    digits: int | None = None
    low: float | None = None
    high: float | None = None
    period: float | None = None
    cut: float = 0.0
    categories: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    own: int = 0
    knots: tuple[tuple[float, float, float], ...] = ()
    heavy: tuple[bool, bool] = (False, False)
    form: str | None = None
    extent: tuple[float, float] | None = None
    relation: Relation | None = None
    note: str = ""

    @property
    def modelled(self) -> bool:
        """False for a column that was left out."""
        return self.kind != "dropped"

    @property
    def coded(self) -> Column:
        """What is modelled in its place: itself, or the rest of its relation."""
        return self if self.relation is None else self.relation.rest

    @property
    def open(self) -> bool:
        """Whether a number that is no atom is possible: modelled by the flow or, where all seen values are atoms,
        given a little mass far and wide."""
        return self.flows or (self.kind not in ("category", "constant", "empty") and len(self.atoms) > 1)

    @property
    def grouped(self) -> bool:
        """Whether rare categories share a state."""
        return self.own < len(self.categories)

    @property
    def states(self) -> int:
        """How many states the discrete part has; 1 means that it has none to model."""
        if self.kind == "category":
            return self.own + self.grouped + self.missing
        return self.ordinary + len(self.atoms) + self.missing

    @property
    def ordinary(self) -> int:
        """How many of the first states are of ordinary values: the finer ones and then perhaps the coarse."""
        return self.open + (self.coarse is not None and self.flows)

    @property
    def in_mass(self) -> bool:
        """Whether the mass function has a variable for it."""
        return self.modelled and self.states > 1

    @property
    def on_lattice(self) -> bool:
        """Whether its values are a mass, not a density."""
        return self.step is not None

    @property
    def cell(self) -> float:
        """Width of the cell of an ordinary value as `marginal` takes it; 0 for a continuous one."""
        return 0.0 if self.step is None else 1.0

    @property
    def coarse_cell(self) -> float:
        """Width of the cell of a coarse value as `marginal` takes it."""
        return 0.0 if self.coarse is None else self.coarse / (self.step or 1)

    @property
    def noisy(self) -> bool:
        """Whether its numbers are spread over cells."""
        return self.on_lattice or self.coarse is not None

    @property
    def unit(self) -> str:
        """What a factor of p(row) stands for: the mass of a cell, a density, or both where a density has atoms."""
        if not self.modelled:
            return "none"
        if self.on_lattice or not self.open:
            return "mass"
        singles = self.atoms or self.missing or self.coarse
        return "density, mass of single values" if singles else "density"

    @cached_property
    def marginal(self) -> Marginal:
        """The map of ordinary values, after a lattice was counted in steps, to about a standard normal."""
        low, high = self.bounds
        return Marginal(low, high, self.knots, self.heavy)

    def straight(self) -> Column:
        """The same without the bends of `marginal`: a line through its middle half."""
        if not self.flows:
            return self
        return replace(self, knots=self.marginal.straightened())

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Bounds of what `marginal` maps: values, or on a lattice the cells [k, k + 1) counted in steps from origin."""
        if self.period is not None:
            return 0.0, self.period if self.step is None else float(round(self.period / self.step))
        if self.step is None:
            return self.low, None if self.high is None else self.high + (self.coarse or 0.0)
        low = None if self.low is None else float(math.ceil((self.low - self.origin) / self.step - 1e-6))
        high = (
            None
            if self.high is None
            else float(math.floor((self.high - self.origin) / self.step + 1e-6) + (self.coarse_cell or 1))
        )
        return low, high

    @property
    def reach(self) -> tuple[float, float]:
        """Between what a number is sampled, as `marginal` gives it: what was seen and as much again to both sides."""
        if self.period is not None or self.extent is None:
            return -math.inf, math.inf
        first, last = ((v - self.origin) / self.step if self.step else v for v in self.extent)
        beyond = last - first + (self.coarse_cell or self.cell)
        return first - beyond, last + beyond

    @property
    def text(self) -> str:
        """The facts, in words."""
        parts = []
        if self.kind == "category":
            shown = ", ".join(c if len(c) <= 20 else f"{c[:18]}.." for c in self.categories[:4])
            count = len(self.categories)
            parts.append(f"{count:,} value{'' if count == 1 else 's'}: {shown}{', ...' if count > 4 else ''}")
            if self.grouped:
                parts.append(f"the {count - self.own:,} rarest as one group")
        if self.extent is not None and self.kind not in ("constant", "category"):
            parts.append(f"{self.show(self.extent[0])} to {self.show(self.extent[1])}")
        if self.kind == "constant" and self.atoms:
            parts.append(f"always {self.show(self.atoms[0])}")
        if self.period is not None:
            parts.append(f"period {self.period:g}")
        if self.kind == "bounded":
            parts.append(f"within {self.low:g} and {self.high:g}")
        if self.coarse is not None:
            parts.append(
                f"often in steps of {self.coarse:g}, else {f'of {self.step_text}' if self.step else 'continuous'}"
            )
        elif self.step is not None and (self.kind, self.step_text) not in (("integer", "1"), ("date", "a second")):
            parts.append(f"in steps of {self.step_text}")
        if self.atoms and self.kind != "constant":
            if self.flows:
                many = len(self.atoms) > 4
                shown = ", ".join(self.show(a) for a in self.atoms[:4])
                parts.append(f"atom{'s' if len(self.atoms) > 1 else ''} at {shown}{', ...' if many else ''}")
            else:
                parts.append(f"{len(self.atoms)} values")
        if self.missing and self.kind != "empty":
            parts.append("missing cells")
        if self.relation is not None:
            parts.append(f"= {self.relation.text(self.step or 1)}")
        return "; ".join(parts + ([self.note] if self.note else []))

    @property
    def step_text(self) -> str:
        """The step, for people."""
        if self.kind == "date":
            seconds = (self.step or 1) * unit_seconds(self.dtype)
            names = {86400.0: "a day", 3600.0: "an hour", 60.0: "a minute", 1.0: "a second"}
            return names.get(seconds, f"{seconds:g} s")
        return f"{self.step:.6g}"

    def show(self, value: float) -> str:
        """A value, for people."""
        if self.kind == "date" and ("timestamp" in self.dtype or "date" in self.dtype or self.form):
            import datetime

            try:
                when = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=value * unit_seconds(self.dtype))
            except OverflowError:
                return f"{value:g}"
            return when.strftime("%Y-%m-%d" if when.time() == datetime.time() else "%Y-%m-%d %H:%M:%S")
        return f"{value:.6g}" if abs(value) < 1e6 and value != int(value) else f"{value:.7g}"


def unit_seconds(dtype: str) -> float:
    """The unit of a temporal Arrow type."""
    for mark, seconds in (("date32", 86400.0), ("date64", 1e-3), ("[ns", 1e-9), ("[us", 1e-6), ("[ms", 1e-3)):
        if mark in dtype:
            return seconds
    return 1.0
