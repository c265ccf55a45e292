"""Photometric redshifts: p(redshift | magnitudes and their errors) beside a linear Gaussian and a mixture density net.

The rows are simulated LSST galaxies (LSSTDESC/rail_base): six magnitudes, where 99 stands for no detection, their six
errors, and the redshift. All three learn from train.csv and are judged on test.csv: mean log-density of the redshift,
paired differences, and calibration on 4,000 of the test rows: the probability integral transform (PIT) of the redshift
against the uniform, and how often it lies in central intervals and in regions of highest density.

The table is given to `pf.fit_table` as it is. The baselines get what one would prepare for them: sentinels as the
median with an indicator beside, errors as logarithms, colours, all standardised. The mixture density network (Bishop
1994) has two layers of 128 and 10 Gaussians over the logarithm of the redshift; it is trained by AdamW with dropout
until the rows that it holds out (a tenth, as the flow does) no longer improve, and keeps its best weights. Beside the
default there is an average of several flows, trained at once.
"""

from __future__ import annotations

import argparse
import copy
import functools
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pushforward as pf
from common import RESULTS, write
from pushforward.io.frames import Frame
from pushforward.io.tables import read_table

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "photoz"
TARGET = "redshift"
MISSING = 99.0
LEVELS = (0.5, 0.9, 0.95)
GRID = np.concatenate([np.linspace(-2, 0, 81)[:-1], np.linspace(0, 3.5, 701), np.linspace(3.5, 5, 61)[1:]])
CALIBRATED = 4000
MEMBERS = 8

LogDensity = Callable[[np.ndarray, np.ndarray], np.ndarray]  # row numbers (N,), redshifts (N, G) -> (N, G)


