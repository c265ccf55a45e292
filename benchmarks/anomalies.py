"""Anomaly detection: ROC AUC of flows and of common detectors on sets of ADBench (Han et al. 2022, arXiv 2206.09426).

The protocol is the usual semi-supervised one: train on a random half of the normal rows, test on the other half and
all anomalies (at most 20,000 of them, drawn at random). Every detector gets the same rows, standardised by the training
half, and its defaults; KDE takes at most 2,000 of the training rows, because its cost is training rows times test rows.
Labels serve the score alone. Figures are medians over the seeds of the split. The flow stops early by the log-density
of the normal rows that it holds out of its half. A detector that fails is named with its error.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import pushforward as pf
from common import median, write

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "adbench"
SETS = {
    "shuttle": "32_shuttle", "cover": "10_cover", "magic": "22_magic.gamma", "thyroid": "38_thyroid",
    "SpamBase": "35_SpamBase",
}  # fmt: skip
MOST_TEST_ROWS = 20_000
MOST_KDE_ROWS = 2_000

Detector = Callable[[np.ndarray, np.ndarray, int], np.ndarray]  # training rows, test rows, seed -> anomaly scores


def flow(train: np.ndarray, test: np.ndarray, seed: int, seconds: float) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ of [0-9]+ rows depart")  # that is what is looked for
        model = pf.FlowOutlierDetector(seconds=seconds, random_state=seed).fit(train)
        return -model.score_samples(test)


def isolation_forest(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    return -IsolationForest(random_state=seed).fit(train).score_samples(test)


def of_pyod(name: str) -> tuple[str, Detector]:
    """PyOD's detector, or scikit-learn's density where PyOD cannot be imported; with a name that says which."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = __import__(f"pyod.models.{name.lower()}", fromlist=[name])
    except ImportError as error:
        from sklearn.mixture import GaussianMixture
        from sklearn.neighbors import KernelDensity

        makes: dict[str, Any] = {"KDE": lambda seed: KernelDensity(), "GMM": lambda s: GaussianMixture(random_state=s)}
        if name not in makes:
            raise ImportError(f"{name} needs the package pyod") from error
        return f"{name} (scikit-learn)", lambda train, test, seed: -makes[name](seed).fit(train).score_samples(test)

    def detect(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        if name == "KDE":
            train = train[np.random.default_rng(seed).permutation(len(train))[:MOST_KDE_ROWS]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings = {"random_state": seed} if name == "GMM" else {}
            return getattr(module, name)(**settings).fit(train).decision_function(test)

    return f"{name} (PyOD)", detect


def split(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> training rows, test rows, and which of those are anomalies."""
    with np.load(DATA / f"{SETS[name]}.npz") as file:
        x, anomaly = file["X"].astype(np.float64), file["y"] == 1
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(~anomaly))
    half = len(normal) // 2
    test = rng.permutation(np.concatenate([normal[half:], np.flatnonzero(anomaly)]))[:MOST_TEST_ROWS]
    scaler = StandardScaler().fit(x[normal[:half]])
    return scaler.transform(x[normal[:half]]), scaler.transform(x[test]), anomaly[test]


def detectors_for(seconds: float) -> tuple[dict[str, Detector], list[str]]:
    """-> the detectors by name, ours first; those that cannot be had, with why."""
    detectors: dict[str, Detector] = {
        f"FlowOutlierDetector ({seconds:g} s)": lambda a, b, s: flow(a, b, s, seconds),
        "IsolationForest": isolation_forest,
    }
    failures = []
    for name in ("KDE", "GMM", "ECOD"):
        try:
            detectors |= dict([of_pyod(name)])
        except ImportError as error:
            failures.append(f"- {name}: {error}")
    return detectors, failures


def measured(name: str, seed: int, detectors: dict[str, Detector]) -> tuple[list[dict[str, Any]], list[str]]:
    """-> runs of all detectors on one set and split; failures."""
    train, test, anomaly = split(name, seed)
    runs, failures = [], []
    for detector, detect in detectors.items():
        start = time.perf_counter()
        try:
            scores = detect(train, test, seed)
        except Exception as error:
            failures.append(f"- {detector} on {name}, seed {seed}: {type(error).__name__}: {error}")
            continue
        run = {"set": name, "seed": seed, "detector": detector, "seconds": time.perf_counter() - start,
               "auc": float(roc_auc_score(anomaly, scores)), "train_rows": len(train), "test_rows": len(test),
               "columns": train.shape[1], "anomalies": int(anomaly.sum())}  # fmt: skip
        runs.append(run)
        print({k: v for k, v in run.items() if k in ("set", "seed", "detector", "auc", "seconds")}, flush=True)
    return runs, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="longest training of a flow")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    args = parser.parse_args()
    if not DATA.is_dir():
        print(f"the sets of ADBench are absent: there is no {DATA}")
        return
    detectors, failures = detectors_for(args.seconds)
    runs: list[dict[str, Any]] = []
    for name in args.sets:
        for seed in range(args.seeds):
            new, failed = measured(name, seed, detectors)
            runs += new
            failures += failed
    lines = table(args.sets, list(detectors), runs)
    if failures:
        lines += ["", "Failed, with the error:", "", *failures]
    write("anomalies", {"protocol": __doc__, "runs": runs, "failures": failures}, lines)


def table(sets: list[str], detectors: list[str], runs: list[dict[str, Any]]) -> list[str]:
    def auc(detector: str, name: str) -> float:
        of = [r["auc"] for r in runs if r["detector"] == detector and r["set"] == name]
        return median(of) if of else float("nan")

    facts = {n: next(r for r in runs if r["set"] == n) for n in sets}
    heads = [f"{n} ({f['train_rows']:,} x {f['columns']})" for n, f in facts.items()]
    lines = [f"| ROC AUC, median | {' | '.join(heads)} | mean |", "|---" * (len(sets) + 2) + "|"]
    best = {n: max(auc(d, n) for d in detectors if auc(d, n) == auc(d, n)) for n in sets}
    for detector in detectors:
        values = [auc(detector, n) for n in sets]
        cells = [f"**{v:.3f}**" if v == best[n] else f"{v:.3f}" for n, v in zip(sets, values, strict=True)]
        lines.append(f"| {detector} | {' | '.join(cells)} | {sum(values) / len(values):.3f} |")
    behind = [n for n in sets if not auc(detectors[0], n) >= best[n]]
    return [*lines, "", f"{detectors[0]} is behind the best on {len(behind)} of {len(sets)}: {', '.join(behind)}."]


if __name__ == "__main__":
    main()
