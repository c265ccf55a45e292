"""The limits of every finding of a check, in one table, and the rule that makes answers of findings.

A finding measures a discrepancy, which is 0 for a perfect model, beside what chance may give with so few rows. It is
good up to the first limit, however many rows prove a difference, or where chance alone may give it; doubtful above
both; bad above the second limit; "cannot tell" where chance could hide a bad one, alone or on top of what was found.

Chance is taken at `ALPHA` = .002 a finding, whatever the number of columns, levels or categories in it (Bonferroni).
A question has at most 15 findings that chance decides, so that for a model that is the truth an answer is doubtful
or bad in at most 3 of 100 cases. `benchmarks/verdicts.py` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .stats import BAD, DOUBTFUL, GOOD, UNKNOWN, judge

QUESTIONS = {
    "ranking": "May I rank rows by how likely they are?",
    "probabilities": "May I use its probabilities?",
    "samples": "May I use its samples in place of the data?",
}
_ALL, _DENSITY, _PROBABILITIES = tuple(QUESTIONS), ("ranking", "probabilities"), ("probabilities",)
_SAMPLES = ("samples",)
_TRAIN = "fit for longer (seconds=) or on more rows"
_LESS = "fit with fewer steps, or on more rows"


class Threshold(NamedTuple):
    """The limits of one finding.

    Attributes:
        name: of the finding.
        section: of the report that makes it.
        questions: that it decides.
        good, bad: limits of the discrepancy.
        means: what the discrepancy is, and its unit.
        advice: what to do where it is not good.
        unit: in which a sentence gives the limits; points are hundredths.
        needed: whether a good answer needs it; others are left out where rows are too few for them.
    """

    name: str
    section: str
    questions: tuple[str, ...]
    good: float
    bad: float
    means: str
    advice: str
    unit: str = "points"
    needed: bool = False

    @property
    def limits(self) -> str:
        """Both limits in words.

        Example:
            >>> _BY_NAME["coverage"].limits
            'good up to 3 points off, bad beyond 15'
        """
        scale = 100 if self.unit.startswith("points") else 1
        good = f"good up to {scale * self.good:g} {self.unit}"
        return good if math.isinf(self.bad) else f"{good}, bad beyond {scale * self.bad:g}"


# In the order of importance: the first of the worst findings is the reason that an answer gives.
THRESHOLDS: tuple[Threshold, ...] = (
    Threshold("leaked", "leak", _ALL, 0.05, 0.5,
              "share of held-out rows that are training rows, beyond the share of training rows that come twice",
              "hold out rows that the training never sees"),
    Threshold("no_density", "likelihood", _DENSITY, 0.0, 0.01,
              "share of held-out rows without a finite log-density, though their cells are possible",
              "look at these rows"),
    Threshold("map", "exactness", _DENSITY, 1e-4, 1e-2,
              "round trip in spreads and log-determinant in nats, in float64, where only mistakes show",
              "test the layers one at a time with check_bijection", "in spreads or nats"),
    Threshold("integral", "exactness", _DENSITY, 0.02, 0.1, "distance of the integral of the density from 1",
              "test the layers one at a time with check_bijection"),
    Threshold("coverage", "calibration", _PROBABILITIES, 0.03, 0.15,
              "share of held-out rows in the densest regions of mass 50, 80, 90, 95, 99 %, against that mass",
              _TRAIN, "points off", needed=True),
    Threshold("behind", "likelihood", _DENSITY, 0.05, 0.5,
              "nats a row by which the best simple density is ahead, the most extreme .2 % of rows left out",
              "use that density (pushforward.baselines), or fit for longer (seconds=)", "nats a row behind",
              needed=True),
    Threshold("few_rows", "likelihood", _PROBABILITIES, 0.1, math.inf,
              "nats a row by which .2 % of the rows alone put it behind the best simple density",
              "look at the least likely rows: they may be mistakes", "nats a row"),
    Threshold("unseen", "likelihood", _DENSITY, 0.05, 0.5,
              "share of held-out rows with a value that it never saw in training, or that are impossible to it",
              "fit again with rows that hold these values"),
    Threshold("tails", "tails", _PROBABILITIES, 0.3, 1.5,
              "held-out rows in the outermost 5, 1 and .1 % of the mass: their share against it, over that mass and "
              "half a percent",
              "rely on the order of far rows rather than on their probabilities, or fit on more rows",
              "times that mass and half a percent"),
    Threshold("latents", "calibration", _PROBABILITIES, 0.05, 0.15,
              "Kolmogorov-Smirnov distance of the latents, one at a time and their radius, from the base", _TRAIN),
    Threshold("latent_correlation", "calibration", _PROBABILITIES, 0.1, 0.3,
              "rank correlation left between two latents", _TRAIN, "of rank correlation"),
    Threshold("rounding", "exactness", _PROBABILITIES, 1e-2, 0.5,
              "as `map`, in the model's own precision, of all but 1 % of the rows",
              "score in float64: density.double()", "in spreads or nats"),
    Threshold("lost", "two_sample", _SAMPLES, 0.0, 0.001, "share of samples that are no finite numbers", _TRAIN),
    Threshold("copies", "privacy", _SAMPLES, 0.01, 0.05,
              "share of samples that are exact copies of training rows, beyond what is chance",
              _LESS, "points above chance"),
    Threshold("near_copies", "privacy", _SAMPLES, 0.02, 0.1,
              "share of samples nearer to a training row than nearly all held-out rows are, beyond what is chance",
              _LESS, "points above chance"),
    Threshold("texts", "privacy", _SAMPLES, 0.1, 0.5,
              "share of samples with a text that stands in one training row alone, beyond that of held-out rows",
              "leave such columns out: names and notes identify people", "points above held-out rows"),
    Threshold("singled_out", "privacy", _SAMPLES, 0.05, 0.25,
              "share of rare training rows with a sample nearer than half of their distance to other rows, beyond that "
              "of rare held-out rows",
              _LESS, "points above held-out rows"),
    Threshold("closer", "privacy", _SAMPLES, 0.1, 0.25,
              "chance that a sample is nearer to its nearest training row than a held-out row is, less one half",
              _LESS, "points above chance"),
    Threshold("classifier", "two_sample", _SAMPLES, 0.07, 0.2,
              "ROC AUC of boosted trees that tell samples from held-out rows, above that of real rows",
              _TRAIN, "above real rows", needed=True),
    Threshold("relation", "relations", _SAMPLES, 0.02, 0.1,
              "share of samples that break an order or a linear relation of numbers, beyond that of held-out rows",
              "drop samples that break it, or leave out the column that others determine",
              "points above held-out rows"),
    Threshold("combination", "relations", _SAMPLES, 0.03, 0.15,
              "share of samples with a pair of texts that no training row has, beyond that of held-out rows",
              "drop samples with such pairs, or join both columns to one", "points above held-out rows"),
    Threshold("rare", "relations", _SAMPLES, 0.5, 0.9,
              "error of the share of a category that fewer than 5 % of the real rows have, over the larger share",
              "draw more samples and choose from them by the real shares", "points of the larger share"),
    Threshold("column", "columns", _SAMPLES, 0.05, 0.2,
              "Kolmogorov-Smirnov distance of a column of samples from held-out rows", _TRAIN, needed=True),
    Threshold("correlation", "columns", _SAMPLES, 0.1, 0.25,
              "difference of a rank correlation of two columns from held-out rows",
              _TRAIN, "of rank correlation"),
    Threshold("range", "columns", _SAMPLES, 0.03, 0.15,
              "share of samples with a number outside the range of the training rows, beyond that of held-out rows",
              "drop samples outside the range where it is a limit", "points above held-out rows"),
    Threshold("far", "columns", _SAMPLES, 0.002, 0.02,
              "the same with a number beyond that range by more than a quarter of it",
              "drop samples outside the range where it is a limit", "points above held-out rows"),
    Threshold("utility", "utility", _SAMPLES, 0.05, 0.2,
              "explained share of a column's variance that is lost when a model of it learns from samples",
              _TRAIN, "points of explained variance"),
)  # fmt: skip
_BY_NAME = {threshold.name: threshold for threshold in THRESHOLDS}
_ORDER = {threshold.name: i for i, threshold in enumerate(THRESHOLDS)}


@dataclass(frozen=True)
class Finding:
    """One discrepancy, judged.

    Attributes:
        name: of its threshold.
        verdict: "good", "doubtful", "bad" or "cannot tell".
        why: a clause.
    """

    name: str
    verdict: str
    why: str


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        name: of the question.
        question: itself.
        verdict: "good", "doubtful", "bad" or "cannot tell".
        why: a plain sentence, without its full stop.
        advice: what to do where it is doubtful or bad, without its full stop; else "".
    """

    name: str
    question: str
    verdict: str
    why: str
    advice: str = ""

    @property
    def line(self) -> str:
        """Verdict and reason, as `fit` and `check` print them."""
        return f"{self.verdict.upper()}: {self.why}"


