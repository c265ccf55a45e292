"""Columns of dates, times and durations."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from ...io.times import MIXED, has_zone, is_form, is_of_day, unit_of
from .base import Cells, Kind, Mask, Request, fact, optional, unseen_share
from .lattice import Lattice
from .look import Look, plain
from .number import Number

_UNITS = {"D": 86400.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}  # seconds of a tick
_CLOCK = (86400.0, 3600.0, 60.0, 1.0, 1e-3, 1e-6)
_STEPS = {86400.0: "a day", 3600.0: "an hour", 60.0: "a minute", 1.0: "a second"}
_FARTHEST = 2.0**62
_SURE = 5  # different times that lie at the same time of day
_PLAIN_FORMS = (None, "%Y-%m-%d", MIXED)  # in which files of text hold dates and timestamps


@dataclass(frozen=True, kw_only=True)
class Date(Number):
    """Points in time, times of day or durations, as whole numbers of the unit of their dtype.

    Attributes:
        form: how dates are written, where they came as text.
    """

    tag = "date"
    aliases = ("datetime", "time")
    usage = "date or date:FORM, such as date:%d/%m/%Y"
    on_lattice_alone = True
    has_sign = False

    form: str | None = fact(optional(is_form), None)

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """Times, and texts that are dates.

        Raises:
            ValueError: it was asked for, and there are other cells.
        """
        if request.kind not in (None, cls.tag) or (request.kind is None and column.holds != "times"):
            return None
        column = cls.as_asked(column, request)
        column.require_times()
        kind = cls.bare(column)
        values = kind.read(column)[~column.is_missing]
        look = Look(column, values, request)
        extent = (plain(values.min()), plain(values.max()))
        unseen = unseen_share(0, len(column))
        return look.finished(replace(kind, extent=extent, lattice=Lattice(*kind.clock(values)), unseen=unseen))

    @staticmethod
    def as_asked(column: Column, request: Request) -> Column:
        """The column as times in the form that was asked for; itself where none was.

        Raises:
            ValueError: its cells are no such times.
        """
        if request.form is None:
            return column
        times, unit = column.require_times(request.form)
        return replace(column, holds="times", numbers=None, times=times, unit=unit, form=request.form)

    @classmethod
    def bare(cls, column: Column) -> Date:
        """The kind of a column of times, without what its values say."""
        dtype = column.dtype
        if dtype == "text" and column.form in _PLAIN_FORMS:
            dtype = "date32[day]" if column.unit == "D" else "timestamp[s]"
        dtype = "string" if dtype == "text" else dtype
        form = None if cls.is_temporal(dtype) else column.form or "%Y-%m-%d"
        return cls(name=column.name, dtype=dtype, missing=bool(column.is_missing.any()), form=form)

    @staticmethod
    def is_temporal(dtype: str) -> bool:
        """Whether an Arrow type is one of times."""
        return dtype.startswith(("timestamp", "date", "time", "duration"))

    @property
    def time_unit(self) -> str:
        """The unit of the values."""
        for mark, unit in (("date32", "D"), ("date64", "ms"), ("[ns", "ns"), ("[us", "us"), ("[ms", "ms")):
            if mark in self.dtype:
                return unit
        return "s" if self.form is None else unit_of(self.form)

    @property
    def limits(self) -> tuple[float, float]:
        """A day for times of day, what 64 bits hold for all else; days have 32."""
        is_time = self.dtype.startswith("time") and not self.dtype.startswith("timestamp")
        if is_time or (self.form is not None and is_of_day(self.form)):
            return 0.0, round(_UNITS["D"] / self.tick) - 1.0
        limits = np.iinfo("int32" if self.dtype == "date32[day]" else "int64")
        return int(limits.min), int(limits.max)

    @property
    def tick(self) -> float:
        """Seconds of a unit."""
        return _UNITS[self.time_unit]

    def clock(self, values: NDArray[np.int64]) -> tuple[int, int]:
        """-> the coarsest of day, hour, minute, ... at whole numbers of which times (N,) lie, in units; the first one.

        The first is that of midnight, or, of times enough for that to be no chance, another: noon of each day.
        """
        origins = [0] if len(np.unique(values)) < _SURE else [0, int(values[0])]
        for seconds, origin in itertools.product(_CLOCK, origins):
            step = round(seconds / self.tick)
            if step >= 1 and not ((values - origin) % step).any():
                return step, origin % step
        return 1, 0

    def read(self, column: Column) -> NDArray[np.int64]:
        """The times (N,) in units; what is finer is cut off."""
        return self._read(column)[0]

    def _read(self, column: Column) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """-> times (N,) in units; what was cut off (N,), in ticks of the column.

        Raises:
            ValueError: only one of the column and this kind has a time zone.
        """
        zones = [_has_zone(self.dtype, self.form), _has_zone(column.dtype, column.form)]
        if set(zones) == {True, False} and not column.is_missing.all():
            advice = "say which zone these are of" if zones[0] else "drop that of these"
            raise ValueError(
                f"column {self.name!r} holds {column.dtype}, expected {self.form or self.dtype}: times with a zone and "
                f"times without one cannot be compared; {advice}"
            )
        ticks, unit = column.require_times(None if column.codes is None else self.form)
        ratio = _UNITS[unit] / self.tick
        if ratio >= 1:
            return ticks * round(ratio), np.zeros_like(ticks)
        return ticks // round(1 / ratio), ticks % round(1 / ratio)

    def write(self, values: NDArray[Any], is_missing: Mask) -> Column:
        """Times (N,) in units as a column of the dtype."""
        ticks = values if values.dtype == np.int64 else np.clip(values, -_FARTHEST, _FARTHEST).astype(np.int64)
        return Column.of_times(self.name, ticks, is_missing, self.dtype, self.time_unit, self.form)

    def encode_column(self, column: Column, encode_values: Callable[[NDArray[Any]], Cells]) -> Cells:
        """The cells of a column; a time of day is impossible where there were days alone."""
        values, lost = self._read(column)
        cells = encode_values(values)
        if self.time_unit == "D":
            cells.state[lost > 0] = -1
        return cells

    def describe_invalid(self, column: Column) -> str:
        """A time of day where there were days, or the first of the impossible times."""
        lost = self._read(column)[1]
        if self.time_unit == "D" and lost.any():
            return "a time of day, where it had dates alone"
        return super().describe_invalid(column)

    def steps(self) -> list[str]:
        """The step, where it is not a second."""
        return [] if self.step_text == "a second" else super().steps()

    @property
    def step_text(self) -> str:
        """The step, for people."""
        seconds = (self.step or 1) * self.tick
        return _STEPS.get(seconds, f"{seconds:g} s")

    def show(self, value: float) -> str:
        """A time, for people."""
        if not (self.dtype.startswith(("timestamp", "date")) or self.form):
            return super().show(value)
        try:
            when = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=value * self.tick)
        except OverflowError:
            return f"{value:g}"
        if self.form is not None and is_of_day(self.form):
            return when.strftime("%H:%M:%S")
        return when.strftime("%Y-%m-%d" if when.time() == datetime.time() else "%Y-%m-%d %H:%M:%S")


def _has_zone(dtype: str, form: str | None) -> bool | None:
    """Whether times of a dtype, or texts of a form, have a time zone; None where it is not known."""
    if dtype.startswith("timestamp"):
        return "tz=" in dtype
    return None if dtype == "text" or form is None else has_zone(form)
