"""Columns of texts and truth values: categories, and what is left out or holds nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ...io.frames import Column
from .base import Cells, Kind, Plain, Request, States, Values, each, fact, is_text, unseen_share

_INDICATORS = 30  # of a column in `features`; other categories share one
_ID_SHARE = 0.9  # of the cells of a text column being unique, it names rows
_ID_ROWS, _COUNTER_ROWS = 20, 50
_LIKE_DATE = re.compile(r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3(19|20)\d{2})(\D|$)")
_LOOKED_AT = 1000  # cells, to see what they are like


def _is_whole(value: object) -> bool:
    return type(value) is int


_TRUTH = {"0": "false", "0.0": "false", "1": "true", "1.0": "true"}  # as other programs write truth values


@dataclass(frozen=True, kw_only=True)
class Category(Plain):
    """One of some texts.

    Attributes:
        categories: the K values as text, the frequent first.
        counts: rows of each.
        own: how many of the categories have a state of their own; the rare rest shares one.
    """

    tag = "category"
    aliases = ("cat", "categorical")
    usage = "category"

    categories: tuple[str, ...] = fact(each(is_text))
    counts: tuple[int, ...] = fact(each(lambda v: _is_whole(v) and v > 0))
    own: int = fact(_is_whole)

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """A column of texts or truth values, or any that was asked to be one.

        Raises:
            ValueError: a column of numbers or dates holds some other text, or texts are not read as its dtype.
        """
        if request.kind not in (None, cls.tag) or (request.kind is None and not _reads_as_texts(column)):
            return None
        codes, labels = column.as_texts()
        counts = np.bincount(codes[codes >= 0], minlength=len(labels))
        used = np.flatnonzero(counts)
        names = {i: labels[i] for i in used.tolist()}
        order = sorted(names, key=lambda i: (-counts[i], names[i]))
        _check_writable(column, [names[i] for i in order])
        most, missing = request.max_categories, int(column.is_missing.sum())
        return cls(
            name=column.name, dtype=_dtype(column), missing=bool(column.is_missing.any()),
            categories=tuple(names[i] for i in order), counts=tuple(int(counts[i]) for i in order),
            own=len(order) if len(order) <= most + 1 else most,
            unseen=unseen_share(int((counts == 1).sum()) + (missing == 1), len(column)),
        )  # fmt: skip

    def is_consistent(self) -> bool:
        """Whether the facts agree with each other."""
        unique = len(set(self.categories)) == len(self.categories)
        return unique and len(self.counts) == len(self.categories) > 0 and 0 <= self.own <= len(self.categories)

    @property
    def grouped(self) -> bool:
        """Whether rare categories share a state."""
        return self.own < len(self.categories)

    @property
    def num_values(self) -> int:
        """A state for each category of its own, and one for all others."""
        return self.own + self.grouped

    def encode_present(self, column: Column) -> Cells:
        """States are places in `categories`; a rare one has its share of the mass of their state."""
        codes, labels = column.as_texts()
        if self.dtype == "bool":
            labels = [_TRUTH.get(text := label.strip().lower(), text) for label in labels]
        known = {name: place for place, name in enumerate(self.categories)}
        places = np.array([*(known.get(label, -1) for label in labels), -1], dtype=np.int64)[codes]
        cells = Cells.of_states(np.minimum(places, self.own))
        if self.grouped:
            rare = places >= self.own
            counts = np.asarray(self.counts, dtype=np.float64)
            cells.log_mass[rare] = np.log(counts[places[rare]] / counts[self.own :].sum())
        return cells

    def describe_invalid(self, column: Column) -> str:
        """The first of the unknown texts."""
        codes, labels = column.as_texts()
        first = dict.fromkeys(labels[code] for code in codes[:1000])
        return f"a category never seen ({', '.join(map(repr, list(first)[:3]))})"

    def decode(self, state: States, number: Values, rng: np.random.Generator) -> Column:
        """Rare categories by their frequencies."""
        codes = np.where(state < self.num_values, state, -1)
        if self.grouped:
            rare = state == self.own
            counts = np.asarray(self.counts[self.own :], dtype=np.float64)
            codes[rare] = self.own + rng.choice(len(counts), int(rare.sum()), p=counts / counts.sum())
        return Column.of_texts(self.name, codes, self.categories, self.dtype)

    @property
    def feature_names(self) -> list[tuple[str, bool]]:
        """The frequent categories, missing, and all others."""
        names = [*self.categories[: self._hot], *["(missing)"] * self.missing, "(other)"]
        return [(f"{self.name} = {name}", True) for name in names]

    def features(self, column: Column) -> Values:
        """Indicators (N, F), of which one is 1 in each row."""
        state = self.encode(column).state
        hot = (state[:, None] == [*range(self._hot), *[self.num_values] * self.missing]).astype(np.float64)
        return np.hstack([hot, 1 - hot.sum(1, keepdims=True)])

    @property
    def _hot(self) -> int:
        """How many of the categories have an indicator of their own."""
        return min(_INDICATORS - self.missing, self.own)

    def parts(self) -> list[str]:
        """How many values, and the first."""
        shown = ", ".join(c if len(c) <= 20 else f"{c[:18]}.." for c in self.categories[:4])
        count = len(self.categories)
        parts = [f"{count:,} value{'' if count == 1 else 's'}: {shown}{', ...' if count > 4 else ''}"]
        return parts + [f"the {count - self.own:,} rarest as one group"] * self.grouped


@dataclass(frozen=True, kw_only=True)
class Empty(Plain):
    """A column in which no cell holds anything."""

    tag = "empty"

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """Whatever was asked for."""
        if not column.is_missing.all():
            return None
        dtype = "string" if column.dtype == "text" else column.dtype
        unseen = unseen_share(0, len(column))
        return cls(name=column.name, dtype=dtype, missing=True, unseen=unseen, note="no cell holds anything")

    @property
    def num_values(self) -> int:
        """None: a cell is missing."""
        return 0

    def is_consistent(self) -> bool:
        """Whether the facts agree with each other."""
        return self.missing

    def encode_present(self, column: Column) -> Cells:
        """No value was seen."""
        return Cells.of_states(np.full(len(column), -1))

    def describe_invalid(self, column: Column) -> str:
        """Any value is."""
        return "a value in a column that had none"

    def decode(self, state: States, number: Values, rng: np.random.Generator) -> Column:
        """Missing cells."""
        return Column(self.name, "nothing", self.dtype, np.ones(len(state), dtype=bool))

    @property
    def feature_names(self) -> list[tuple[str, bool]]:
        """None: all cells are alike."""
        return []

    def features(self, column: Column) -> Values:
        """None: (N, 0)."""
        return np.empty((len(column), 0))

    def describe(self) -> str:
        """The note says it all."""
        return self.note


@dataclass(frozen=True, kw_only=True)
class Dropped(Plain):
    """A column that is left out: as asked, or because it names the rows."""

    tag = "dropped"
    aliases = ("drop", "ignore")
    usage = "drop"

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """Texts that are nearly unique in each row, and whole numbers that count the rows."""
        note = "as asked" if request.kind == cls.tag else ""
        if request.kind is None and request.named:
            note = _unique_note(column) or _counter_note(column)
        missing = bool(column.is_missing.any()) and request.kind is None
        return cls(name=column.name, dtype=_dtype(column), missing=missing, note=note) if note else None

    @property
    def modelled(self) -> bool:
        """False."""
        return False

    @property
    def num_values(self) -> int:
        """One, of which nothing is said."""
        return 1

    def encode_present(self, column: Column) -> Cells:
        """All cells alike."""
        return Cells.of_states(np.zeros(len(column), dtype=np.int64))

    def describe_invalid(self, column: Column) -> str:
        """No cell is."""
        return ""

    def decode(self, state: States, number: Values, rng: np.random.Generator) -> Column:
        """Missing cells."""
        return Column(self.name, "nothing", self.dtype, np.ones(len(state), dtype=bool))


def _unique_note(column: Column) -> str:
    if column.holds != "texts" or column.codes is None:
        return ""
    present = column.codes[column.codes >= 0]
    distinct = int((np.bincount(present, minlength=1) > 0).sum())
    if len(present) < _ID_ROWS or distinct < _ID_SHARE * len(present) or not _reads_as_texts(column):
        return ""
    some = [str(column.labels[int(k)]) for k in np.unique(present[:_LOOKED_AT])]
    dates = [text for text in some if _LIKE_DATE.match(text)]
    forms = {re.sub(r"\d", "0", text): text for text in dates}
    if len(forms) > 1 and len(dates) > _ID_SHARE * len(some):
        shown = " and ".join(map(repr, list(forms.values())[:2]))
        return f"its texts look like dates in several forms, such as {shown}: write them in one"
    return f"its text is {'unique' if distinct == len(present) else 'nearly unique'} in each row, as of an id"


def _counter_note(column: Column) -> str:
    values = column.numbers
    if column.holds != "numbers" or values is None or values.dtype != np.int64 or column.is_missing.any():
        return ""
    if len(values) < _COUNTER_ROWS:
        return ""
    span = int(values.max()) - int(values.min()) + 1
    counts = (np.diff(values) == 1).mean() >= 0.99 or (span == len(values) == len(np.unique(values)))
    return "it counts the rows" if counts else ""


def _reads_as_texts(column: Column) -> bool:
    """Whether a column holds texts or truth values.

    Raises:
        ValueError: it holds numbers or dates, but for some other text.
    """
    if column.holds != "texts":
        return column.holds == "truths"
    mostly = column.mostly()
    try:
        if mostly == "times":
            column.require_times()
        elif mostly == "numbers":
            column.require_numbers()
    except ValueError as error:
        raise ValueError(f"{error}; mend them, or say that it is a category") from None
    return True


def _check_writable(column: Column, names: list[str]) -> None:
    """Raises ValueError where texts cannot be given back in the dtype of their column."""
    try:
        Column.of_texts(column.name, np.arange(len(names)), names, _dtype(column)).to_arrow()
    except (ValueError, NotImplementedError):  # of Arrow, too
        raise ValueError(
            f"column {column.name!r} holds {column.dtype}, which is no category: convert it to text"
        ) from None


def _dtype(column: Column) -> str:
    if column.dtype != "text":
        return column.dtype
    return "bool" if column.holds == "truths" else "string"
