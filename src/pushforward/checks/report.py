"""Report: what a check found, as a page of text, as JSON, and as a page of HTML."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .stats import BAD, DOUBTFUL, GOOD, UNKNOWN

_CORE = ("likelihood", "calibration", "two_sample")  # a good verdict needs these
_WIDTH = 118


@dataclass
class Section:
    """One part of a report.

    Attributes:
        name: its key.
        title: for people.
        verdict: "good", "doubtful", "bad" or "cannot tell".
        why: the reason, in a sentence.
        table: lines of label, figure and remark.
        figures: the figures, JSON-able.
        plot_data: what the pictures of the HTML page are made of.
    """

    name: str
    title: str
    verdict: str
    why: str
    table: list[list[str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    plot_data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    """What `check` found.

    Attributes:
        sections: in order.
        about: facts on the check itself: rows, columns, seed, seconds.
        plot_data: what the pictures of the HTML page are made of.

    Example:
        >>> report = Report([Section("likelihood", "Held-out likelihood", "bad", "the Gaussian does better")])
        >>> report.verdict
        'bad'
    """

    sections: list[Section]
    about: dict[str, Any] = field(default_factory=dict)
    plot_data: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Section:
        """The section of a name.

        Raises:
            KeyError: there is none.
        """
        for section in self.sections:
            if section.name == name:
                return section
        raise KeyError(f"no section {name!r}; there are {', '.join(s.name for s in self.sections)}")

    def __iter__(self) -> Iterator[Section]:
        return iter(self.sections)

    @property
    def verdict(self) -> str:
        """The verdict of all sections together: no single one is trusted to call a model good."""
        verdicts = {s.name: s.verdict for s in self.sections}
        for word in (BAD, DOUBTFUL):
            if word in verdicts.values():
                return word
        return GOOD if all(verdicts.get(name) == GOOD for name in _CORE) else UNKNOWN

    @property
    def summary(self) -> str:
        """The verdict in a sentence or two."""
        titles = {v: [s.title.lower() for s in self.sections if s.verdict == v] for v in (GOOD, DOUBTFUL, BAD, UNKNOWN)}
        verdict = self.verdict
        if verdict == GOOD:
            text = "a density to rely on: nothing found against it"
        elif verdict == UNKNOWN:
            text = "there is too little to go by for a verdict, though nothing was found against the model"
        else:
            word = "do not rely on this density" if verdict == BAD else "use with care"
            text = f"{word}: " + "; ".join(f"{s.title.lower()}: {s.why}" for s in self.sections if s.verdict == verdict)
        extra = {
            GOOD: [],
            DOUBTFUL: titles[DOUBTFUL] if verdict == BAD else [],
            UNKNOWN: titles[UNKNOWN],
        }
        if extra[DOUBTFUL]:
            text += f". Doubtful: {', '.join(extra[DOUBTFUL])}"
        if extra[UNKNOWN] and len(extra[UNKNOWN]) < len(self.sections):
            text += f". Cannot tell: {', '.join(extra[UNKNOWN])}"
        if verdict in (BAD, DOUBTFUL) and titles[GOOD]:
            text += f". Good: {', '.join(titles[GOOD])}"
        return text + "."

    @property
    def basis(self) -> str:
        """What the check was made on, in a line; "" where that is not known."""
        about = self.about
        if not about:
            return ""
        rows = f"{about['rows']:,} held-out rows" if about["rows"] != 1 else "1 held-out row"
        if about["used"] < about["rows"]:
            rows += f" ({about['used']:,} of them beyond the likelihood and tails)"
        train = f"{about['train_rows']:,} training rows" if about["train_rows"] else "no training rows"
        columns = f"{about['columns']:,} column{'' if about['columns'] == 1 else 's'}"
        samples = f"{about['samples']:,} samples, seed {about['seed']}, {about['seconds']:.1f} s"
        return ", ".join([rows, train, columns, samples])

    def text(self) -> str:
        """A page of text."""
        lines = [*_wrapped("VERDICT     ", f"{self.verdict.upper()}: {self.summary}")]
        if self.about:
            lines += _wrapped("on          ", self.basis)
        for section in self.sections:
            lines.append("")
            lines += _wrapped(f"{section.verdict.upper():<12}", f"{section.title}: {section.why}")
            lines += [line for row in section.table for line in _row(row, section.table)]
        return "\n".join(line.rstrip() for line in lines)

    def to_json(self) -> dict[str, Any]:
        """JSON-able: verdicts, reasons and figures; a figure that is not finite becomes None."""
        return {
            "verdict": self.verdict,
            "summary": self.summary,
            **_plain(self.about),
            "sections": {
                s.name: {"title": s.title, "verdict": s.verdict, "why": s.why, "figures": _plain(s.figures)}
                for s in self.sections
            },
        }

    def to_html(self, path: str | PathLike[str], *, title: str = "Check of a density") -> Path:
        """Writes a page of HTML that needs no other file and no network, whole or not at all.

        Raises:
            OSError: it cannot be written.
            ImportError: it needs jinja2 and matplotlib.
        """
        from .page import write_page

        return write_page(self, path, title)


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(head + text, _WIDTH, subsequent_indent=" " * len(head), break_long_words=False)


def _row(row: list[str], table: list[list[str]]) -> list[str]:
    widths = [max(len(r[i]) for r in table if i < len(r)) for i in range(2)]
    label, figure, remark = (*row, "", "")[:3]
    head = f"{'':12}{label:<{max(widths[0], 24)}}  {figure:<{max(widths[1], 18)}}  "
    return textwrap.wrap(head + remark, max(_WIDTH, len(head) + 30), subsequent_indent=" " * len(head))


def _plain(value: Any) -> Any:
    """Numbers, lists and dictionaries of Python, without NaN and infinity."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
