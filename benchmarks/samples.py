"""Samples of mixed tables beside those of other libraries: can they be told from real rows, and what do they keep?

SDV's three synthesizers (its licence is not an open one: it is measured against, no more), TabularARGN of
mostlyai-engine and ForestDiffusion, each with its defaults and in an environment of its own, beside `pf.fit_table`, on
six tables that were looked at while the package was made and six others (`samples_sets.py`). A quarter of the rows is
held out. Of each model three times as many rows are drawn as are held out, and told:

- AUC: how well gradient-boosted trees, cross-validated, tell them from the held-out rows, a third of them at a time
  (.5: not at all); beside it that of training rows, which are real.
- SDMetrics' column shapes and pair trends against the held-out rows (1 is best), beside those of training rows; the
  trends again with all numbers clipped to the range of the held-out rows, for its bins go as far as a single sample.
- seconds of learning and drawing, importing left out.

A model that fails is named with its error, as is one that takes longer than --timeout. Results of other libraries are
kept, and not made again but for failures; ours give way where the code is another one.

    python benchmarks/samples.py --setup        # installs the environments, from the registry that pip knows
    python benchmarks/samples.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from common import commit, last_line, load, write
from samples_page import OURS, Run, page
from samples_sets import SETS, why_absent, write_split

ENVIRONMENTS = {
    "sdv": ["torch==2.13.0", "sdv==2.0.0"],  # brings SDMetrics
    "mostlyai": ["torch==2.13.0", "mostlyai-engine==2.7.3"],
    "forest": ["ForestDiffusion==1.0.6", "pandas<3"],  # whose arrays it may write to
}
ENVIRONMENT_OF = {
    "pushforward": "", "GaussianCopula": "sdv", "TVAE": "sdv", "CTGAN": "sdv", "TabularARGN": "mostlyai",
    "ForestDiffusion": "forest",
}  # fmt: skip
ENVS = Path(__file__).resolve().parents[1] / "peers"
DRAWS = 3  # sets of samples, each of as many rows as are held out


def set_up(names: list[str], root: Path) -> None:
    """Makes the environments and installs what they need."""
    for name in names:
        print(f"{root / name}: {' '.join(ENVIRONMENTS[name])}", flush=True)
        venv.create(root / name, with_pip=True)
        done = subprocess.run([root / name / "bin/pip", "install", "--quiet", *ENVIRONMENTS[name]], check=False)
        print(f"{name}: {'installed' if done.returncode == 0 else 'could not be installed'}", flush=True)


class Bench:
    """Draws and judges the samples of the models."""

    def __init__(self, root: Path, timeout: float) -> None:
        self.root, self.timeout = root, timeout

    def python(self, environment: str) -> str:
        """The interpreter of an environment, this one's for "".

        Raises:
            FileNotFoundError: it was not set up.
        """
        path = self.root / environment / "bin/python" if environment else Path(sys.executable)
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}: python benchmarks/samples.py --setup {environment}")
        return str(path)

    def ask(self, environment: str, script: str, *arguments: object) -> Any:
        """What a script in an environment prints as JSON; {"error": ...} if it fails."""
        try:
            command = [self.python(environment), str(Path(__file__).with_name(script)), *map(str, arguments)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=self.timeout)
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            slow = isinstance(error, subprocess.TimeoutExpired)
            return {"error": f"no result after {self.timeout:g} s" if slow else str(error)}
        if done.returncode:
            return {"error": f"exit {done.returncode}: {last_line(done.stderr)}"}
        return json.loads(done.stdout.splitlines()[-1])

    def draw(self, model: str, folder: Path, rows: int, seed: int) -> Run:
        """Samples of a model as FOLDER/MODEL.csv; -> seconds, or the error."""
        return self.ask(ENVIRONMENT_OF[model], "samples_model.py", model, folder, rows, seed, folder / f"{model}.csv")

    def judge(self, folder: Path, models: list[str], seed: int) -> dict[str, Run]:
        """AUC and SDMetrics' scores of the samples of models, and of training rows ("real")."""
        from samples_auc import auc_of

        files = {m: folder / f"{m}.csv" for m in models} | {"real": folder / "train.csv"}
        told = self.ask("sdv", "samples_metrics.py", folder, *files.values())
        judged = {}
        for model, file in files.items():
            metrics = {"metrics_error": told["error"]} if "error" in told else told[str(file)]
            judged[model] = {"auc": auc_of(file, folder, DRAWS, seed), **metrics}
        return judged


def measure(bench: Bench, name: str, models: list[str], seed: int, rows: int | None) -> list[Run]:
    """All models on one set and split."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        held_out = write_split(name, folder, seed, rows)
        drawn = {}
        for model in models:
            drawn[model] = bench.draw(model, folder, DRAWS * held_out, seed)
            print(f"{name}, {model}, seed {seed}: {drawn[model]}", flush=True)
        judged = bench.judge(folder, [m for m in models if "error" not in drawn[m]], seed)
    shape = {"set": name, "seed": seed, "commit": commit()}
    return [shape | {"model": m} | drawn.get(m, {}) | judged.get(m, {}) for m in ("real", *models)]


def is_current(run: Run) -> bool:
    """Whether a run need not be made again: a result of another library, or one of the code as it is committed now."""
    if "error" in run:
        return False
    return run["model"] != OURS or (run["commit"] == commit() and not commit().endswith("+"))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", nargs="*", choices=list(ENVIRONMENTS), help="install these environments  [all]")
    parser.add_argument("--envs", type=Path, default=ENVS, help="the folder of the environments  [%(default)s]")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--models", nargs="+", default=list(ENVIRONMENT_OF), choices=ENVIRONMENT_OF)
    parser.add_argument("--seeds", type=int, default=1, help="splits  [%(default)s]")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one model  [%(default)g]")
    parser.add_argument("--rows", type=int, help="of each table at most, for a trial that is not kept")
    return parser.parse_args()


def main() -> None:
    args = options()
    if args.setup is not None:
        set_up(args.setup or list(ENVIRONMENTS), args.envs)
        return
    runs: list[Run] = load("samples").get("runs", [])
    bench = Bench(args.envs, args.timeout)
    for seed in range(args.seeds):
        for name in args.sets:
            if why := why_absent(name):
                print(f"{name} is absent: {why}")
                continue
            done = {r["model"] for r in runs if (r["set"], r["seed"]) == (name, seed) and is_current(r)}
            models = [m for m in args.models if m not in done]
            if not models:
                continue
            new = [r for r in measure(bench, name, models, seed, args.rows) if r["model"] not in done]
            made = {(name, seed, r["model"]) for r in new}
            runs = [r for r in runs if (r["set"], r["seed"], r["model"]) not in made] + new
            if args.rows is None:
                write("samples", {"runs": runs}, page(runs), show=False)
    print("\n".join(page(runs)))


if __name__ == "__main__":
    main()
