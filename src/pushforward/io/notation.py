"""Numbers as texts of more than digits: with a unit, separators between thousands, leading zeros or brackets.

A pattern tells how they are written, as those of spreadsheets do: `$#,##0.00` for $1,234.50, `#.##0,00 €` for
1.234,50 €, `0.#%` for 12.5%, `00000` for 02139, and `#,##0.00;(0)` for a column in which (1,234.50) is negative. A
percentage is the number before the sign.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cells import Numbers, as_arrow, mask_of, pyarrow, some_of

_LOOKED_AT, _MOST_LOOKED_AT = 200, 20_000  # texts, for a notation at all, and for its details
_MOST = 0.9  # of them have it
_MINUS = "\u2212-"  # the hyphen last, as in a set of a regular expression
_BLANKS = " \u00a0\u202f"
_SIGNS = "$\u20ac\u00a3\u00a5\u20b9\u20bd\u20a9\u20ba\u20ab\u0e3f\u20b4\u20a6"  # of currencies
_BEFORE = rf"(?:[A-Z]{{0,3}}[{_SIGNS}]|[A-Z]{{3}}(?=[{_BLANKS}])|Rs\.?|kr\.?|Fr\.?)[{_BLANKS}]?"
_UNITS = (
    "kg|g|mg|lbs?|oz|km|cm|mm|m|mi|ft|in|L|l|ml|kWh|kW|W|k?Hz|MHz|GHz|KB|MB|GB|TB|hrs?|h|min|sec|ms|s|[kKMB]|bn|px|pt|x"
)
_WORD = rf"[{_BLANKS}][A-Za-z\u00b5\u00b0][^\s\d#;]{{0,15}}"  # any, after a blank
_AFTER = rf"[{_BLANKS}]?(?:[%\u2030{_SIGNS}]|\u00b0[CFK]?|(?:{_UNITS}))|{_WORD}"
_CELL = re.compile(
    rf"(?P<open>\()?(?P<sign>[+{_MINUS}])?(?P<before>{_BEFORE})?(?P<inner>[{_MINUS}])?"
    rf"(?P<body>\d(?:[\d.,'\u2019{_BLANKS}]*\d)?|[.,]\d+)(?P<last>[{_MINUS}])?(?P<after>{_AFTER})?(?P<close>\))?"
)
_STYLES = (  # separators of thousands and decimals
    ("", "."), (",", "."), (".", ","), ("", ","), (" ", ","), (" ", "."), ("\u00a0", ","), ("\u202f", ","),
    ("'", "."), ("\u2019", "."),
)  # fmt: skip
_ENDINGS = {"first": "", "brackets": ";(0)", "inner": ";inner", "last": ";0-"}  # of patterns, for negative numbers
_PATTERN = re.compile(
    r"(?P<before>[^0#%;]*)(?:#(?P<group>[^0#])##0|(?P<zeros>0+))(?:(?P<point>[.,])(?P<decimals>0+|#))?"
    r"(?P<after>[^0#;]*)(?P<minus>(?:;\(0\)|;inner|;0-)?)"
)


@dataclass(frozen=True)
class Notation:
    """How the numbers of a column are written.

    Attributes:
        before: what stands before the digits, such as "$".
        after: what stands behind them, such as " kg".
        group: what separates thousands, or "".
        point: what separates decimals.
        decimals: how many there are; 0 for whole numbers, None where numbers have as many as they need.
        width: digits before the point, at least: 5 for 02139.
        minus: where negative numbers have it: "first", "inner", after `before`, or "last", behind the digits, as in
            ledgers; or they are in "brackets".
    """

    before: str = ""
    after: str = ""
    group: str = ""
    point: str = "."
    decimals: int | None = 0
    width: int = 1
    minus: str = "first"

    @staticmethod
    def of(pattern: str) -> Notation:
        """The inverse of `pattern`.

        Raises:
            ValueError: it is none.

        Example:
            >>> Notation.of("$#,##0.00").write(np.array([1234.5, -3.0])).to_pylist()
            ['$1,234.50', '-$3.00']
        """
        match = _PATTERN.fullmatch(pattern)
        if match is None:
            raise ValueError(f"expected a pattern of numbers such as $#,##0.00, got {pattern!r}")
        decimals = match["decimals"]
        return Notation(
            match["before"], match["after"], match["group"] or "", match["point"] or ".",
            0 if decimals is None else None if decimals == "#" else len(decimals), len(match["zeros"] or "0"),
            {ending: name for name, ending in _ENDINGS.items()}[match["minus"]],
        )  # fmt: skip

    @property
    def pattern(self) -> str:
        """The notation as a text."""
        whole = f"#{self.group}##0" if self.group else "0" * self.width
        decimals = "" if self.decimals == 0 else self.point + ("#" if self.decimals is None else "0" * self.decimals)
        return self.before + whole + decimals + self.after + _ENDINGS[self.minus]

    @property
    def is_plain(self) -> bool:
        """Whether anyone reads it: nothing but digits and a point."""
        return self == Notation(decimals=self.decimals)

    def parse(self, labels: Sequence[str]) -> tuple[Numbers, NDArray[np.bool_]]:
        """Texts (L,) -> numbers (L,), 0 where they are none; which of them are numbers (L,).

        Those without a unit or separators are, too, as are those of more or fewer decimals. int64 where all are whole.
        """
        pa = pyarrow()
        pc = pa.compute
        group, point, blanks = re.escape(self.group), re.escape(self.point), f"[{_BLANKS}]*"
        whole = rf"\d{{1,3}}(?:{group}\d{{3}})+|\d+" if self.group else r"\d+"
        before, after = (rf"(?:{re.escape(part.strip(_BLANKS))}{blanks})?" for part in (self.before, self.after))
        digits = rf"(?P<whole>{whole}|)(?:{point}(?P<decimals>\d*))?"
        parts = pc.extract_regex(
            pc.utf8_trim_whitespace(as_arrow(labels)),
            rf"^(?P<open>\(?)(?P<sign>[+{_MINUS}]?){before}(?P<inner>[{_MINUS}]?){digits}"
            rf"(?P<last>[{_MINUS}]?){blanks}{after}(?P<close>\)?)$",
        )
        names = ("open", "sign", "inner", "whole", "decimals", "last", "close")
        texts = {name: pc.struct_field(parts, name) for name in names}
        plain = pc.replace_substring(texts["whole"], self.group, "") if self.group else texts["whole"]
        has_digits = pc.greater(pc.utf8_length(pc.binary_join_element_wise(plain, texts["decimals"], "")), 0)
        good = mask_of(pc.and_(has_digits, pc.equal(pc.utf8_length(texts["open"]), pc.utf8_length(texts["close"]))))
        signs = pa.array(["(", *_MINUS])
        negative = [mask_of(pc.is_in(texts[name], value_set=signs)) for name in ("open", "sign", "inner", "last")]
        good &= np.sum(negative, 0) <= 1
        sign = np.where(np.any(negative, 0), -1, 1)
        is_whole = not pc.any(pc.and_(pa.array(good), pc.greater(pc.utf8_length(texts["decimals"]), 0))).as_py()
        if is_whole and (pc.max(pc.utf8_length(plain)).as_py() or 0) <= 18:
            filled = pc.if_else(pa.array(good), plain, "0")
            return sign * pc.cast(filled, pa.int64()).to_numpy(zero_copy_only=False), good
        number = pc.binary_join_element_wise(pc.binary_join_element_wise("0", plain, ""), texts["decimals"], ".")
        filled = pc.if_else(pa.array(good), number, "0")
        return sign * pc.cast(filled, pa.float64()).to_numpy(zero_copy_only=False), good

    def write(self, values: NDArray[Any]) -> Any:
        """Numbers (N,) -> texts (N,), an Arrow array."""
        distinct, at = np.unique(values, return_inverse=True)
        words = pyarrow().array([self._written(value) for value in distinct.tolist()], pyarrow().string())
        return words.take(pyarrow().array(at.reshape(-1)))

    def _written(self, value: float) -> str:
        if self.decimals is not None:
            digits = f"{abs(value):.{self.decimals}f}"
        else:
            digits = np.format_float_positional(abs(value), trim="-")
        whole, _, decimals = digits.partition(".")
        whole = f"{int(whole):,}".replace(",", self.group) if self.group else whole.zfill(self.width)
        body = whole + (self.point + decimals if decimals else "")
        if value >= 0 or not digits.strip("0."):
            return self.before + body + self.after
        if self.minus == "brackets":
            return f"({self.before}{body}{self.after})"
        if self.minus == "last":
            return f"{self.before}{body}-{self.after}"
        return f"{self.before}-{body}{self.after}" if self.minus == "inner" else f"-{self.before}{body}{self.after}"


def is_pattern(value: Any) -> bool:
    """Whether a value is the pattern of a notation."""
    return isinstance(value, str) and _PATTERN.fullmatch(value) is not None


def find_notation(labels: Sequence[str], *, plain: bool = False) -> Notation | None:
    """The notation of most of some texts; None where they are no numbers, or such as anyone reads.

    Units and signs of currencies are the same in all of them. What is in brackets throughout is no number unless it has
    two decimals, nor what has as many groups of digits in each, as telephone numbers do, without a unit or decimals.
    Marks such as 2- are none either: a minus behind the digits is one of amounts.

    Args:
        labels: distinct texts.
        plain: whether numbers that anyone reads have a notation, too.

    Example:
        >>> find_notation(["1.234,50 €", "12,00 €"]).pattern
        '#.##0,00 €'
    """
    texts = pyarrow().compute.utf8_trim_whitespace(as_arrow(labels))
    first = _cells(some_of(texts, _LOOKED_AT))
    if len(first) < max(_MOST * min(len(texts), _LOOKED_AT), 1):
        return None
    cells = _cells(some_of(texts, _MOST_LOOKED_AT))
    (before, after), _ = Counter((cell["before"] or "", cell["after"] or "") for cell in cells).most_common(1)[0]
    cells = [cell for cell in cells if (cell["before"] or "", cell["after"] or "") == (before, after)]
    fitting = {style: [cell for cell in cells if _fits(cell["body"], *style)] for style in _STYLES}
    if any(sign in before + after for sign in _SIGNS) and _has_thousands(cells):
        fitting = {style: fitting[style] for style in _STYLES if style[1] != "."}
    style = max(fitting, key=lambda style: len(fitting[style]))
    if len(fitting[style]) < _MOST * min(len(texts), _MOST_LOOKED_AT):
        return None
    notation = _detailed(Notation(before, after, *style), fitting[style])
    return None if notation is None or (notation.is_plain and not plain) else notation


def _cells(texts: Sequence[str]) -> list[re.Match[str]]:
    matches = (_CELL.fullmatch(text) for text in texts)
    return [
        match for match in matches if match and (not match["open"]) == (not match["close"]) and _has_one_sign(match)
    ]


def _has_one_sign(cell: re.Match[str]) -> bool:
    return sum(bool(cell[part]) for part in ("sign", "inner", "last")) <= 1


def _fits(body: str, group: str, point: str) -> bool:
    """Whether digits have these separators of thousands and decimals."""
    whole, _, decimals = body.partition(point)
    first, *others = whole.split(group) if group else [whole]
    if not (decimals == "" or decimals.isdecimal()) or body.endswith(point):
        return False
    if not others:
        return (whole.isdecimal() and (not group or len(whole) <= 3)) or (whole == "" and decimals != "")
    is_first = first.isdecimal() and len(first) <= 3 and first[0] != "0"
    return is_first and all(len(part) == 3 and part.isdecimal() for part in others)


def _has_thousands(cells: Sequence[re.Match[str]]) -> bool:
    """Whether the points of amounts separate thousands, as of 950 and 1.234, and not decimals, as of 3.459."""
    bodies = [cell["body"].partition(",")[0] for cell in cells]
    parts = [body.split(".") for body in bodies if "." in body]
    are_groups = all(first[:1] not in ("", "0") and all(len(p) == 3 for p in others) for first, *others in parts)
    return bool(parts) and are_groups and any("." not in b or b.count(".") > 1 or b.find(".") == 3 for b in bodies)


def padding(texts: Any, numbers: Numbers) -> Notation | None:
    """The notation of Arrow texts (L,) of digits that are of one length by their leading zeros, as 02139 is.

    Args:
        texts: (L,), some of which may hold nothing.
        numbers: that they are.
    """
    pc = pyarrow().compute
    if numbers.dtype != np.int64 or not pc.any(pc.match_substring_regex(texts, r"^\s*0\d")).as_py():
        return None
    digits = pc.utf8_trim_whitespace(texts)
    digits = digits.filter(pc.match_substring_regex(digits, r"\d"))
    lengths = pc.min_max(pc.utf8_length(digits)).as_py()
    if lengths["min"] != lengths["max"] or not pc.all(pc.match_substring_regex(digits, r"^\d+$")).as_py():
        return None
    return Notation(width=lengths["max"])


def _detailed(notation: Notation, cells: Sequence[re.Match[str]]) -> Notation | None:
    """A notation with what its cells (n,) tell; None where they are no numbers after all."""
    group, point, bodies = notation.group, notation.point, [cell["body"] for cell in cells]
    groups = {body.count(group) for body in bodies} if group else {0}
    counts = {len(body.partition(point)[2]) for body in bodies}
    has_unit = bool(notation.before or notation.after)
    may_be_code = group not in ("", ",") and len(groups) == 1 and groups != {0} and counts == {0} and not has_unit
    may_be_grades = any(cell["last"] for cell in cells) and groups == {0} and not has_unit
    if may_be_code or (counts != {2} and (may_be_grades or all(cell["open"] for cell in cells))):
        return None
    places = {"brackets": "open", "inner": "inner", "last": "last"}
    minus = next((name for name, part in places.items() if any(cell[part] for cell in cells)), "first")
    return replace(
        notation, group="" if groups == {0} else group, decimals=max(counts) if len(counts) == 1 else None,
        point="." if counts == {0} else point, minus=minus,
    )  # fmt: skip
