"""How well boosted trees tell rows of one file from the held-out rows of a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samples_model import read

FOLDS = 5
MOST_CATEGORIES = 200  # of a column that the trees take as categories; wider ones as numbers by their rank


def features(first: Any, second: Any, kinds: dict[str, str]) -> tuple[NDArray[np.float64], list[bool]]:
    """-> both frames' rows as one matrix, categories as codes of both; which columns are categories to the trees."""
    import pandas as pd

    both = pd.concat([first[list(kinds)], second[list(kinds)]], ignore_index=True)
    columns, categorical = [], []
    for name, kind in kinds.items():
        if kind == "number":
            columns.append(pd.to_numeric(both[name], errors="coerce").to_numpy(float))
        else:
            codes = pd.factorize(both[name], sort=True)[0].astype(float)
            columns.append(np.where(codes < 0, np.nan, codes))
        categorical.append(kind == "category" and np.nanmax(columns[-1], initial=0) < MOST_CATEGORIES)
    return np.stack(columns, 1), categorical


def auc(drawn: Any, real: Any, kinds: dict[str, str], seed: int) -> float:
    """Area under the ROC curve of cross-validated boosted trees that tell two frames of as many rows apart."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x, categorical = features(drawn, real, kinds)
    y = np.repeat([1, 0], [len(drawn), len(real)])
    model = HistGradientBoostingClassifier(categorical_features=categorical, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return float(roc_auc_score(y, cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1]))


def auc_of(file: Path, folder: Path, draws: int, seed: int) -> float:
    """The mean AUC of as many parts of a file, drawn at random, each of as many rows as are held out."""
    kinds = json.loads((folder / "kinds.json").read_text())
    drawn, real = read(file, kinds), read(folder / "test.csv", kinds)
    order = np.random.default_rng(seed).permutation(len(drawn))
    parts = [order[i * len(real) : (i + 1) * len(real)] for i in range(draws)]
    return float(np.mean([auc(drawn.iloc[part], real, kinds, seed) for part in parts if len(part) > FOLDS]))
