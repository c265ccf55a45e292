"""What `pf.check` says of models whose worth is known, and of models of real tables, on one page.

1. Six ideal models, which are the truth that the rows come from: two toys, heavy tails, a nearly singular Gaussian, a
   table of categories and counts, a table with missing cells and relations. Each question should be answered "good".
2. Broken models: the same truths, each spoilt in one way. The question that the fault spoils should be answered
   "doubtful" or "bad".
3. Simulated null cases: rows drawn from the model itself, an ideal one or one that was fitted, of 100 to 2,000 rows.
   The nominal rate of false alarms is at most 3 in 100 a question; "cannot tell" is no alarm.
4. Real tables, fitted with no option: what `tables.py` kept of them last.

Each part stays on the page until it is run again: `--null 0`, `--ideal` and `--broken` without a name leave out theirs.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy import special, stats
from torch import Tensor

import pushforward as pf
from common import commit, load, write
from pushforward.baselines import fit_gaussian, fit_gaussian_mixture
from pushforward.density import Vectors
from pushforward.io.frames import read
from pushforward.tables.space import Columns
from pushforward.toys import TOYS
from tables import QUESTIONS, SETS

NOMINAL = 0.03


class Truth(pf.Density):
    """A known density: of rows of numbers, or of the rows of a table.

    Args:
        log_prob: of rows (N, D) as an array, or of a frame.
        draw: of a number of rows and a random generator, an array (n, D) or a dictionary of columns.
    """

    def __init__(self, log_prob: Callable[[Any], Any], draw: Callable[[int, np.random.Generator], Any]) -> None:
        super().__init__()
        self.log_density, self.draw = log_prob, draw
        some = draw(20_000, np.random.default_rng(0))
        self.is_table = isinstance(some, dict)
        self.space = Columns(pf.infer_schema(some), (), pf.TableDensity) if self.is_table else Vectors(some.shape[1])

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """Log-density of each row (N,), in nats."""
        return torch.as_tensor(np.asarray(self.log_density(read(x) if self.is_table else np.asarray(x, float))))

    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Any:
        """n rows."""
        seed = generator if isinstance(generator, int) else 0
        rows = self.draw(n, np.random.default_rng(seed))
        return pa.table(rows) if self.is_table else torch.as_tensor(rows)


def toy(name: str) -> Truth:
    known = TOYS[name]()

    def draw(n: int, rng: np.random.Generator) -> Any:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return known.sample(n, generator=generator, dtype=torch.float64).numpy()

    return Truth(lambda x: known.log_prob(torch.as_tensor(x)), draw)


def heavy() -> Truth:
    law = stats.t(1.5)
    return Truth(lambda x: law.logpdf(x).sum(1), lambda n, rng: law.rvs((n, 2), random_state=rng))


def singular() -> Truth:
    rotation = stats.ortho_group(8, seed=0).rvs()
    scales = np.geomspace(1, 1e-4, 8)  # a condition number of 1e8
    return Truth(
        lambda x: stats.norm.logpdf(x @ rotation / scales).sum(1) - np.log(scales).sum(),
        lambda n, rng: (rng.normal(size=(n, 8)) * scales) @ rotation.T,
    )


def shop() -> Truth:
    """Articles by Zipf's law, a colour and a count that depend on them, a price that is log-normal given the colour."""
    share = 1 / np.arange(1, 41)
    share /= share.sum()
    colours, middle = np.array(["red", "green", "blue"]), np.array([0.0, 1.0, 2.0])
    given = np.array([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]])

    def draw(n: int, rng: np.random.Generator) -> Any:
        article = rng.choice(40, n, p=share)
        colour = (rng.random(n)[:, None] > given[article % 3].cumsum(1)[:, :2]).sum(1)
        return {
            "article": [f"a{i}" for i in article], "colour": colours[colour], "count": rng.poisson(2 + article % 3),
            "price": np.exp(middle[colour] + 0.5 * rng.normal(size=n)),
        }  # fmt: skip

    def log_prob(frame: Any) -> Any:
        article = np.array([int(text[1:]) for text in frame.column("article").texts])
        colour = np.array([list(colours).index(text) for text in frame.column("colour").texts])
        count, price = (frame.column(name).require_numbers() for name in ("count", "price"))
        of_price = stats.norm.logpdf(np.log(price), middle[colour], 0.5) - np.log(price)
        of_count = stats.poisson.logpmf(count, 2 + article % 3)
        return np.log(share[article]) + np.log(given[article % 3, colour]) + of_count + of_price

    return Truth(log_prob, draw)


