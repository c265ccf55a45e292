"""SDMetrics' column shapes and pair trends of tables against held-out rows; runs where SDMetrics is installed.

Pair trends come twice. SDMetrics cuts the numbers of a table into bins between its own smallest and largest one, so
that a single sample far out moves all bins: the second are of numbers clipped to the range of the held-out rows.

    python benchmarks/samples_metrics.py FOLDER FILE...

FOLDER holds test.csv and kinds.json. Prints a line of JSON: for each file its scores (1 is best; None where
SDMetrics finds no pair of columns to score), or its error.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

from samples_model import read


def scores(real: Any, drawn: Any, kinds: dict[str, str]) -> dict[str, float | None]:
    """The properties of SDMetrics' quality report."""
    from sdmetrics.reports import QualityReport

    columns = {c: {"sdtype": "numerical" if k == "number" else "categorical"} for c, k in kinds.items()}
    report = QualityReport()
    metadata = {"tables": {"rows": {"columns": columns}}, "relationships": [], "METADATA_SPEC_VERSION": "V2"}
    report.generate({"rows": real}, {"rows": drawn}, metadata, verbose=False)
    found = dict(report.get_properties().itertuples(index=False))
    return {k: None if math.isnan(found[p]) else float(found[p]) for k, p in PROPERTIES.items()}


def clipped(table: Any, real: Any, kinds: dict[str, str]) -> Any:
    """A table with its numbers no further out than those of the real one."""
    numbers = [c for c, kind in kinds.items() if kind == "number"]
    return table.assign(**{c: table[c].clip(real[c].min(), real[c].max()) for c in numbers})


PROPERTIES = {"shapes": "Column Shapes", "trends": "Column Pair Trends"}


def main() -> None:
    folder, *files = sys.argv[1:]
    warnings.filterwarnings("ignore")
    kinds = json.loads((Path(folder) / "kinds.json").read_text())
    real = read(Path(folder) / "test.csv", kinds)
    result: dict[str, Any] = {}
    for file in files:
        try:
            table = read(Path(file), kinds)
            within = scores(real, clipped(table, real, kinds), kinds)["trends"]
            result[file] = scores(real, table, kinds) | {"trends_within": within}
        except Exception as error:
            result[file] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
