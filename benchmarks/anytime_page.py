"""The page and the pictures of `anytime.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from anytime_sets import TABLES, TUNED_ON
from common import RESULTS, median

Run = dict[str, Any]
OURS = "pushforward auto"
COLORS = {
    OURS: "#0072B2", "pushforward real_nvp": "#56B4E9", "zuko RealNVP": "#D55E00", "zuko NSF coupling": "#E69F00",
    "zuko NSF autoregressive": "#CC79A7",
}  # fmt: skip


def compared(runs: list[Run], scores: Callable[[Run], np.ndarray]) -> list[Run]:
    """How far ahead of each peer ours is on each table and length, over seeds that both have.

    The standard error is that of the rows' differences, averaged over the seeds, and of the seeds together.
    """
    good = [r for r in runs if "error" not in r and r["set"] != "moons"]
    lines = []
    for name, length in sorted({(r["set"], r["length"]) for r in good}):
        of = {(r["model"], r["seed"]): r for r in good if (r["set"], r["length"]) == (name, length)}
        for model in sorted({m for m, _ in of} - {OURS}):
            seeds = [s for m, s in sorted(of) if m == model and (OURS, s) in of]
            if not seeds:
                continue
            ahead = np.stack([scores(of[OURS, s]) - scores(of[model, s]) for s in seeds])
            rows, of_seeds = ahead.mean(0), ahead.mean(1)
            variance = rows.var() / len(rows) + (of_seeds.var(ddof=1) / len(seeds) if len(seeds) > 1 else 0.0)
            lines.append({
                "set": name, "length": length, "model": model, "seeds": len(seeds), "ahead": float(rows.mean()),
                "se": float(variance**0.5),
            })  # fmt: skip
    return lines


def outcome(ahead: float, se: float) -> str:
    """In a word, by two standard errors."""
    return "ahead" if ahead > 2 * se else "behind" if ahead < -2 * se else "level"


def page(runs: list[Run], tuned: list[Run], comparisons: list[Run]) -> list[str]:
    """Markdown: two moons, the tables, how the time was used, the peers' settings, failures."""
    failed = [r for r in [*runs, *tuned] if "error" in r]
    lines = [*_moons(runs), *_tables(runs, comparisons), *_time(runs), *_settings(runs)]
    if failed:
        lines += ["", "Failed, with the last line of the error:", ""]
        lines += sorted({f"- {r['model']} on {r['set']}, {r['length']:g} s: {r['error']}" for r in failed})
    return lines


def _moons(runs: list[Run]) -> list[str]:
    of = [r for r in runs if r["set"] == "moons" and "error" not in r]
    lines = ["| two moons | seconds | seeds | steps | gap, median (nats) | gaps | standard error of one |"]
    lines.append("|---|---|---|---|---|---|---|")
    for length, model in sorted({(r["length"], r["model"]) for r in of}):
        some = [r for r in of if (r["length"], r["model"]) == (length, model)]
        gaps = sorted(r["value"] for r in some)
        lines.append(
            f"| {model} | {length:g} | {len(some)} | {median([r['steps'] for r in some]):.0f} | **{median(gaps):.4f}** "
            f"| {', '.join(f'{g:.4f}' for g in gaps)} | {median([r['se'] for r in some]):.4f} |"
        )
    return lines if of else []


def _tables(runs: list[Run], comparisons: list[Run]) -> list[str]:
    of = [r for r in runs if r["set"] != "moons" and "error" not in r]
    if not of:
        return []
    results = [outcome(*_worst(comparisons, name, length)) for name, length in _lengths(of, comparisons)]
    counts = ", ".join(f"{word} {results.count(word)}" for word in ("ahead", "level", "behind"))
    lines = [
        "",
        'Test log-likelihood in nats a row, the mean of the seeds; in brackets how far ahead of it `fit("auto")` is, '
        "over the same rows. The rule was made with the first five tables in sight; the others are new to it, but for "
        "the choice of autoregressive layers, which saw all.",
        "",
        f"Beside the best peer, by two standard errors: {counts}.",
        "",
    ]
    peers = sorted({r["model"] for r in of} - {OURS})
    lines.append(f"| table | the rule | seconds | seeds | {OURS} | {' | '.join(peers)} | commit |")
    lines.append("|---" * (6 + len(peers)) + "|")
    for name, length in sorted({(r["set"], r["length"]) for r in of}, key=lambda k: (TABLES.index(k[0]), k[1])):
        some = [r for r in of if (r["set"], r["length"]) == (name, length)]
        known = "tuned on it" if name in TUNED_ON else "new"
        cells = [_cell(some, comparisons, model, name, length) for model in (OURS, *peers)]
        seeds = len({r["seed"] for r in some})
        commits = ", ".join(sorted({r["commit"] for r in some}))
        lines.append(f"| {name} | {known} | {length:g} | {seeds} | {' | '.join(cells)} | {commits} |")
    return lines