def prepared(table: Frame, like: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """-> features (N, K) for the baselines, with medians of `like` (M, 12); the columns as they are (N, 12)."""
    names = [n for n in table.names if n != TARGET]
    x = table.matrix(names)
    like = x if like is None else like
    magnitudes = [i for i, n in enumerate(names) if not n.startswith("mag_err")]
    errors = [i for i, n in enumerate(names) if n.startswith("mag_err")]
    gone = (x[:, magnitudes] == MISSING).astype(float)
    middle = np.median(np.where(like == MISSING, np.nan, like)[:, magnitudes], axis=0)
    middle = np.where(np.isnan(middle), np.nanmedian(np.where(like == MISSING, np.nan, like)[:, magnitudes], 0), middle)
    m = np.where(gone > 0, middle, x[:, magnitudes])
    seen = gone[:, (like[:, magnitudes] == MISSING).any(0)]
    return np.hstack([m, m[:, :-1] - m[:, 1:], np.log(x[:, errors]), seen]), x


class LinearGaussian:
    """Least squares, with one variance."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        a = np.hstack([x, np.ones((len(x), 1))])
        self.weights = np.linalg.lstsq(a, y, rcond=None)[0]
        self.std = float((y - a @ self.weights).std())

    def log_prob(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        mean = x @ self.weights[:-1] + self.weights[-1]
        return -0.5 * ((y - mean[:, None]) / self.std) ** 2 - math.log(self.std) - 0.5 * math.log(2 * math.pi)


class MixtureDensityNetwork(nn.Module):
    """log p(y | x) of a positive y: a mixture of Gaussians over log y, whose parameters a network gives."""

    def __init__(self, features: int, components: int = 10, width: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.components = components
        self.net = nn.Sequential(
            nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(width, 3 * components),
        )  # fmt: skip
        with torch.no_grad():
            self.net[-1].bias[:components] = torch.linspace(-2, 2, components)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (N, K), standardised logarithms t (N, G) -> their log-densities (N, G)."""
        mean, raw, logits = self.net(x).split(self.components, 1)
        log_std = 4 * torch.tanh(raw / 4) - 1
        standard = (t[:, :, None] - mean[:, None]) * (-log_std)[:, None].exp()
        joint = -0.5 * standard**2 - log_std[:, None] - 0.5 * math.log(2 * math.pi) + logits.log_softmax(1)[:, None]
        return joint.logsumexp(2)


def trained_network(
    x: np.ndarray, y: np.ndarray, seed: int, epochs: int
) -> tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], float]:
    """-> log-density of (features (N, K), redshifts (N, G)), and its mean on the rows held out."""
    torch.manual_seed(seed)
    centre, spread = np.log(y).mean(), np.log(y).std()

    def log_prob(features: np.ndarray, z: np.ndarray) -> np.ndarray:
        safe = np.log(np.maximum(z, 1e-12))
        with torch.no_grad():
            t = torch.from_numpy((safe - centre) / spread).float()
            parts = zip(torch.from_numpy(features).float().split(500), t.split(500), strict=True)
            found = torch.cat([network.eval()(*part) for part in parts]).double().numpy()
        return np.where(z > 0, found - safe - math.log(spread), -np.inf)

    order = np.random.default_rng(seed).permutation(len(x))
    held, used = np.split(order, [len(order) // 10])
    network = MixtureDensityNetwork(x.shape[1])
    rows, t = torch.from_numpy(x[used]).float(), torch.from_numpy((np.log(y[used]) - centre) / spread).float()[:, None]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    best, kept, since = -math.inf, copy.deepcopy(network.state_dict()), 0
    for _ in range(epochs):
        network.train()
        for index in torch.randperm(len(rows)).split(256):
            loss = -network(rows[index], t[index]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        value = float(log_prob(x[held], y[held, None]).mean())
        since += 1
        if value > best:
            best, kept, since = value, copy.deepcopy(network.state_dict()), 0
        if since > epochs // 4:
            break
    network.load_state_dict(kept)
    return log_prob, best


def calibration(log_density: LogDensity, rows: np.ndarray, z: np.ndarray) -> dict[str, Any]:
    """PIT, coverage of central intervals and of regions of highest density, by densities on a grid."""
    width = np.gradient(GRID)
    pit, level, mass = (np.empty(len(rows)) for _ in range(3))
    for start in range(0, len(rows), 500):
        part = slice(start, start + 500)
        density = np.exp(log_density(rows[part], np.broadcast_to(GRID, (len(rows[part]), len(GRID)))))
        own = np.exp(log_density(rows[part], z[rows[part], None]))
        cells = density * width
        mass[part] = cells.sum(1)
        below = np.cumsum(cells, 1) - 0.5 * cells
        pit[part] = [np.interp(v, GRID, b / b[-1]) for v, b in zip(z[rows[part]], below, strict=True)]
        level[part] = (cells * (density > own)).sum(1) / mass[part]
    ordered, n = np.sort(pit), len(pit)
    ks = max((np.arange(1, n + 1) / n - ordered).max(), (ordered - np.arange(n) / n).max())
    central = {f"{v:g}": float((abs(pit - 0.5) <= v / 2).mean()) for v in LEVELS}
    return {
        "pit_ks": float(ks), "central": central, "hdr": {f"{v:g}": float((level <= v).mean()) for v in LEVELS},
        "mass": float(np.median(mass)), "pit": pit,
    }  # fmt: skip


def picture(found: dict[str, dict[str, Any]], densities: dict[str, LogDensity], z: np.ndarray, path: Path) -> None:
    """PIT histograms, and the conditional densities of eight galaxies from near to far."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = dict(zip(densities, ("#2a6f97", "#5a9e6f", "#e07a1f", "#999999"), strict=True))
    figure, axes = plt.subplots(3, 4, figsize=(14, 9), layout="constrained")
    for ax, (name, result) in zip(axes[0], found.items(), strict=True):
        ax.hist(result["pit"], 20, range=(0, 1), density=True, color=colours[name])
        ax.axhline(1, color="black", lw=0.8)
        ax.set(title=f"{name}\nKS distance {result['pit_ks']:.3f}", xlabel="PIT", ylim=(0, 3))
    order = np.argsort(z)
    places = np.array([0.03, 0.15, 0.3, 0.45, 0.6, 0.75, 0.87, 0.97]) * len(z)
    for ax, at in zip(axes[1:].flat, order[places.astype(int)], strict=True):
        grid = GRID[GRID > 0]
        for name, log_density in densities.items():
            ax.plot(grid, np.exp(log_density(np.array([at]), grid[None])[0]), color=colours[name], label=name)
        ax.axvline(z[at], color="black", ls="--", lw=1, label="true redshift")
        low, high = max(0, z[at] - 1.2), z[at] + 1.2
        ax.set(xlabel="redshift", xlim=(low, high), ylim=(0, None))
    axes[1, 0].legend(fontsize=7)
    axes[1, 0].set_ylabel("density")
    axes[2, 0].set_ylabel("density")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, help="of the flow's training; the library's default when not given")
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--epochs", type=int, default=200, help="of the network's training, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with train.csv and test.csv")
    args = parser.parse_args()
    if not (args.data / "train.csv").exists():
        print(f"photoz is absent: there is no {args.data / 'train.csv'}")
        return
    train, test = read_table(args.data / "train.csv"), read_table(args.data / "test.csv")
    names = [n for n in train.names if n != TARGET]
    (features, raw), y = prepared(train), train.matrix([TARGET])[:, 0]
    (test_features, test_raw), z = prepared(test, raw), test.matrix([TARGET])[:, 0]
    centre, spread = features.mean(0), features.std(0)
    features, test_features = (features - centre) / spread, (test_features - centre) / spread

    steps = {} if args.steps is None else {"steps": args.steps}
    start = time.perf_counter()
    density = pf.fit_table(train, given=names, recipe=args.recipe, seed=args.seed, progress="none", **steps)
    seconds = {"fit_table": time.perf_counter() - start}
    several = f"fit_table, members={MEMBERS}"
    start = time.perf_counter()
    ensemble = pf.fit_table(
        train, given=names, recipe=args.recipe, members=MEMBERS, seed=args.seed, progress="none", **steps
    )  # fmt: skip
    seconds[several] = time.perf_counter() - start
    start = time.perf_counter()
    of_network, network_val = trained_network(features, y, args.seed, args.epochs)
    seconds["mixture density network"] = time.perf_counter() - start
    linear = LinearGaussian(features, y)

    def of_flow(model: Any, rows: np.ndarray, grid: np.ndarray) -> np.ndarray:
        out = np.full(grid.shape, -np.inf)
        at = np.nonzero(grid > 0)
        table = {TARGET: grid[at]} | {n: test_raw[rows[at[0]], i] for i, n in enumerate(names)}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "given column")  # a sentinel that training never saw is told once
            out[at] = model.log_prob(table).numpy()
        return out

    densities: dict[str, LogDensity] = {
        "fit_table": functools.partial(of_flow, density),
        several: functools.partial(of_flow, ensemble),
        "mixture density network": lambda rows, grid: of_network(test_features[rows], grid),
        "linear Gaussian": lambda rows, grid: linear.log_prob(test_features[rows], grid),
    }
    everything = np.arange(len(z))
    scores = {name: log_density(everything, z[:, None])[:, 0] for name, log_density in densities.items()}
    chosen = np.random.default_rng(0).permutation(len(z))[:CALIBRATED]
    found = {name: calibration(log_density, chosen, z) for name, log_density in densities.items()}
    sentinel = (test_raw == MISSING).any(1)
    for name, score in scores.items():
        difference = scores["fit_table"] - score
        found[name] |= {
            "nats": float(score.mean()), "se": float(score.std() / math.sqrt(len(score))),
            "flow_above": float(difference.mean()), "flow_above_se": float(difference.std() / math.sqrt(len(score))),
            "with_sentinel": float(score[sentinel].mean()), "without": float(score[~sentinel].mean()),
            "least": np.sort(score)[:5].tolist(), "seconds": seconds.get(name, 0.0),
        }  # fmt: skip
    picture(found, densities, z, RESULTS / "photoz.png")
    kept = {name: {k: v for k, v in result.items() if k != "pit"} for name, result in found.items()}
    facts = {"train_rows": len(y), "test_rows": len(z), "sentinel_rows": int(sentinel.sum()), "val": network_val}
    inner = density.inner_flows(train[:1])
    recipe = inner[0].flow.recipe if inner else None
    training = {"recipe": recipe, "training": density.training_summary}
    write("photoz", {"protocol": __doc__, **facts, **training, "results": kept}, table(kept))


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "| density of redshift | nats per row | flow above it | rows with a 99 | PIT, KS | "
        "central 50, 90, 95 % | highest density 50, 90, 95 % | s |",
        "|---" * 8 + "|",
    ]
    for name, r in found.items():
        coverage = [", ".join(f"{100 * v:.1f}" for v in r[k].values()) for k in ("central", "hdr")]
        above = "" if name == "fit_table" else f"{r['flow_above']:.3f} +- {r['flow_above_se']:.3f}"
        lines.append(
            f"| {name} | {r['nats']:.3f} +- {r['se']:.3f} | {above} | {r['with_sentinel']:.3f} | {r['pit_ks']:.3f} | "
            f"{' | '.join(coverage)} | {r['seconds']:.0f} |"
        )
    return lines


if __name__ == "__main__":
    main()
