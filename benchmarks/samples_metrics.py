"""SDMetrics' column shapes and pair trends of tables against held-out rows; runs where SDMetrics is installed.

    python benchmarks/samples_metrics.py FOLDER FILE...

FOLDER holds test.csv and kinds.json. Prints a line of JSON: for each file its two scores (1 is best; None where
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


PROPERTIES = {"shapes": "Column Shapes", "trends": "Column Pair Trends"}


def main() -> None:
    folder, *files = sys.argv[1:]
    warnings.filterwarnings("ignore")
    kinds = json.loads((Path(folder) / "kinds.json").read_text())
    real = read(Path(folder) / "test.csv", kinds)
    result: dict[str, Any] = {}
    for file in files:
        try:
            result[file] = scores(real, read(Path(file), kinds), kinds)
        except Exception as error:
            result[file] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