def _lengths(of: list[Run], comparisons: list[Run]) -> list[tuple[str, float]]:
    """Sets and lengths with a comparison."""
    return sorted({(r["set"], r["length"]) for r in of} & {(c["set"], c["length"]) for c in comparisons})


def _worst(comparisons: list[Run], name: str, length: float) -> tuple[float, float]:
    """How far ours is ahead of the best peer, and the standard error."""
    of = [c for c in comparisons if (c["set"], c["length"]) == (name, length)]
    worst = min(of, key=lambda c: c["ahead"])
    return worst["ahead"], worst["se"]


def _cell(some: list[Run], comparisons: list[Run], model: str, name: str, length: float) -> str:
    values = [r["value"] for r in some if r["model"] == model]
    if not values:
        return "failed"
    text = f"{sum(values) / len(values):.3f}"
    for c in comparisons:
        if (c["set"], c["length"], c["model"]) == (name, length, model):
            text += f" ({c['ahead']:+.3f} +- {c['se']:.3f})"
    return text


def _time(runs: list[Run]) -> list[str]:
    """Trainings of ours that left time unused, and why."""
    short = [
        r for r in runs if r["model"].startswith("pushforward") and r.get("seconds", r["length"]) < 0.9 * r["length"]
    ]
    ended = sorted(f"{r['set']} {r['seconds']:.0f} of {r['length']:g} s ({r['stopped']})" for r in short)
    told = ", ".join(ended) if ended else "none"
    return ["", f"Trainings of pushforward that used less than nine tenths of the time: {told}."] if runs else []


def _settings(runs: list[Run]) -> list[str]:
    """What the validation rows chose for each recipe of zuko."""
    chosen = {(r["set"], r["model"]): r["settings"] for r in runs if r.get("settings")}
    if not chosen:
        return []
    lines = ["", "| chosen on validation rows | set | rate | weight decay | noise |", "|---|---|---|---|---|"]
    for (name, model), s in sorted(chosen.items()):
        lines.append(f"| {model} | {name} | {s['rate']:g} | {s['weight_decay']:g} | {s['noise']:g} |")
    return lines


def figure(name: str, runs: list[Run]) -> None:
    """Gap or test log-likelihood against seconds; on tables, lines show the validation rows' on the way."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    if not runs:
        return
    fig = Figure(figsize=(8.2, 4.0), layout="constrained")
    ax = fig.subplots()
    lengths = sorted({r["length"] for r in runs})
    for model in (m for m in COLORS if any(r["model"] == m for r in runs)):
        _draw(ax, name, [r for r in runs if r["model"] == model], lengths[-1])
    ticks = lengths if name == "moons" else [t for t in (1, 3, 10, 30, 100, 300) if t <= 1.1 * lengths[-1]]
    ax.set(xscale="log", xlabel="seconds since the process started")
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    if name == "moons":
        ax.set(yscale="log", ylabel="gap to the true density (nats)")
        ax.yaxis.set_major_locator(FixedLocator((0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_title("Two moons: how far from the truth, after how long", loc="left")
    else:
        _limit(ax, runs)
        ax.set_ylabel("log-likelihood (nats a row)")
        ax.set_title(f"{name}: test (points) and validation on the way (lines)", loc="left")
    ax.grid(True, alpha=0.2)
    ax.spines[["top", "right"]].set_visible(False)
    fig.legend(frameon=False, loc="outside right upper")  # where no line runs
    fig.savefig(RESULTS / f"anytime_{name}.png", dpi=150)


def _draw(ax: Any, name: str, of: list[Run], longest: float) -> None:
    """One model: its points, and a line through medians or along the trainings."""
    color = COLORS[of[0]["model"]]
    if name == "moons":
        x = sorted({r["length"] for r in of})
        ax.plot(x, [median([r["value"] for r in of if r["length"] == s]) for s in x], color=color, lw=1.2)
    else:
        for run in (r for r in of if r["length"] == longest and r["curve"]):
            ax.plot(*zip(*run["curve"], strict=True), color=color, lw=0.8, alpha=0.7)
    values = [r["value"] for r in of]
    ax.plot([r["length"] for r in of], values, "o", color=color, label=of[0]["model"], markeredgewidth=0)


def _limit(ax: Any, runs: list[Run]) -> None:
    """From the worst model's best run on: the beginning of lines and runs that failed are far below (triangles)."""
    best = [max(r["value"] for r in runs if r["model"] == model) for model in {r["model"] for r in runs}]
    lines = [v for r in runs for t, v in r["curve"] if t > 0.1 * r["length"] and np.isfinite(v)]
    low, high = min(best), max(best + lines)
    bottom = low - 0.15 * (high - low)
    for run in (r for r in runs if not r["value"] > bottom):
        ax.plot(run["length"], bottom, "v", color=COLORS[run["model"]], markeredgewidth=0, clip_on=False, zorder=3)
    ax.set_ylim(bottom, high + 0.1 * (high - low))
