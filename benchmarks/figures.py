"""The figures of the README: what each says, its value, the command that gave it and the commit.

    python benchmarks/figures.py            # writes results/figures.md and the README's blocks, from results/*.json
    python benchmarks/figures.py --check    # says what does not agree, writes nothing

All figures are of one commit: results of another count as absent, and what rests on them leaves the README. The README
holds its figures between marks, <!-- figures: NAME --> and <!-- end -->; what stands between them is written here.
Elsewhere it has no numbers but those of `STATED`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import RESULTS, commit, load, median

ROOT = Path(__file__).resolve().parents[1]
TABLE = RESULTS / "figures.md"
STATED = ("Dinh et al. 2016", "for 30 seconds", "Python 3.11", "PyTorch 2.6")  # numbers that nobody measures
NUMBER = re.compile(r"(?<![\w.])(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:e-?\d+)?")
MARKS = re.compile(r"(<!-- figures: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
FITS = {
    "pushforward auto": '`fit("auto", x, seconds=...)`',
    "pushforward real_nvp": '`fit("real_nvp", x, seconds=...)`',
}

Result = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure of the README in words, as the README gives it, and where it comes from."""

    what: str
    value: str
    command: str
    commit: str


Rendered = tuple[list[str], list[tuple[str, str]]]  # Markdown lines; what each figure is, and its value


def short(value: float, digits: int) -> str:
    """Without the zero before the point: .0033."""
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("0.") else text


def moons(result: Result) -> Rendered:
    """Gaps to the truth after so many seconds."""
    of = [r for r in result["runs"] if r["set"] == "moons" and "error" not in r]
    lengths, models = sorted({r["length"] for r in of}), list(dict.fromkeys(r["model"] for r in of))
    seeds = len({r["seed"] for r in of})
    tuned = "; the rates of zuko are chosen on validation points" if any("zuko" in m for m in models) else ""
    lines = [
        "What a given time buys, on one CPU thread, importing included, nothing set by hand",
        "([benchmarks/anytime.py](benchmarks/anytime.py)). Two moons: how far the model is from the true density,",
        f"in nats (0 is perfect), medians of {seeds} seeds{tuned}.",
        "",
        f"| | {' | '.join(f'after {s:g} s' for s in lengths)} |",
        "|---" * (1 + len(lengths)) + "|",
    ]
    figures = []
    for model in models:
        cells = []
        for length in lengths:
            gaps = [r["value"] for r in of if (r["model"], r["length"]) == (model, length)]
            cells.append(short(median(gaps), 4) if gaps else "-")
            what = f"two moons, gap to the truth (0 is perfect), median of {seeds} seeds, {model}, after {length:g} s"
            figures.append((what, f"{cells[-1]} nats"))
        lines.append(f"| {FITS.get(model, model)} | {' | '.join(cells)} |")
    return lines, figures


def notebook_gap(result: Result) -> Rendered:
    """The gap that the course notebook's settings come to."""
    runs = next((rs for name, rs in result["runs"].items() if "plain" in name), [])
    if not runs:
        return [], []
    gap, seconds = short(median([r["gap"] for r in runs]), 3), f"{median([r['seconds'] for r in runs]):.0f}"
    settings = "batch 100, Adam at 1e-4, 5,001 steps"
    line = f"The course notebook's own settings ({settings}) come to {gap} nats after {seconds} s in their plain form."
    return [line], [
        (f"two moons, the notebook's settings ({settings}), plain: gap, seconds", f"{gap} nats, {seconds} s")
    ]


def notebook(result: Result) -> Rendered:
    """Speed beside the notebook's plain implementation."""
    size = "6 couplings, 256-256 networks"
    lines = [
        f"Against the notebook's implementation ({size}, [benchmarks/throughput.py](benchmarks/throughput.py)):",
        "",
        "| | notebook | pushforward | |",
        "|---|---|---|---|",
    ]
    figures = []
    for task, times in result.items():
        if not isinstance(times, dict) or "notebook" not in times:
            continue
        plain, ours = median(times["notebook"]), median(times["pushforward"])
        scale, unit = (1e3, "ms") if "step" in task else (1, "s")
        cells = [f"{plain * scale:.3g} {unit}", f"{ours * scale:.3g} {unit}", f"{plain / ours:.1f}x"]
        lines.append(f"| {task} | {' | '.join(cells)} |")
        figures.append((f"{task}, {size}: notebook, pushforward, ratio", ", ".join(cells)))
    return lines, figures


def peers(result: Result) -> Rendered:
    """Speed beside other libraries."""
    tasks = {task: times for task, times in result.items() if isinstance(times, dict) and "times" in times}
    libraries = list(dict.fromkeys(library for times in tasks.values() for library in times["times"]))
    lines = [
        "Beside the other libraries, the same function in each, all in turns",
        "([benchmarks/peers.py](benchmarks/peers.py)):",
        "",
        f"| | {' | '.join(libraries)} |",
        "|---" * (1 + len(libraries)) + "|",
    ]
    figures = []
    for task, times in tasks.items():
        scale, unit = (1e3, "ms") if "step" in task else (1, "s")
        of = {lib: f"{median(t) * scale:.3g} {unit}" for lib, t in times["times"].items()}
        lines.append(f"| {task} | {' | '.join(of.get(lib, '-') for lib in libraries)} |")
        figures += [(f"{task}: {lib}", value) for lib, value in of.items()]
    return lines, figures


