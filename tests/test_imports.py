"""The rooms of the house: imports run downwards only and in no circle, and importing costs torch and nothing more.

What is read is the graph of modules in the source, with imports inside functions, without those for type checkers.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pushforward as pf

SOURCE = Path(pf.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
# A module may import from lines below its own, and from its own line. The longest name that fits decides.
ORDER = [
    ("cli", "estimators", "__main__"),
    ("checks",),
    ("plots",),
    ("images",),
    ("tables",),
    ("training",),
    ("_fast.steps",),
    ("io.models", "io.flows", "io.simple", "io.registry", "io.upgrade"),
    ("recipes", "baselines"),
    (
        "flow",
        "mixture",
    ),
    ("conditional",),
    ("density", "distribution"),
    ("fixed_start",),
    ("arguments",),
    ("bases", "bijections", "toys"),
    ("convnets",),
    ("nets", "chunks", "scale"),
    ("io",),
    ("_fast.kernels", "_fast"),
    ("switch", "hashing", "parallel"),
]
LAZY = {"", "_api"}  # they hand on public names when one is first used, and so import every room
STEPS_MAY_IMPORT = {"bijections", "bases", "nets", "flow", "density", "_fast.kernels", "_fast.steps", "switch"}
HEAVY = {
    *("matplotlib", "pandas", "pyarrow", "rich", "sklearn", "PIL", "scipy", "IPython", "click", "polars", "pyod"),
    *("duckdb", "narwhals", "jinja2", "python_calamine"),
}


def name_of(path: Path) -> str:
    """flow.py -> flow, bijections/__init__.py -> bijections, the package itself -> ''."""
    parts = list(path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def room_of(module: str) -> str:
    rooms = [room for line in ORDER for room in line if is_in(module, room)]
    assert rooms, f"{module} has no place in the order of rooms"
    return max(rooms, key=len)


def level(module: str) -> int:
    return next(i for i, line in enumerate(ORDER) if room_of(module) in line)


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from run_time_nodes(other)
        else:
            yield from run_time_nodes(child)


def imported_names(path: Path) -> Iterator[str]:
    """Full names that a file imports, with `from a import b` as a.b."""
    package = ["pushforward", *path.relative_to(SOURCE).parts[:-1]]
    for node in run_time_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            parts = base + (node.module.split(".") if node.module else [])
            yield from (".".join([*parts, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and re.search(r"import_module\(['\"][\w.]+['\"]", ast.unparse(node)):
            relative = str(ast.literal_eval(node.args[0]))
            name = relative.lstrip(".")
            dots = len(relative) - len(name)
            yield ".".join([*package[: len(package) - dots + 1], name]) if dots else name


def modules_of(path: Path) -> set[str]:
    """Our own modules that a file imports; '' is the package itself."""
    modules = set()
    for name in imported_names(path):
        first, _, rest = name.partition(".")
        if first == "pushforward":
            while rest not in MODULES:
                rest = rest.rpartition(".")[0]
            modules.add(rest)
    return modules - {name_of(path)}


@cache
def graph() -> dict[str, set[str]]:
    return {module: modules_of(path) for module, path in MODULES.items() if module not in LAZY}


def reachable(start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for module in graph().get(waiting.pop(), set()) - seen:
            seen.add(module)
            waiting.append(module)
    return seen


def test_imports_run_downwards() -> None:
    pairs = [(module, target) for module, targets in graph().items() for target in targets]
    upwards = {
        (module, target or "the package")
        for module, target in pairs
        if (module != "__main__" if target in LAZY else level(target) < level(module))
    }
    assert not upwards


def test_no_modules_import_each_other_in_a_circle() -> None:
    after = {module: reachable(module) for module in graph()}
    circles = {
        tuple(sorted({module, *(other for other in reached if module in after.get(other, ()))}))
        for module, reached in after.items()
        if module in reached
    }
    assert not circles


def test_whole_training_steps_are_known_to_training_alone() -> None:
    for module, targets in graph().items():
        if is_in(module, "_fast.steps"):
            assert {room_of(target) for target in targets} <= STEPS_MAY_IMPORT, module
        elif not is_in(module, "training"):
            assert not any(is_in(target, "_fast.steps") for target in targets), module


def test_the_line_that_switches_fast_code_in_is_seen() -> None:
    inside = "if not PLAIN:\n    from ._fast.kernels.chunks import map_rows"
    (import_,) = [node for node in run_time_nodes(ast.parse(inside)) if isinstance(node, ast.ImportFrom)]
    assert import_.module == "_fast.kernels.chunks"


def test_nets_stand_alone_and_bijections_do_not_know_them() -> None:
    assert {room_of(target) for target in graph()["nets"]} <= {"_fast.kernels", "scale", "switch"}
    assert not [m for m, targets in graph().items() if is_in(m, "bijections") and "nets" in targets]


def loaded_by(statement: str) -> set[str]:
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(out.stdout.splitlines()[-1]))


def test_importing_costs_torch_and_nothing_more() -> None:
    everything = "import pushforward as pf; pf.Flow, pf.fit, pf.fit_table, pf.check, pf.toys, pf.save"
    assert not (loaded_by(everything) - loaded_by("import torch")) & HEAVY


def test_every_public_name_is_documented() -> None:
    names = [n for n in dir(pf) if not n.startswith("_") and n != "PyODFlow"]  # which needs PyOD
    assert "real_nvp" in names
    assert "importlib" not in names
    undocumented = [n for n in names if not (getattr(pf, n).__doc__ or "").strip()]
    assert not undocumented


@pytest.mark.parametrize("name", ["real_nvp", "fit", "Flow", "MLP", "Coupling", "Mixture"])
def test_help_gives_an_example(name: str) -> None:
    assert ">>>" in (getattr(pf, name).__doc__ or "")