def rate(name: str, value: float, noise: float) -> str:
    """The verdict on a discrepancy, by the limits of its name.

    Args:
        name: of the threshold.
        value: the discrepancy; 0 is perfect.
        noise: what chance gives at the level ALPHA.

    Example:
        >>> rate("classifier", 0.03, 0.02), rate("classifier", 0.12, 0.02), rate("classifier", 0.1, 0.3)
        ('good', 'doubtful', 'cannot tell')
    """
    return judge(value, noise, _BY_NAME[name].good, _BY_NAME[name].bad)


def enough(name: str, noise: float, rows: int, total: int) -> str:
    """How many held-out rows would tell, as the end of a sentence: chance falls as 1 / sqrt(rows).

    Args:
        name: of the threshold.
        noise: what chance gives with the rows there are.
        rows: their number.
        total: the number of all rows, held out or not.

    Example:
        >>> enough("classifier", 0.4, 100, 400)
        ': about 1,100 held-out rows would tell, more than all rows here'
    """
    if not math.isfinite(noise):
        return ""
    needed = rows * (1.6 * noise / _BY_NAME[name].bad) ** 2
    step = 10 ** max(math.floor(math.log10(needed)) - 1, 0)
    more = ", more than all rows here" if needed > total else ""
    return f": about {math.ceil(needed / step) * step:,} held-out rows would tell{more}"


