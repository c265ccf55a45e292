"""What the source may hold: short files, of tests too, short functions, and each thing in its own room."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pushforward as pf

SOURCE = Path(pf.__file__).parent
TEXT = {str(path.relative_to(SOURCE)): path.read_text() for path in sorted(SOURCE.rglob("*.py"))}
TESTS = Path(__file__).parent

KINDS = r"Flow|Mixture|TableDensity|StatesThenNumbers|Baseline"
PARTS = "bijection|base|recipe|layout|mass|inner|flow|flows|densities|members|weights"
DATA_SETS = r"(?i)\b(bsds\w*|miniboone|shuttle|magic|photoz|moons|beijing|covertype|taxis?|adult|hepmass)\b"


def files_with(pattern: str, *, but: tuple[str, ...] = ()) -> set[str]:
    """Lines of code that match, as file: line."""
    return {
        f"{file}: {line.strip()}"
        for file, text in TEXT.items()
        if not file.startswith(but)
        for line in text.splitlines()
        if re.search(pattern, line)
    }


def test_files_stay_short() -> None:
    assert not {file for file, text in TEXT.items() if len(text.splitlines()) > 400}


def test_files_of_tests_stay_short() -> None:
    assert not {path.name for path in TESTS.rglob("*.py") if len(path.read_text().splitlines()) > 450}


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Of the body, without the docstring."""
    first = node.body[0]
    is_documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (node.end_lineno or 0) - ((first.end_lineno or 0) if is_documented else first.lineno - 1)


def test_functions_fit_a_screen() -> None:
    long = {
        f"{file}: {node.name}"
        for file, text in TEXT.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > 50
    }
    assert not long


def test_private_operators_of_torch_are_in_the_fast_room_alone() -> None:
    assert not files_with(r"torch\.ops\.aten|torch\._C|mkldnn", but=("_fast/", "switch.py"))


def test_the_rule_knows_no_data_set_by_name() -> None:
    assert not {name.lower() for name in re.findall(DATA_SETS, TEXT["training/auto.py"])}


def questions(text: str) -> set[str]:
    """Calls that ask of what make a density is."""
    asked = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and len(node.args) == 2:
            question, about = ast.unparse(node.func), ast.unparse(node.args[1])
            if question in ("isinstance", "issubclass") and re.search(rf"\b({KINDS})\b", about):
                asked.add(ast.unparse(node))
            if question == "hasattr" and re.fullmatch(rf"'({PARTS})'", about):
                asked.add(ast.unparse(node))
    return asked


def test_nobody_asks_of_what_make_a_density_is() -> None:
    own = (
        "flow.py",
        "density.py",
        "mixture.py",
        "baselines/",
        "tables/",
        "images/",
        "io/flows.py",
        "training/",
        "_fast/",
    )
    asked = {f"{file}: {q}" for file, text in TEXT.items() if not file.startswith(own) for q in questions(text)}
    assert not asked
