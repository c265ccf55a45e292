"""What a given time buys: the gap to the truth on two moons, and the test log-likelihood of ten tables.

Every run is a fresh process on one thread whose clock starts with it, so that importing counts: pushforward's own
`fit(recipe, rows, seconds=...)`, with nothing set by hand, beside three recipes of zuko (`anytime_zuko.py`) under an
expert's schedule: AdamW, warm-up, a cosine decay that ends with the time, clipping, averaged weights, validation rows
that choose the weights to keep. Rate, weight decay and noise of each recipe are chosen on each set by those validation
rows, in trainings of a seed of their own that are as long as the shortest scored ones: first the rate, then decay and
noise at that rate, all from the small grid that pushforward's rule was made from.

Five of the tables were in sight when the rule was made, five were not (`anytime_sets.py`). The gap is
mean(log p_true - log p_model) on 200,000 fresh points, in nats; 0 is perfect. Differences on tables are paired: over
the same test rows, averaged over the seeds. A run that fails is named with its error.

What is there of a set at the same commit is not run again, what is of another commit gives way when the set is run
again, and sets that are not run stay on the page with the commit that theirs were made at. What is there of zuko holds
as long as nothing changes that it depends on. Two moons have a page of their own, results/anytime_moons.md.

    make peers
    python benchmarks/anytime.py
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from anytime_page import Run, compared, figure, page
from anytime_sets import DATA, TABLES, table, why_absent
from anytime_zuko import MODELS
from common import RESULTS, commit, is_unchanged, last_line, load, machine, write
from pushforward.toys import TwoMoons

SCORES = RESULTS / "anytime"  # log-densities of the test rows, one file a run: kept beside, not under version control
OURS = {"moons": ("pushforward auto", "pushforward real_nvp")}  # on tables "pushforward auto"
LENGTHS = {"moons": (10.0, 30.0), "bsds300": (60.0, 300.0), "magic": (60.0, 300.0), "baseball": (60.0, 300.0)}
LENGTH = 60.0  # of the other tables
RATES = (1e-3, 5e-3)
SMOOTHINGS = ((1e-5, 0.0), (0.1, 0.0), (1.0, 0.0), (1e-5, 0.05))  # weight decay, noise in standard deviations
TUNING_SEED = 100
ZUKO_DEPENDS_ON = [Path(__file__).with_name(name) for name in (
    "anytime_zuko.py", "anytime_run.py", "anytime_sets.py", "rtables.py",
)]  # fmt: skip
LIMIT = (600.0, 2.0)  # seconds of a process, scoring included: so many, and so many times those of the training
TEST_POINTS = 200_000


def prepare(name: str, folder: Path, data: Path) -> None:
    """Writes the rows of a set for the processes that train on them."""
    folder.mkdir()
    if name == "moons":
        points = TwoMoons().sample(TEST_POINTS, generator=torch.Generator().manual_seed(12345))
        np.save(folder / "test.npy", points.numpy())
        return
    for part, rows in zip(("train", "val", "test"), table(name, data), strict=True):
        np.save(folder / f"{part}.npy", rows)


class Bench:
    """Runs the trainings of one set in processes of their own, and keeps what they gave."""

    def __init__(self, peers: str, folder: Path, runs: list[Run], tuned: list[Run], jobs: int = 2) -> None:
        self.peers, self.folder, self.runs, self.tuned, self.jobs = peers, folder, runs, tuned, jobs
        SCORES.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, name: str, peers: str, folder: Path, jobs: int = 2) -> Bench:
        """With what the page has of a set at this commit, and whose scores are still here."""
        kept = load(page_of(name))
        runs, tuned = ([r for r in kept.get(key, []) if _is_current(r, name)] for key in ("runs", "tuned"))
        here = [r for r in runs if "error" in r or (SCORES / scores_name(*(r[k] for k in KEY))).exists()]
        return cls(peers, folder, here, tuned, jobs)

    def process(self, name: str, model: str, seconds: float, seed: int, out: str, settings: Run) -> Run:
        """One training; -> what it told, or its error."""
        python = self.peers if model.startswith("zuko") else sys.executable
        script = str(Path(__file__).with_name("anytime_run.py"))
        command = [python, script, model, str(self.folder / name), repr(time.time()), f"{seconds:g}", str(seed), out]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command.append(json.dumps(settings))
        limit = LIMIT[0] + LIMIT[1] * seconds
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=limit)
        except subprocess.TimeoutExpired:
            return {"error": f"did not end within {limit:g} s"}
        if done.returncode:
            return {"error": f"exit {done.returncode}: {last_line(done.stderr)}"}
        return json.loads(done.stdout.splitlines()[-1])

    def score(self, name: str, model: str, seconds: float, seed: int) -> Run:
        """A training that counts, with its figures on the test rows."""
        settings = self.settings(name, model)
        scores = SCORES / scores_name(name, model, seconds, seed)
        run: Run = {"set": name, "model": model, "length": seconds, "seed": seed, "settings": settings}
        run |= self.process(name, model, seconds, seed, str(scores), settings)
        if "error" not in run:
            values = np.load(scores)
            if name == "moons":
                truth = TwoMoons().log_prob(torch.from_numpy(np.load(self.folder / name / "test.npy"))).double().numpy()
                values = truth - values
            run |= {"value": float(values.mean()), "se": float(values.std() / len(values) ** 0.5)}
        told = run.get("error") or f"{run['value']:.4f} +- {run['se']:.4f} after {run['seconds']:.0f} s"
        print(f"{name}, {model}, {seconds:g} s, seed {seed}: {told}", flush=True)
        return run | {"commit": commit(), "cpu": machine()["cpu"]}

    def settings(self, name: str, model: str) -> Run:
        """What the validation rows chose for a recipe of zuko; nothing for pushforward."""
        of = [t for t in self.tuned if (t["set"], t["model"]) == (name, model) and "best" in t]
        return max(of, key=lambda t: t["best"])["settings"] if of else grid()[0] if model in MODELS else {}

    def tune(self, name: str, model: str, seconds: float, settings: Run) -> None:
        """A training of which only the validation counts; equal ones of before are taken."""
        key = (name, model, seconds, settings)
        if any((t["set"], t["model"], t["length"], t["settings"]) == key for t in self.tuned):
            return
        told = self.process(name, model, seconds, TUNING_SEED, "-", settings)
        record = {k: told[k] for k in ("best", "error", "steps") if k in told}
        of = {"set": name, "model": model, "length": seconds, "settings": settings, "commit": commit()}
        self.tuned.append(of | record)
        print(f"{name}, {model}, {settings}: {record}", flush=True)

    def choose(self, name: str, models: list[str], seconds: float) -> None:
        """Chooses rate, then decay and noise, of each recipe of zuko by the validation rows of a set."""
        peers = [m for m in models if m in MODELS]
        with ThreadPoolExecutor(self.jobs) as pool:
            list(
                pool.map(lambda job: self.tune(name, job[0], seconds, job[1]), [(m, g) for m in peers for g in grid()])
            )
            if name != "moons":  # of fresh points nothing is learned by heart
                jobs = [(m, g) for m in peers for g in smoother(self.settings(name, m))]
                list(pool.map(lambda job: self.tune(name, job[0], seconds, job[1]), jobs))

    def all(self, jobs: list[tuple[str, str, float, int]]) -> Iterator[None]:
        """Runs jobs that were not run at this commit; gives after as many as run at a time."""
        done = {(r["set"], r["model"], r["length"], r["seed"]) for r in self.runs}
        jobs = [job for job in jobs if job not in done]
        with ThreadPoolExecutor(self.jobs) as pool:
            for i in range(0, len(jobs), self.jobs):
                self.runs += pool.map(lambda job: self.score(*job), jobs[i : i + self.jobs])
                yield


def _is_current(record: Run, name: str) -> bool:
    """Whether a record is of a set and of the code as it is committed now; of zuko's, of what it depends on."""
    of = record.get("commit", "+")
    if record["set"] != name or of.endswith("+"):
        return False
    return of == commit() or (record["model"] in MODELS and is_unchanged(of, ZUKO_DEPENDS_ON))


