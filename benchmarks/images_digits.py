"""scikit-learn's digits as bytes, for `images*.py`: `python benchmarks/images_digits.py digits.npz`.

The 1,797 grey images of 8 x 8 pixels have 17 shades, here 0, 15, ..., 240; 300 are for the test.
"""

from __future__ import annotations

import sys

import numpy as np
from sklearn.datasets import load_digits

TEST = 300


def main() -> None:
    images = (15 * load_digits().images).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    np.savez(sys.argv[1], x_train=images[order[TEST:]], x_test=images[order[:TEST]])


if __name__ == "__main__":
    main()
