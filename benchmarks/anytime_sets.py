"""The data sets of `anytime.py`: training, validation and test rows, and what is known about their density."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TABLES = ("miniboone", "bsds300", "photoz", "magic", "shuttle")
VAL_FRACTION = 0.1

Array = NDArray[np.float32]


def table(name: str, folder: Path) -> tuple[Array, Array, Array]:
    """-> training, validation and test rows in the units of the data; the same whenever it is called.

    miniboone has its official training split missing: trained on `val`. shuttle and magic are the normal rows, and the
    integers of shuttle get uniform noise once.
    """
    rng = np.random.default_rng(0)
    if name == "bsds300":
        train, val, test = (np.load(folder / name / f"{part}.npy") for part in ("train", "validation", "test"))
        return train, val, test
    if name == "miniboone":
        rest, test = (np.load(folder / name / f"{part}.npy") for part in ("val", "test"))
    elif name == "photoz":
        rest, test = (
            np.loadtxt(folder / name / f"{part}.csv", delimiter=",", skiprows=1, usecols=range(7))
            for part in ("train", "test")
        )
        rest, test = (x[np.isfinite(x).all(1)] for x in (rest, test))
    else:
        file = np.load(folder / "adbench" / {"magic": "22_magic.gamma.npz", "shuttle": "32_shuttle.npz"}[name])
        x = file["X"][file["y"] == 0].astype(np.float64)
        if name == "shuttle":
            x += rng.random(x.shape)
        x = x[rng.permutation(len(x))]
        held = len(x) // 5
        test, rest = x[:held], x[held:]
    rest = rest[rng.permutation(len(rest))]
    held = round(VAL_FRACTION * len(rest))
    val, train = rest[:held], rest[held:]
    return train.astype(np.float32), val.astype(np.float32), test.astype(np.float32)
