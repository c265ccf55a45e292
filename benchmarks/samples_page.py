"""The page of `samples.py`."""

from __future__ import annotations

from typing import Any

from samples_sets import KNOWN, SETS

Run = dict[str, Any]
OURS = "pushforward"
TABLES = {  # key of a run, heading, digits
    "auc": ("AUC against held-out rows: .5 is not to be told apart", 3),
    "shapes": ("SDMetrics' column shapes: 1 is best", 3),
    "trends": ("SDMetrics' pair trends: 1 is best", 3),
    "trends_within": ("The same of numbers clipped to the range of the held-out rows, see `samples_metrics.py`", 3),
    "seconds": ("Seconds of learning and drawing", 0),
}


def page(runs: list[Run]) -> list[str]:
    """Markdown: a summary, a table for each figure, and what failed."""
    models = sorted(dict.fromkeys(r["model"] for r in runs), key=lambda m: (m != "real", m != OURS))
    lines = [*_summary(runs), "", _commits(runs)]
    for key, (heading, digits) in TABLES.items():
        shown = [m for m in models if m != "real" or key != "seconds"]
        lines += ["", heading + ".", "", f"| | rows | {' | '.join(shown)} |", "|---" * (2 + len(shown)) + "|"]
        for name in (n for n in SETS if any(r["set"] == n for r in runs)):
            cells = [_cell(runs, name, model, key, digits) for model in shown]
            lines.append(f"| {name} | {'known' if name in KNOWN else 'other'} | {' | '.join(cells)} |")
    failed = sorted({f"- {r['model']} on {r['set']}: {r[k]}" for r in runs for k in ERRORS if k in r})
    return [*lines, "", "Failed, with the last line of the error:", "", *failed] if failed else lines


def _commits(runs: list[Run]) -> str:
    """Of which code our results are."""
    sets: dict[str, list[str]] = {}
    for run in (r for r in runs if r["model"] == OURS):
        sets.setdefault(run["commit"], []).append(run["set"])
    told = "; ".join(f"{commit} ({', '.join(dict.fromkeys(names))})" for commit, names in sets.items())
    return f"pushforward is of commit {told}."


ERRORS = ("error", "metrics_error")


def mean(runs: list[Run], name: str, model: str, key: str) -> float | None:
    """Over the splits; None where there is no figure."""
    values = [r[key] for r in runs if (r["set"], r["model"]) == (name, model) and r.get(key) is not None]
    return sum(values) / len(values) if values else None


def _cell(runs: list[Run], name: str, model: str, key: str, digits: int) -> str:
    value = mean(runs, name, model, key)
    return "-" if value is None else f"{value:.{digits}f}"


def _near_best(runs: list[Run], sets: list[str], peers: set[str], key: str) -> list[bool]:
    """For each set with a figure of ours and of peers whether ours is at most .02 behind the best."""
    near = []
    for name in sets:
        own, others = mean(runs, name, OURS, key), [v for m in peers if (v := mean(runs, name, m, key)) is not None]
        near += [own >= max(others) - 0.02] if own is not None and others else []
    return near


def _summary(runs: list[Run]) -> list[str]:
    """On how many sets ours is ahead of all peers, and by how much it is behind real rows."""
    sets = [n for n in SETS if mean(runs, n, OURS, "auc") is not None]
    peers = {r["model"] for r in runs} - {OURS, "real"}
    below, excess = [], []
    for name in sets:
        aucs = [v for m in peers if (v := mean(runs, name, m, "auc")) is not None]
        ours, real = mean(runs, name, OURS, "auc"), mean(runs, name, "real", "auc")
        assert ours is not None
        below += [ours < min(aucs)] if aucs else []
        excess += [] if real is None else [(ours - real, name)]
    trends, within = (_near_best(runs, sets, peers, key) for key in ("trends", "trends_within"))
    of_clipped = f" ({sum(within)} of {len(within)} within the range of the held-out rows)" if within else ""
    lines = [
        f"AUC below every peer's on {sum(below)} of {len(below)} sets; pair trends at most .02 behind the best "
        f"peer's on {sum(trends)} of {len(trends)}{of_clipped}."
    ]
    if excess:
        told = ", ".join(f"{name} {value:+.3f}" for value, name in sorted(excess, reverse=True))
        lines += ["", f"AUC less that of real rows: {told}."]
    return lines