def scores_name(name: str, model: str, seconds: float, seed: int) -> str:
    return f"{name}-{model.replace(' ', '-')}-{seconds:g}-{seed}.npy"


def grid() -> list[Run]:
    """The rates, without decay and noise to speak of."""
    return [{"rate": rate, "weight_decay": SMOOTHINGS[0][0], "noise": SMOOTHINGS[0][1]} for rate in RATES]


def smoother(settings: Run) -> list[Run]:
    """The other decays and noises at a rate."""
    return [settings | {"weight_decay": decay, "noise": noise} for decay, noise in SMOOTHINGS[1:]]


def keep(name: str, bench: Bench) -> None:
    """Puts the runs so far of a set, and their comparisons, in place of its older ones, and writes the page."""
    comparisons = compared(bench.runs, lambda run: np.load(SCORES / scores_name(*(run[k] for k in KEY))))
    result = {"runs": bench.runs, "tuned": bench.tuned, "comparisons": comparisons}
    kept = load(page_of(name))
    for key, own in result.items():
        result[key] = [r for r in kept.get(key, []) if r["set"] != name] + own
    write(page_of(name), result, page(**result), show=False)


KEY = ("set", "model", "length", "seed")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="peers/flows/bin/python", help="the Python that has zuko  [%(default)s]")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the tables  [%(default)s]")
    parser.add_argument("--sets", nargs="+", default=["moons", *TABLES], choices=["moons", *TABLES])
    parser.add_argument("--seconds", type=float, nargs="+", help="lengths  [moons: 10 30; tables: 60, three also 300]")
    parser.add_argument("--tune-seconds", type=float, help="of the trainings that choose  [the shortest length]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, each on one thread  [%(default)s]")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, help="of zuko")
    return parser.parse_args()


def measure(bench: Bench, name: str, peers: list[str], args: argparse.Namespace) -> None:
    """Tunes and scores all models on one set, and writes the page on the way."""
    prepare(name, bench.folder / name, args.data)
    models = [*OURS.get(name, ("pushforward auto",)), *peers]
    lengths = args.seconds or LENGTHS.get(name, (LENGTH,))
    bench.choose(name, models, args.tune_seconds or min(lengths))
    jobs = [(name, model, s, seed) for seed in range(args.seeds) for s in lengths for model in models]
    for _ in bench.all(jobs):
        keep(name, bench)
    figure(name, [r for r in bench.runs if r["set"] == name and "error" not in r])


def page_of(name: str) -> str:
    return "anytime_moons" if name == "moons" else "anytime"


def main() -> None:
    args = options()
    peers = args.models
    if shutil.which(args.peers) is None:
        print(f"zuko is absent: there is no {args.peers} (make peers installs it); pushforward alone is measured")
        peers = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.sets:
            if name != "moons" and (why := why_absent(name, args.data)):
                print(f"{name} is absent: {why}")
            else:
                measure(Bench.of(name, args.peers, Path(temporary), args.jobs), name, peers, args)
    for name in dict.fromkeys(page_of(name) for name in args.sets):
        if (RESULTS / f"{name}.md").exists():
            print((RESULTS / f"{name}.md").read_text())


if __name__ == "__main__":
    main()
