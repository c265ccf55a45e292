"""Dates and times as texts: how they are written, read, and written again.

A form is that of `strftime`, with `%-d` and the like for a number without leading zeros, as in 1/5/2024, `%f` for a
fraction of a second and `%z` for an offset from UTC.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cells import as_arrow, mask_of, pyarrow, some_of

Ticks = NDArray[np.int64]
Mask = NDArray[np.bool_]

ISO_FORMS = (  # any of which may stand in a column; the last two are those that pandas and JavaScript write into JSON
    "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.000", "%Y-%m-%dT%H:%M:%S.000Z",
)  # fmt: skip
COMPACT = "%Y%m%d"  # as of 20240229: also a number
MIXED = "%Y-%m-%d %H:%M:%S"  # stands for several of them
_ISO_DATE = r"^\s*\d{4}-\d\d-\d\d"
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip
_DAY = 86_400  # seconds
_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000}
_LOOKED_AT = 20  # texts, for forms that they may have
_BARE, _LOWER = "\x01", "\x02"  # stand before a number whose leading zero goes, and before AM or PM in lower case

_PATTERNS = {
    "%Y": r"\d{4}", "%y": r"\d\d", "%m": r"\d\d", "%d": r"\d\d", "%H": r"\d\d", "%I": r"\d\d", "%M": r"\d\d",
    "%S": r"\d\d", "%-m": r"\d{1,2}", "%-d": r"\d{1,2}", "%-H": r"\d{1,2}", "%-I": r"\d{1,2}", "%3f": r"\d{3}",
    "%f": r"\d{1,9}", "%b": "[A-Za-z]{3}", "%B": "[A-Za-z]{3,9}", "%p": "[AP]M", "%P": "[ap]m", "%z": r"[+-]\d\d:?\d\d",
}  # fmt: skip
_UNPADDED = {directive: directive.replace("%", "%-") for directive in ("%m", "%d", "%H", "%I")}
_OFFSET = re.compile(r"[+-]\d\d:?\d\d$")  # at the end of a form: what all texts have
_DIRECTIVE = re.compile(r"%-?\d?[A-Za-z]")
_TIME = re.compile(r"\d{1,2}:\d\d(?P<second>:\d\d(?P<fraction>\.\d{1,9})?)?(?P<blank> ?)(?P<half>AM|PM|am|pm)?"
                   r"(?P<zone>Z|[+-]\d\d:?\d\d)?")  # fmt: skip
_DATES = tuple(
    (re.compile(pattern + r"(?P<gap>T|,? )?"), forms)
    for pattern, forms in {
        r"\d{4}(?P<s>[-/.])\d{1,2}(?P=s)\d{1,2}": ("%Y{s}%-m{s}%-d",),
        r"\d{1,2}(?P<s>[-/])\d{1,2}(?P=s)\d{4}": ("%-m{s}%-d{s}%Y", "%-d{s}%-m{s}%Y"),
        r"\d{1,2}/\d{1,2}/\d\d": ("%-m/%-d/%y", "%-d/%-m/%y"),
        r"\d\d-\d\d-\d\d": ("%m-%d-%y", "%d-%m-%y"),
        r"\d{1,2}\.\d{1,2}\.\d{4}": ("%-d.%-m.%Y",),
        r"\d\d\.\d\d\.\d\d": ("%d.%m.%y",),
        r"\d{1,2}(?P<s>[- ])[A-Za-z]{3,9}(?P<t>[- ]|, )\d{4}": ("%-d{s}%b{t}%Y", "%-d{s}%B{t}%Y"),
        r"\d{1,2}-[A-Za-z]{3}-\d\d": ("%-d-%b-%y",),
        r"[A-Za-z]{3,9} \d{1,2}(?P<t>,? )\d{4}": ("%b %-d{t}%Y", "%B %-d{t}%Y"),
    }.items()
)


def is_form(value: Any) -> bool:
    """Whether a value is a form, of directives that are known here."""
    directives = _DIRECTIVE.findall(value) if isinstance(value, str) else []
    return bool(directives) and all(directive in _PATTERNS for directive in directives)


def unit_of(form: str) -> str:
    """The unit of the ticks of texts of a form: "us" or "ms" where it has fractions of a second, else "s"."""
    return "us" if "%f" in form else "ms" if "%3f" in form else "s"


def is_of_day(form: str) -> bool:
    """Whether a form tells the time of day alone."""
    return "%Y" not in form and "%y" not in form


def parse_times(labels: Sequence[str], form: str | None = None, *, mixed: bool = False) -> tuple[Ticks, Mask, str]:
    """Texts (L,) -> ticks (L,), 0 where they are no time; which are times (L,); how they are written.

    Ticks are those of `unit_of` the form, since 1970, or since midnight where it has no date.

    Args:
        labels: such as 2020-02-29, 2020-02-29 12:30, 29.2.2020, 2/29/20 2:30 PM or 14:30.
        form: how they are written; None takes the one that fits most of them. Of 1/5/2024 and the like, where day and
            month may be either, the month comes first, unless all are days and the first of a month the other way.
        mixed: whether each may be of another of `ISO_FORMS`.

    Example:
        >>> parse_times(["1/1/1970", "1/13/1970"])
        (array([      0, 1036800]), array([ True,  True]), '%-m/%-d/%Y')
    """
    pc = pyarrow().compute
    texts = pc.utf8_trim_whitespace(as_arrow(labels))
    is_iso = form is None and pc.any(pc.match_substring_regex(texts, _ISO_DATE)).as_py()
    tried = (form,) if form else ISO_FORMS if is_iso else ()
    read: dict[str, tuple[Ticks, Mask]] = {known: _read(texts, known, strict=form is None) for known in tried}
    if mixed and read:  # each text is of one form at most
        single = next((known for known, (_, good) in read.items() if good.all()), MIXED)
        ticks, goods = zip(*read.values(), strict=True)
        read = {single: (np.sum(ticks, 0), np.logical_or.reduce(goods))}
    if form is None and not any(good.all() for _, good in read.values()):
        read |= {known: _read(texts, known) for known in _forms_like(texts) if known not in read}
    if not read:
        return np.zeros(len(texts), np.int64), np.zeros(len(texts), bool), ISO_FORMS[0]
    best = max(read, key=lambda known: (int(read[known][1].sum()), _are_firsts(read[known][0], known)))
    ticks, good = read[best]
    return ticks, good, best if form else _detailed(texts, best)


def other_order(labels: Sequence[str], form: str) -> str | None:
    """The form with day and month the other way round, where texts (L,) of a form are all dates by it, too.

    Example:
        >>> other_order(["1/5/2024", "2/6/2024"], "%-m/%-d/%Y"), other_order(["1/13/2024"], "%-m/%-d/%Y")
        ('%-d/%-m/%Y', None)
    """
    if re.search(r"%-?[md][-/]%-?[md]", form) is None or form[:2] == "%Y":
        return None
    swapped = form.translate(str.maketrans("md", "dm"))
    texts = pyarrow().compute.utf8_trim_whitespace(as_arrow(labels))
    return swapped if (_read(texts, swapped)[1] | ~_read(texts, form)[1]).all() else None


def has_zone(form: str) -> bool | None:
    """Whether times of a form have a time zone; None where they are dates or times of day, or of mixed forms."""
    if ":%M" not in form or is_of_day(form) or form == MIXED:
        return None
    return form.endswith(("Z", "%z")) or _OFFSET.search(form) is not None


def compact_dates(numbers: NDArray[Any]) -> Ticks | None:
    """Numbers (N,) such as 20240229 -> ticks (N,) of the form `COMPACT`; None where one is no date of 1900 to 2099.

    Example:
        >>> compact_dates(np.array([19700102])), compact_dates(np.array([19700102, 19700132]))
        (array([86400]), None)
    """
    if not len(numbers) or not (1900_01_01 <= numbers.min() <= numbers.max() <= 2099_12_31):
        return None
    numbers, given = numbers.astype(np.int64), numbers
    if (numbers != given).any():
        return None
    days, good = _days(numbers // 10_000, numbers // 100 % 100, numbers % 100)
    return days * _DAY if good.all() else None


def write_times(ticks: Any, form: str) -> Any:
    """An Arrow array of int64 ticks (L,) of `unit_of` a form -> texts (L,) of the form."""
    pa = pyarrow()
    plain = re.sub(r"%S\.%3?f", "%S", form).replace("%z", "+00:00")  # Arrow writes fractions with the seconds
    marked = plain.replace("%-", f"{_BARE}%").replace("%P", f"{_LOWER}%p")
    if offset := _OFFSET.search(form):
        shift = int(_seconds(np.array(int(offset[0].replace(":", ""))))) * _PER_SECOND[unit_of(form)]
        ticks = pa.compute.add(ticks, shift)
    texts = pa.compute.strftime(ticks.cast(pa.timestamp(unit_of(form))), marked)
    for old, new in ((f"{_BARE}0?", ""), (f"{_LOWER}AM", "am"), (f"{_LOWER}PM", "pm")):
        if old[0] in marked:
            texts = pa.compute.replace_substring_regex(texts, old, new)
    return texts


def _read(texts: Any, form: str, strict: bool = True) -> tuple[Ticks, Mask]:
    """Texts (L,) without blanks around them -> ticks (L,), 0 where they are no times; which are times (L,).

    Args:
        texts: an Arrow array.
        form: how they are written.
        strict: whether numbers of two digits must have their leading zeros.
    """
    pa = pyarrow()
    pc = pa.compute
    pattern = _pattern(form, strict)
    parts = pc.extract_regex(texts, pattern)
    good = mask_of(pc.is_valid(parts))

    def text(name: str) -> Any:
        return pc.struct_field(parts, name)

    def number(name: str, default: int = 0) -> Ticks:
        if f"(?P<{name}>" not in pattern:
            return np.full(len(texts), default)
        return pc.cast(text(name), pa.int64()).fill_null(default).to_numpy(zero_copy_only=False)

    hours, minutes, seconds = number("H"), number("M"), number("S")
    good &= (hours < 24) & (minutes < 60) & (seconds < 60)
    if "%I" in form or "%-I" in form:
        hours = number("I", 12)
        good &= (hours >= 1) & (hours <= 12)
        hours = hours % 12 + 12 * mask_of(pc.equal(pc.utf8_lower(text("p")), "pm"))
    days: Ticks = np.zeros(len(texts), np.int64)
    if not is_of_day(form):
        year = number("Y", 1970) if "%Y" in form else (number("y", 70) + 31) % 100 + 1969  # POSIX: 69 is 1969
        month = _months(text("b"), "%B" in form) if "%b" in form or "%B" in form else number("m", 1)
        days, is_day = _days(year, month, number("d", 1))
        good &= is_day
    total = days * _DAY + hours * 3600 + minutes * 60 + seconds
    if "%z" in form or _OFFSET.search(form):
        zone = pc.replace_substring_regex(text("z"), "[:+]", "")
        total -= _seconds(pc.cast(zone, pa.int64()).fill_null(0).to_numpy(zero_copy_only=False))
    total *= _PER_SECOND[unit_of(form)]
    if unit_of(form) != "s":
        width = 6 if unit_of(form) == "us" else 3
        fraction = pc.utf8_slice_codeunits(pc.utf8_rpad(text("f"), width, "0"), 0, width)  # what is finer is cut off
        total += pc.cast(fraction, pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return np.where(good, total, 0), good


def _pattern(form: str, strict: bool = False) -> str:
    """The regular expression of a form, with a group for each directive: b is the name of a month, p AM or PM.

    Leading zeros may be absent unless it is strict, and an offset may be any.
    """
    groups = {"B": "b", "P": "p", "3f": "f"}
    parts = ["^"]
    for part in re.split(f"({_DIRECTIVE.pattern})", _OFFSET.sub("%z", form)):
        name = part.lstrip("%-")
        part = part if strict else _UNPADDED.get(part, part)
        parts.append(f"(?P<{groups.get(name, name)}>{_PATTERNS[part]})" if part in _PATTERNS else re.escape(part))
    return "".join(parts) + "$"


def _seconds(offset: Ticks) -> Ticks:
    """Offsets from UTC such as 530 for 5 hours and 30 minutes -> seconds."""
    return np.sign(offset) * (np.abs(offset) // 100 * 3600 + np.abs(offset) % 100 * 60)


def _months(names: Any, are_full: bool) -> Ticks:
    """Names of months (L,) -> their numbers from 1, 0 for none."""
    pa = pyarrow()
    known = pa.array([name.lower() if are_full else name[:3].lower() for name in _MONTHS])
    places = pa.compute.index_in(pa.compute.utf8_lower(names), value_set=known)
    return places.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) + 1


def _days(year: Ticks, month: Ticks, day: Ticks) -> tuple[Ticks, Mask]:
    """-> days since 1970; which are in the calendar: the 30th of February is not."""
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    return days.astype(np.int64), (days.astype("datetime64[M]") == months) & (month >= 1) & (month <= 12)


def _are_firsts(ticks: Ticks, form: str) -> bool:
    """Whether all ticks (L,), of a form without the time of day, are on the first day of a month."""
    if ":%M" in form:
        return False
    days = (ticks // (_DAY * _PER_SECOND[unit_of(form)])).astype("datetime64[D]")
    return bool((days == days.astype("datetime64[M]").astype("datetime64[D]")).all())


def _forms_like(texts: Any) -> list[str]:
    """Forms that some of the texts may have, those that are no ISO."""
    forms: dict[str, None] = {}
    for text in some_of(texts, _LOOKED_AT):
        for pattern, dates in _DATES:
            if date := pattern.match(text):
                filled = [form.format(**date.groupdict()) for form in dates]
                times = _times_like(text[date.end() :]) if date["gap"] else [""] if date.end() == len(text) else []
                forms |= {form + (date["gap"] or "") + time: None for time in times for form in filled}
        forms |= dict.fromkeys(_times_like(text))
    return list(forms)


def _times_like(text: str) -> list[str]:
    """Forms of the time of day in a text; none where it holds another thing."""
    time = _TIME.fullmatch(text)
    if time is None or (time["blank"] and not time["half"]):
        return []
    form = ("%-I" if time["half"] else "%-H") + ":%M" + (":%S" if time["second"] else "")
    if time["fraction"]:
        form += ".%3f" if len(time["fraction"]) == 4 else ".%f"
    if time["half"]:
        form += time["blank"] + ("%p" if time["half"].isupper() else "%P")
    zone = time["zone"] or ""
    return [form + ("%z" if zone not in ("", "Z") else zone)]


def _detailed(texts: Any, form: str) -> str:
    """The form with leading zeros, where no text is without them, and with the offset that all have."""
    pc = pyarrow().compute
    for directive in re.findall("%-[A-Za-z]", form):
        padded = form.replace(directive, directive.replace("-", ""))
        both = (pc.sum(pc.match_substring_regex(texts, _pattern(f, True))).as_py() for f in (form, padded))
        form = padded if len(set(both)) == 1 else form
    if form.endswith("%z"):
        offsets = pc.unique(pc.struct_field(pc.extract_regex(texts, "(?P<z>[+-][0-9:]+)$"), "z")).drop_null()
        form = form.removesuffix("%z") + offsets[0].as_py() if len(offsets) == 1 else form
    return form
