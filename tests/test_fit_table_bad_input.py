"""Tables and arguments that `fit_table` and `infer_schema` refuse: each with one clear line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import pushforward as pf
from pushforward.tables.columns import request_of

BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no rows": ({"a": []}, {}, "has no rows"),
    "a list": ([1, 2, 3], {}, "expected a pyarrow Table"),
    "text array": (np.array([["a"]]), {}, "array of numbers"),
    "infinity": ({"a": [1.0, np.inf, 2.0]}, {}, "'a' holds inf in row 2"),
    "unknown kind": ({"a": [1.5, 2.5]}, {"a": "number"}, "unknown kind 'number'"),
    "unknown column": ({"a": [1.5, 2.5]}, {"b": "real"}, "a column 'b' that the table has not"),
    "kind without bounds": ({"a": [1.5, 2.5]}, {"a": "bounded"}, "expected bounded:LOW:HIGH"),
    "kind with bad bounds": ({"a": [1.5, 2.5]}, {"a": "bounded:2:1"}, "expected bounded:LOW:HIGH"),
    "outside its bounds": ({"a": [1.5, 2.5]}, {"a": "bounded:0:2"}, "declared within 0 and 2"),
    "negative": ({"a": [-1.5, 2.5]}, {"a": "positive"}, "declared positive, but holds -1.5"),
    "not whole": ({"a": [1.5, 2.0]}, {"a": "integer"}, "declared integer, but holds 1.5"),
    "no date": ({"a": ["x", "y"]}, {"a": "date"}, "has cells that are none"),
    "text for a real": ({"a": ["x", "y"]}, {"a": "real"}, "holds text"),
    "every column left out": ({"a": [1.0, 2.0]}, {"a": "drop"}, "every column was left out"),
    "lists": ({"a": [[1], [2]]}, {}, "no number, date, text or category"),
    "one row": ({"a": [1.5]}, {}, "at least 2 rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_clear_line(name: str) -> None:
    table, kinds, message = BAD[name]
    with pytest.raises(ValueError, match=message) as caught:
        pf.fit_table(table, kinds=kinds, steps=1, progress="none", stack=False)
    assert "\n" not in str(caught.value)


def test_duplicate_names_and_bad_arguments() -> None:
    twice = pd.DataFrame([[1.5, 2.5]] * 30, columns=["a", "a"])
    with pytest.raises(ValueError, match="more than one column 'a'"):
        pf.infer_schema(twice)
    rows = {"a": np.linspace(0, 1, 40) ** 2}
    for arguments, message in (
        ({"recipe": "magic"}, "unknown recipe 'magic'"), ({"given": ["b"]}, "given column 'b'"),
        ({"given": ["a"]}, "every column is given"), ({"weights": np.ones(3)}, "weights of shape"),
        ({"weights": -np.ones(40)}, "not negative"), ({"val_fraction": 2.0}, "val_fraction"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            pf.fit_table(rows, **({"steps": 1, "progress": "none"} | arguments), stack=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown kind"):
        request_of(())
