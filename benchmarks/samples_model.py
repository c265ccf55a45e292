"""One model of `samples.py` in a process and an environment of its own: learns a table, draws rows.

    python benchmarks/samples_model.py MODEL FOLDER ROWS SEED OUT

FOLDER holds train.csv and kinds.json (each column a number or a category). The rows go to OUT as CSV, and a line of
JSON with the seconds of learning and drawing, importing left out, to stdout. This file imports pandas and what the
model needs, nothing of pushforward but for pushforward's own model.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

Kinds = dict[str, str]
Drawn = Callable[[pd.DataFrame, Kinds, int, int], pd.DataFrame]
MISSING = "<missing>"  # as a category of its own
MOST_CATEGORICAL = 10  # ForestDiffusion takes its columns' numbers as prefixes of names: 1_ is part of 11_, too


def read(path: Path, kinds: Kinds) -> pd.DataFrame:
    """A CSV with categories as text; only empty cells are missing."""
    text = {c: str for c, kind in kinds.items() if kind == "category"}
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])


def pushforward() -> Drawn:
    import pushforward as pf

    def draw(train: pd.DataFrame, kinds: Kinds, rows: int, seed: int) -> pd.DataFrame:
        density = pf.fit_table(train, seed=seed, progress="none")
        return density.sample(rows, generator=seed).to_pandas()

    return draw


def of_sdv(name: str) -> Drawn:
    """A synthesizer of SDV with its defaults, told the kind of each column."""
    import sdv.single_table
    from sdv.metadata import Metadata

    def draw(train: pd.DataFrame, kinds: Kinds, rows: int, seed: int) -> pd.DataFrame:
        import numpy as np
        import torch

        np.random.seed(seed)
        torch.manual_seed(seed)
        columns = {c: {"sdtype": "numerical" if k == "number" else "categorical"} for c, k in kinds.items()}
        described = {"tables": {"rows": {"columns": columns}}, "relationships": [], "METADATA_SPEC_VERSION": "V2"}
        model = getattr(sdv.single_table, f"{name}Synthesizer")(Metadata.load_from_dict(described))
        model.fit({"rows": train})
        return model.sample(rows)["rows"]

    return draw


def argn() -> Drawn:
    """TabularARGN of mostlyai-engine with its defaults, without the protection of rare values, which ours has not."""
    from mostlyai.engine import TabularARGN

    def draw(train: pd.DataFrame, kinds: Kinds, rows: int, seed: int) -> pd.DataFrame:
        model = TabularARGN(value_protection=False, random_state=seed).fit(X=train)
        return model.sample(n_samples=rows)

    return draw


def forest() -> Drawn:
    """ForestDiffusion's flow matching with its defaults.

    It never draws a missing cell: a category has "missing" as a value, and a number an indicator beside its median.
    """
    import numpy as np
    from ForestDiffusion import ForestDiffusionModel

    def draw(train: pd.DataFrame, kinds: Kinds, rows: int, seed: int) -> pd.DataFrame:
        x, names, labels = encoded(train, kinds)
        width = {n: len(labels[n]) for n in labels}
        categorical = [i for i, n in enumerate(names) if width.get(n, 0) > 2]
        if len(categorical) > MOST_CATEGORICAL:
            raise ValueError(f"ForestDiffusion mixes up more than {MOST_CATEGORICAL} columns of categories")
        binary = [i for i, n in enumerate(names) if 0 < width.get(n, 0) <= 2 or n not in kinds]
        whole = [
            i for i, n in enumerate(names) if n not in labels and n in kinds and (x[:, i] == np.round(x[:, i])).all()
        ]
        model = ForestDiffusionModel(
            x, label_y=None, diffusion_type="flow", bin_indexes=binary, cat_indexes=categorical, int_indexes=whole,
            seed=seed,
        )  # fmt: skip
        return decoded(model.generate(batch_size=rows), names, labels, list(train.columns))

    return draw


def encoded(train: pd.DataFrame, kinds: Kinds) -> tuple[Any, list[str], dict[str, list[Any]]]:
    """-> a matrix of numbers, its columns' names (categories first, "NAME?" a missing cell of NAME), and categories."""
    columns, labels = {}, {}
    for name, kind in kinds.items():
        if kind == "category":
            codes, values = pd.factorize(train[name].astype(object).where(train[name].notna(), MISSING), sort=True)
            columns[name], labels[name] = codes, list(values)
    order = sorted(columns, key=lambda n: -len(labels[n]))
    for name, kind in kinds.items():
        if kind == "number":
            missing = train[name].isna()
            columns[name] = train[name].fillna(train[name].median())
            order.append(name)
            if missing.any():
                columns[f"{name}?"] = missing
                order.append(f"{name}?")
    return pd.DataFrame(columns)[order].to_numpy(float), order, labels


def decoded(x: Any, names: list[str], labels: dict[str, list[Any]], order: list[str]) -> pd.DataFrame:
    """The reverse of `encoded`, with the columns in their order."""
    frame = pd.DataFrame(x, columns=names)
    for name, values in labels.items():
        drawn = [values[int(code)] for code in frame[name].round().clip(0, len(values) - 1)]
        frame[name] = [None if value == MISSING else value for value in drawn]
    for name in names:
        if name.endswith("?") and name[:-1] in names:
            frame[name[:-1]] = frame[name[:-1]].where(frame[name] < 0.5)
    return frame[order]


MODELS: dict[str, Callable[[], Drawn]] = {
    "pushforward": pushforward,
    "GaussianCopula": lambda: of_sdv("GaussianCopula"),
    "TVAE": lambda: of_sdv("TVAE"),
    "CTGAN": lambda: of_sdv("CTGAN"),
    "TabularARGN": argn,
    "ForestDiffusion": forest,
}


def main() -> None:
    model, folder, rows, seed, out = sys.argv[1:]
    kinds = json.loads((Path(folder) / "kinds.json").read_text())
    train = read(Path(folder) / "train.csv", kinds)
    draw = MODELS[model]()
    start = time.perf_counter()
    drawn = draw(train, kinds, int(rows), int(seed))
    seconds = time.perf_counter() - start
    drawn[list(kinds)].to_csv(out, index=False)
    print(json.dumps({"seconds": seconds, "rows": len(drawn)}))


if __name__ == "__main__":
    main()
