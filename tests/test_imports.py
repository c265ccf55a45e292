"""The layers of the house: imports run downwards only, and importing costs torch and nothing more."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import pushforward as pf

SOURCE = Path(pf.__file__).parent
# A module may import from rows below its own, and from its own row.
LAYERS = [
    {"cli", "studio", "__main__"},
    {"estimator", "plots", "diagnostics"},
    {"training", "serialize", "data", "tabular"},
    {"models"},
    {"flow", "distribution", "bases", "ensemble"},
    {"bijections"},
    {"elementwise", "rearrange", "nets"},
    {"chunks", "rounding", "_files"},
]
HEAVY = {"matplotlib", "pandas", "pyarrow", "rich", "sklearn", "PIL", "scipy", "IPython", "click", "polars", "pyod"}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def level(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def imported_rooms(path: Path) -> set[str]:
    """Rooms of our own that a file imports at run time."""
    package = ["pushforward", *path.relative_to(SOURCE).parts[:-1]]
    found = set()
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for node in ast.walk(test)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in typing_only:
            base = package[: len(package) - node.level + 1] if node.level else []
            parts = base + (node.module.split(".") if node.module else [])
            if parts[:1] == ["pushforward"]:
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


def test_imports_run_downwards() -> None:
    upwards = []
    for path in SOURCE.rglob("*.py"):
        if path.name in {"__init__.py", "_api.py"} and path.parent == SOURCE:
            continue
        for target in imported_rooms(path):
            known = (SOURCE / f"{target}.py").exists() or (SOURCE / target).is_dir()
            if known and level(target) < level(room(path)):
                upwards.append(f"{path.relative_to(SOURCE)} imports {target}")
    assert not upwards


def test_nets_stand_alone_and_bijections_do_not_know_them() -> None:
    assert imported_rooms(SOURCE / "nets.py") <= {"chunks"}
    for path in (SOURCE / "bijections").glob("*.py"):
        assert "nets" not in imported_rooms(path)


def test_files_stay_short() -> None:
    long = {str(p.relative_to(SOURCE)): n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 320}
    assert not long


def loaded_by(statement: str) -> set[str]:
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(out.stdout.splitlines()[-1]))


def test_importing_costs_torch_and_nothing_more() -> None:
    assert not (loaded_by("import pushforward") - loaded_by("import torch")) & HEAVY


def test_every_public_name_is_documented() -> None:
    names = [n for n in dir(pf) if not n.startswith("_") and n != "PyODFlow"]  # which needs PyOD
    assert "real_nvp" in names
    assert "importlib" not in names
    undocumented = [n for n in names if not (getattr(pf, n).__doc__ or "").strip()]
    assert not undocumented


@pytest.mark.parametrize("name", ["real_nvp", "fit", "Flow", "MLP", "Coupling"])
def test_help_gives_an_example(name: str) -> None:
    assert ">>>" in (getattr(pf, name).__doc__ or "")