def clinic() -> Truth:
    """A group, a pressure that depends on it, one below that in all rows, and a dose that is missing in a tenth."""

    def draw(n: int, rng: np.random.Generator) -> Any:
        group = rng.random(n) < 0.3
        upper = rng.normal(120 + 20 * group, 10)
        dose = np.where(rng.random(n) < 0.1, np.nan, 5 * group + rng.normal(size=n))
        lower = upper - 1 - np.exp(rng.normal(3, 0.5, n))
        cells = {"group": np.where(group, "ill", "well"), "upper": upper, "lower": lower}
        return cells | {"dose": pa.array(dose, from_pandas=True)}

    def log_prob(frame: Any) -> Any:
        group = np.array([text == "ill" for text in frame.column("group").texts])
        upper, lower, dose = (frame.column(name).numbers for name in ("upper", "lower", "dose"))
        gap = np.maximum(upper - lower - 1, 1e-300)
        of_gap = stats.norm.logpdf(np.log(gap), 3, 0.5) - np.log(gap)
        missing = frame.column("dose").is_missing
        of_dose = np.where(missing, math.log(0.1), math.log(0.9) + stats.norm.logpdf(np.nan_to_num(dose), 5 * group))
        return np.log(np.where(group, 0.3, 0.7)) + stats.norm.logpdf(upper, 120 + 20 * group, 10) + of_gap + of_dose

    return Truth(log_prob, draw)


IDEAL: dict[str, Callable[[], Truth]] = {
    "moons": lambda: toy("moons"),
    "rings": lambda: toy("rings"),
    "Student-t 1.5": heavy,
    "Gaussian, condition 1e8": singular,
    "shop (table)": shop,
    "clinic (table)": clinic,
}


def by_heart(train: Any, width: float = 0.01) -> Truth:
    """A density that knows its training rows (N, 2) by heart: a narrow hill on each of them."""
    train = np.asarray(train, float)
    log_mass = math.log(len(train) * 2 * math.pi * width**2)
    return Truth(
        lambda x: special.logsumexp(-((x[:, None] - train) ** 2).sum(2) / (2 * width**2), axis=1) - log_mass,
        lambda n, rng: train[rng.integers(len(train), size=n)] + width * rng.normal(size=(n, 2)),
    )


def independent(rows: dict[str, Any]) -> dict[str, Any]:
    """Columns that have lost what they say of each other."""
    return {name: np.random.default_rng(k).permutation(cells) for k, (name, cells) in enumerate(rows.items())}


def swapped(rows: dict[str, Any]) -> dict[str, Any]:
    """Pressures of which the lower one is the upper one in each tenth row."""
    is_swapped = np.arange(len(rows["upper"])) % 10 == 0
    upper, lower = rows["upper"], rows["lower"]
    return rows | {"upper": np.where(is_swapped, lower, upper), "lower": np.where(is_swapped, upper, lower)}


def wide(t: Truth, scale: float = 1.3) -> Truth:
    return Truth(
        lambda x: t.log_density(x / scale) - x.shape[1] * math.log(scale), lambda n, rng: scale * t.draw(n, rng)
    )


# By name the truth, what is made of it and of training rows, and the questions that the fault spoils.
BROKEN: dict[str, tuple[str, Callable[[Truth, Any], pf.Density], tuple[str, ...]]] = {
    "moons, 1.3 times too wide": ("moons", lambda t, train: wide(t), ("ranking", "probabilities", "samples")),
    "moons, a wrong log-determinant": (
        "moons", lambda t, train: Truth(lambda x: np.asarray(t.log_density(x)) + x[:, 0], t.draw), ("probabilities",)),
    "moons, known by heart": ("moons", lambda t, train: by_heart(train), ("ranking", "probabilities", "samples")),
    "Student-t 1.5, as a Gaussian": (
        "Student-t 1.5", lambda t, train: fit_gaussian(train), ("ranking", "probabilities", "samples")),
    "shop, samples with independent columns": (
        "shop (table)", lambda t, train: Truth(t.log_density, lambda n, rng: independent(t.draw(n, rng))),
        ("samples",)),
    "clinic, samples with swapped pressures": (
        "clinic (table)", lambda t, train: Truth(t.log_density, lambda n, rng: swapped(t.draw(n, rng))),
        ("samples",)),
}  # fmt: skip


def fitted() -> dict[str, pf.Density]:
    """Models that are no truth of anything, from which null cases are drawn."""
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(-2, 1, (1000, 4)), rng.exponential(1, (1000, 4))])
    table = pf.fit_table(read(shop().sample(2000, generator=1)), steps=200, depth=2, width=16, progress="none")
    return {"Gaussian mixture": fit_gaussian_mixture(numbers, 0), "fitted table": table}


def checked(
    truth: pf.Density, rows: int, seed: int, draws: int, make: Callable[[Any, Any], pf.Density] | None = None
) -> pf.Report:
    """The check of a density, or of what is made of it, by rows of its own: twice as many to train as to test."""
    space = truth.space
    train, test = (
        space.flatten_samples(truth.sample(n, generator=2 * draws + k)) for k, n in ((0, 2 * rows), (1, rows))
    )
    return pf.check(truth if make is None else make(truth, train), test, train, seed=seed)


def facts(report: pf.Report) -> dict[str, Any]:
    """What the page keeps of the report on a case."""
    return {"commit": commit(), "basis": report.basis, "answers": report.to_json()["answers"]}


