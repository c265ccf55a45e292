"""`make bench`: measures what the README quotes, at one commit, and writes its figures. Under an hour on two cores.

Nothing is downloaded. What is not here (other libraries, data sets) is named as absent and left out. A script that
fails is named, the others go on; the end is then an error.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import anytime_sets
import samples_sets
from figures import ROOT

NAMES = ("throughput", "scaling", "scoring", "moons_gap", "members", "anytime", "peers", "picture")


def steps(peers: str, data: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """-> arguments of the scripts to run, and why others are left out."""
    runs = {
        "throughput": [], "scaling": [], "scoring": [], "moons_gap": ["--seconds", "10", "30", "--notebook", "1"],
        "members": [], "anytime": ["--sets", "moons", "--peers", peers], "peers": ["--peers", peers], "picture": [],
    }  # fmt: skip
    absent = {}
    if shutil.which(peers) is None:
        absent["peers"] = f"there is no {peers}: make peers installs the other libraries"
    if why := anytime_sets.why_absent("miniboone", data):
        absent["members"] = why
    return {name: runs[name] for name in NAMES if name not in absent}, absent


def absent_sets(data: Path) -> dict[str, str]:
    """Data sets of `make bench-full` that are not here."""
    why = {name: anytime_sets.why_absent(name, data) for name in anytime_sets.TABLES}
    why |= {name: samples_sets.why_absent(name) for name in samples_sets.SETS}
    return {name: reason for name, reason in why.items() if reason}


def run(name: str, arguments: list[str]) -> bool:
    """Runs a script as a user would; -> whether it ended well."""
    command = [sys.executable, f"benchmarks/{name}.py", *arguments]
    print(f"\n## {' '.join(['python', *command[1:]])}", flush=True)
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=False)
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="peers/flows/bin/python", help="the other libraries' Python  [%(default)s]")
    parser.add_argument("--data", type=Path, default=anytime_sets.DATA, help="the folder of the sets  [%(default)s]")
    parser.add_argument("--only", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--list", action="store_true", help="say what would run and what is absent, run nothing")
    args = parser.parse_args()
    runs, absent = steps(args.peers, args.data)
    runs = {name: arguments for name, arguments in runs.items() if name in args.only}
    for name, why in (absent | absent_sets(args.data)).items():
        print(f"absent: {name}: {why}")
    if args.list:
        print(*(f"python benchmarks/{name}.py {' '.join(a)}".rstrip() for name, a in runs.items()), sep="\n")
        return
    failed = [name for name, arguments in runs.items() if not run(name, arguments)]
    failed += [] if run("figures", []) else ["figures"]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