def scoring(result: Result) -> Rendered:
    """The largest table that was scored, and its memory."""
    of = [r for name, r in result.items() if name.startswith("score ")]
    largest = max(of, key=lambda r: r["rows"])
    rows, seconds = f"{largest['rows']:,}", f"{largest['seconds']:.0f}"
    gib = short(largest["peak_gib"], 1)
    line = f"{rows} rows of a Parquet folder are scored in {seconds} s within {gib} GiB"
    figure = (f"scoring {rows} rows of a Parquet folder: seconds, peak memory", f"{seconds} s, {gib} GiB")
    return [f"{line} ([benchmarks/scoring.py](benchmarks/scoring.py))."], [figure]


BLOCKS: dict[str, tuple[str, Callable[[Result], Rendered]]] = {  # name of the block: result, what renders it
    "moons": ("anytime_moons", moons),
    "notebook_gap": ("moons_gap", notebook_gap),
    "notebook": ("throughput", notebook),
    "peers": ("peers", peers),
    "scoring": ("scoring", scoring),
}


PICTURES = {"docs/warped_grid.png": "picture"}  # picture: result


def rendered(results: dict[str, Result], at: str) -> tuple[dict[str, list[str]], list[Figure], list[str]]:
    """-> lines of each block, figures, and what is absent; only results of commit `at` count."""
    blocks, figures, absent = {}, [], []
    for name, (source, render) in BLOCKS.items():
        result = results.get(source) or {}
        made = result.get("machine", {})
        blocks[name] = []
        if not result:
            absent.append(f"{name}: there is no {source}.json")
        elif not at or made.get("commit") != at:
            absent.append(f"{name}: {source}.json is of another commit")
        else:
            lines, found = render({k: v for k, v in result.items() if k != "machine"})
            blocks[name] = lines
            figures += [Figure(what, value, made["command"], at) for what, value in found]
            absent += [] if found else [f"{name}: {source}.json has no such runs"]
    for picture, source in PICTURES.items():
        made = (results.get(source) or {}).get("machine", {})
        if at and made.get("commit") == at:
            figures.append(Figure(picture, "a picture", made["command"], at))
        else:
            absent.append(f"{picture}: drawn at another commit")
    return blocks, figures, absent


def table(figures: list[Figure], absent: list[str]) -> str:
    """The page results/figures.md."""
    lines = ["# figures", "", "Every figure of the README; `make bench` makes them all and this page.", ""]
    lines += ["| figure | value | command | commit |", "|---|---|---|---|"]
    lines += [f"| {f.what} | {f.value} | `{f.command}` | {f.commit} |" for f in figures]
    if absent:
        lines += [
            "",
            "Not of this commit, and therefore no figure of the README:",
            "",
            *(f"- {line}" for line in absent),
        ]
    return "\n".join(lines) + "\n"


def parsed(page: str) -> list[Figure]:
    """The figures of results/figures.md."""
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    return [Figure(*(cell.strip().strip("`") for cell in row)) for row in rows]


def filled(readme: str, blocks: dict[str, list[str]]) -> str:
    """The README with its blocks written anew.

    Raises:
        ValueError: it has a mark of a block that nobody renders, or lacks one.
    """
    names = [match[1] for match in MARKS.findall(readme)]
    if sorted(names) != sorted(blocks):
        raise ValueError(f"expected a mark for each of {', '.join(blocks)}, got {', '.join(names)}")
    return MARKS.sub(lambda m: m[1] + "".join(f"{line}\n" for line in blocks[m[2]]) + m[4], readme)


def numbers(text: str) -> list[str]:
    """Numbers of prose and tables, without code, addresses and what is `STATED`."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", "", text)
    for phrase in STATED:
        text = text.replace(phrase, "")
    return NUMBER.findall(text)


def strangers(text: str, figures: list[Figure]) -> list[str]:
    """Numbers of a text that no figure of the table has."""
    known = {n for f in figures for n in numbers(f"{f.what} {f.value}")}
    return [n for n in numbers(text) if n not in known]


def problems(texts: dict[str, str], page: str, results: dict[str, Result]) -> list[str]:
    """What does not agree: texts ("README.md" has the blocks), the table, the results it was made from."""
    figures = parsed(page)
    commits = sorted({f.commit for f in figures})
    told = [f"the table has figures of {len(commits)} commits: {', '.join(commits)}"] if len(commits) > 1 else []
    told += [f"the figures of {c[:-1]} were made with changes that are not committed" for c in commits if c[-1:] == "+"]
    blocks, fresh, _ = rendered(results, commits[0] if commits else "")
    told += [f"the table says {f}, its result does not" for f in figures if f not in fresh]
    told += [f"the table lacks {f}" for f in fresh if f not in figures]
    if filled(texts["README.md"], blocks) != texts["README.md"]:
        told.append("README.md: its blocks are not what the results give")
    for name, text in texts.items():
        told += [f"{name}: {number} is in no figure of the table" for number in strangers(text, figures)]
    return told


def loaded() -> dict[str, Result]:
    """The results that figures and pictures come from."""
    return {source: load(source) for source in [*(source for source, _ in BLOCKS.values()), *PICTURES.values()]}


def texts() -> dict[str, str]:
    """The README and the pages of docs/ that quote measurements: the limits of verdicts.md are set, not measured."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    paths = [path for path in paths if path.name != "verdicts.md"]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    results = loaded()
    if not args.check:
        blocks, figures, absent = rendered(results, commit())
        TABLE.write_text(table(figures, absent))
        (ROOT / "README.md").write_text(filled(texts()["README.md"], blocks))
        print(TABLE.read_text())
    if told := problems(texts(), TABLE.read_text(), results):
        raise SystemExit("\n".join(told))


if __name__ == "__main__":
    main()
