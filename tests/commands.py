"""Running commands of the command line in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from pushforward import cli

TINY = ["--no-stack", "--steps", "20", "--depth", "2", "--width", "8", "--progress", "none"]


def run(*args: Any) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in args])


def good(*args: Any, code: int = 0) -> dict[str, Any]:
    """Runs a command that must succeed; its figures."""
    result = run(*args, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1])


def bad(*args: Any) -> str:
    """Runs a command that must fail in one line, warnings aside; the line."""
    result = run(*args)
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def write_csv(path: Path, names: str, rows: Any) -> Path:
    lines = [",".join(str(cell) for cell in row) for row in (rows.tolist() if isinstance(rows, np.ndarray) else rows)]
    path.write_text("\n".join([names, *lines]) + "\n")
    return path