def lines_of(name: str, case: dict[str, Any]) -> list[str]:
    """Of a page: the verdicts of a case and why."""
    fit = f", fitted in {case['seconds']:.0f} s" if "seconds" in case else ""
    text = [f"**{name}**: {case['basis']}{fit}, commit {case['commit']}", ""]
    answers = case["answers"].values()
    for each in answers:
        advice = f" Next: {each['advice']}." if each.get("advice") else ""
        text.append(f"- {each['question']} **{each['verdict']}**: {each['why']}.{advice}")
    return [*text, ""]


def ideal(name: str, number: int, rows: int) -> dict[str, Any]:
    """The verdicts of an ideal model."""
    case = facts(checked(IDEAL[name](), rows, 0, 10_000 + number))
    print("\n".join(lines_of(name, case)), flush=True)
    return case


def broken(name: str, number: int, rows: int) -> dict[str, Any]:
    """The verdicts of a broken model."""
    truth, make, spoilt = BROKEN[name]
    case = facts(checked(IDEAL[truth](), rows, 0, 20_000 + number, make)) | {"spoilt": spoilt}
    print("\n".join(lines_of(name, case)), flush=True)
    return case


def null(cases: int) -> dict[str, Any]:
    """The verdicts of so many null cases, of each model in turn, and the findings behind alarms."""
    densities = {name: make() for name, make in IDEAL.items()} | fitted()
    counts: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    start = time.perf_counter()
    for case in range(cases):
        name = list(densities)[case % len(densities)]
        rows = int(np.random.default_rng(case).choice([100, 250, 500, 1000, 2000]))
        report = checked(densities[name], rows, case, 1000 + case)  # a stream of its own for the rows
        counts.update(f"{question} {verdict}" for question, verdict in report.verdicts.items())
        print(f"null case {case} ({name}, {rows} rows): {', '.join(report.verdicts.values())}", flush=True)
        alarms = [f for section in report for f in section.findings if f.verdict in ("doubtful", "bad")]
        findings.update(f"{f.name} {f.verdict}" for f in alarms)
        for f in alarms:
            print(f"  {f.name} {f.verdict}: {f.why}", flush=True)
    seconds = time.perf_counter() - start
    return {"commit": commit(), "cases": cases, "seconds": seconds, "answers": counts, "alarms": findings}


def null_lines(result: dict[str, Any]) -> list[str]:
    cases, words = result["cases"], ("good", "cannot tell", "doubtful", "bad")
    lines = [f"## {cases} null cases", "", f"| question | {' | '.join(words)} | false alarms | nominal, at most |"]
    lines.append("|---" * 7 + "|")
    for question in QUESTIONS:
        each = [result["answers"].get(f"{question} {word}", 0) for word in words]
        rate = sum(each[2:]) / cases
        lines.append(f"| {question} | {' | '.join(map(str, each))} | {100 * rate:.1f} % | {100 * NOMINAL:g} % |")
    alarms = ", ".join(f"{name} {n} times" for name, n in result["alarms"].items()) or "none"
    lines += ["", f"Findings that were alarms: {alarms}. {result['seconds']:.0f} s, commit {result['commit']}.", ""]
    return lines


def page(results: dict[str, Any], tables: list[dict[str, Any]]) -> list[str]:
    lines = ["## Ideal models", ""]
    for name in IDEAL:
        if name in results["ideal"]:
            lines += lines_of(name, results["ideal"][name])
    lines += ["## Broken models", ""]
    for name in BROKEN:
        if name in results["broken"]:
            case = results["broken"][name]
            lines += lines_of(f"{name} (spoils {', '.join(case['spoilt'])})", case)
    if results["null"]:
        lines += null_lines(results["null"])
    lines += ["## Real tables", ""]
    for case in tables:
        lines += lines_of(case["set"], case)
    absent = [name for name in SETS if name not in {case["set"] for case in tables}]
    return [*lines, f"Not run: {', '.join(absent)}."] if absent else lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="held-out rows of an ideal model")
    parser.add_argument("--null", type=int, default=200, help="null cases")
    parser.add_argument("--ideal", nargs="*", default=list(IDEAL), choices=IDEAL)
    parser.add_argument("--broken", nargs="*", default=list(BROKEN), choices=BROKEN)
    parser.add_argument("--keep", action=argparse.BooleanOptionalAction, default=True, help="write results/verdicts.*")
    args = parser.parse_args()
    results = load("verdicts") if args.keep else {}
    results = {"protocol": __doc__} | {part: results.get(part, {}) for part in ("ideal", "broken", "null")}
    for number, name in enumerate(args.ideal):
        results["ideal"][name] = ideal(name, number, args.rows)
    for number, name in enumerate(args.broken):
        results["broken"][name] = broken(name, number, args.rows)
    if args.null:
        results["null"] = null(args.null)
    lines = page(results, [case for case in load("tables").get("results", []) if "basis" in case])
    if args.keep:
        write("verdicts", results, lines)
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
