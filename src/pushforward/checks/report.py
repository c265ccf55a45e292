"""Report: what a check found, as a page of text, as JSON, and as a page of HTML."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .stats import UNKNOWN, Array
from .thresholds import Answer, Finding, overall

_WIDTH = 118


@dataclass
class Section:
    """One part of a report: the evidence of one sort.

    Attributes:
        name: its key.
        title: for people.
        missing: why nothing could be found; "" where something was.
        findings: in the order in which they were made.
        table: lines of label, figure and remark.
        figures: the figures, JSON-able.
        plot_data: what the pictures of the HTML page are made of.
    """

    name: str
    title: str
    missing: str = ""
    findings: list[Finding] = field(default_factory=list)
    table: list[list[str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    plot_data: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, verdict: str, why: str) -> None:
        """Adds a finding."""
        self.findings.append(Finding(name, verdict, why))

    @property
    def verdict(self) -> str:
        """That of its findings together."""
        return UNKNOWN if self.missing and not self.findings else overall(self.findings)[0]

    @property
    def why(self) -> str:
        """The reason of the finding that decides."""
        decisive = overall(self.findings)[1]
        return self.missing if decisive is None else decisive.why


@dataclass
class Report:
    """What `check` found: answers to questions, and the evidence for them.

    Attributes:
        answers: by question, "ranking", "probabilities" and "samples": verdict and reason.
        sections: the evidence, in order.
        about: facts on the check itself: rows, columns, seed, seconds.
        plot_data: what the pictures of the HTML page are made of.
        log_density: of the held-out rows that are possible (N,), in nats.
        words: of all texts, and what stands in their place; see `Space.words`.

    Example:
        >>> behind = Finding("behind", "bad", "a Gaussian does better")
        >>> section = Section("likelihood", "Held-out likelihood", findings=[behind])
        >>> section.verdict, section.why
        ('bad', 'a Gaussian does better')
    """

    answers: dict[str, Answer]
    sections: list[Section]
    about: dict[str, Any] = field(default_factory=dict)
    plot_data: dict[str, Any] = field(default_factory=dict)
    log_density: Array = field(default_factory=lambda: np.empty(0))
    words: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.answers = {
            name: replace(a, question=self.worded(a.question), why=self.worded(a.why), advice=self.worded(a.advice))
            for name, a in self.answers.items()
        }
        for section in self.sections:
            section.title, section.missing = self.worded(section.title), self.worded(section.missing)
            section.findings = [replace(f, why=self.worded(f.why)) for f in section.findings]
            section.table = [[self.worded(cell) for cell in line] for line in section.table]

    def worded(self, text: str) -> str:
        """A text of a check with the words of its rows."""
        if not self.words:
            return text
        longest_first = sorted(self.words, key=len, reverse=True)
        return re.sub(rf"\b({'|'.join(longest_first)})\b", self._word, text, flags=re.IGNORECASE)

    def _word(self, match: re.Match[str]) -> str:
        word = self.words[match[0].lower()]
        return word.capitalize() if match[0][0].isupper() else word

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
    def verdicts(self) -> dict[str, str]:
        """By question "good", "doubtful", "bad" or "cannot tell"."""
        return {name: answer.verdict for name, answer in self.answers.items()}

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
        return self.worded(", ".join([rows, train, columns, samples]))

    def text(self) -> str:
        """A page of text."""
        lines = []
        for answer in self.answers.values():
            lines += [answer.question, *_wrapped("    ", answer.line)]
            lines += _wrapped("    Next: ", answer.advice) if answer.advice else []
        if self.about:
            lines += ["", *_wrapped("on          ", self.basis)]
        for section in (s for s in self.sections if s.findings):
            lines.append("")
            lines += _wrapped(f"{section.verdict.upper():<12}", f"{section.title}: {section.why}")
            lines += [line for row in section.table for line in _row(row, section.table)]
        silent = [f"{s.title}: {s.missing}" for s in self.sections if not s.findings]
        for i, reason in enumerate(silent):
            lines += [*[""] * (i == 0), *_wrapped(f"{'not made' if i == 0 else '':<12}", reason)]
        return "\n".join(line.rstrip() for line in lines)

    def to_json(self) -> dict[str, Any]:
        """JSON-able: answers, reasons and figures; a figure that is not finite becomes None."""
        return {
            "answers": {
                name: {"question": a.question, "verdict": a.verdict, "why": a.why, "advice": a.advice}
                for name, a in self.answers.items()
            },
            **_plain(self.about),
            "sections": {
                s.name: {
                    "title": s.title, "verdict": s.verdict, "why": s.why,
                    "findings": {f.name: {"verdict": f.verdict, "why": f.why} for f in s.findings},
                    "figures": _plain(s.figures),
                }
                for s in self.sections
            },
        }  # fmt: skip

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
    head = f"{'':12}{label:<{max(widths[0], 20)}}  {figure:<{max(widths[1], 14)}}  "
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