def overall(findings: Iterable[Finding]) -> tuple[str, Finding | None]:
    """Findings -> their verdict together, and the one that decides it; "cannot tell" and None for no findings."""
    ordered = sorted(findings, key=lambda f: _ORDER[f.name])
    for verdict in (BAD, DOUBTFUL):
        if decisive := next((f for f in ordered if f.verdict == verdict), None):
            return verdict, decisive
    needed = [f for f in ordered if _BY_NAME[f.name].needed]
    known = [f for f in ordered if f.verdict == GOOD]
    unknown = [f for f in needed if f.verdict == UNKNOWN] or ([] if known else ordered)
    if unknown:
        return UNKNOWN, unknown[0]
    return (GOOD, (needed or known)[0]) if known else (UNKNOWN, None)


def answer(name: str, findings: Sequence[Finding], missing: dict[str, str]) -> Answer:
    """The answer to a question.

    Args:
        name: of the question.
        findings: all that were made.
        missing: by section, why it made none.
    """
    own = [f for f in findings if name in _BY_NAME[f.name].questions]
    verdict, decisive = overall(own)
    made = {f.name for f in own}
    absent = [t for t in THRESHOLDS if t.needed and name in t.questions and t.name not in made]
    why = decisive.why if decisive else ""
    if verdict in (GOOD, UNKNOWN) and absent:
        reasons = [missing[t.section] for t in absent if missing.get(t.section)]
        return Answer(name, QUESTIONS[name], UNKNOWN, reasons[0] if reasons else why or "it was not asked")
    advice = ""
    if decisive and verdict in (BAD, DOUBTFUL):
        why += f"; {_BY_NAME[decisive.name].limits}"
        advice = _BY_NAME[decisive.name].advice
    others = [f for f in own if f.verdict in (BAD, DOUBTFUL) and f is not decisive]
    if others:
        worst_last = sorted(others, key=lambda f: f.verdict == BAD)
        judged = {_BY_NAME[f.name].section.replace("_", " "): f.verdict for f in worst_last}
        why += f" (see also {', '.join(f'{section}: {of}' for section, of in judged.items())})"
    return Answer(name, QUESTIONS[name], verdict, why, advice)


def markdown() -> str:
    """The table of thresholds, as docs/verdicts.md shows it."""
    lines = ["| finding | decides | good up to | bad beyond | what it is | what to do |", "|---|---|---|---|---|---|"]
    for t in THRESHOLDS:
        questions = "all" if t.questions == _ALL else ", ".join(t.questions)
        bad = "never" if math.isinf(t.bad) else f"{t.bad:g}"
        needed = "; a good answer needs it" if t.needed else ""
        name, means = t.name.replace("_", " "), f"{t.means}{needed}"
        lines.append(f"| {name} | {questions} | {t.good:g} | {bad} | {means} | {t.advice} |")
    return "\n".join(lines)
