"""Calibration: whether held-out rows fall where the density says, in latent space and in regions of high density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..bases import Base, StandardNormal
from .evidence import Evidence, as_array
from .report import Section
from .stats import BAD, DOUBTFUL, UNKNOWN, Array, ks_noise, ks_two, normal_noise, placements, spearman, worst
from .thresholds import enough, rate

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
_BASE_DRAWS, _RANKED_DRAWS = 50_000, 5000
_LEAST = 30
_CURVES = 60  # drawn from the law for the band of a picture


@dataclass
class _Latents:
    """N latents under their law.

    Attributes:
        name: of the radius, or of what stands for it.
        law: what the radius is compared with, in words.
        radius: (N,), the mass of the law within each latent's radius: uniform if the model is right.
        marginal: (N, D), that below each latent's coordinates.
        distances: of each coordinate's distribution from the law's (D,).
        expected: rank correlations of the law (D, D).
        radii: what a picture shows of the latents, in order (N,), under the name `radii_are`.
        radii_law: so many draws of the same from the law (60, N).
        widened: how much wider chance is by the law's own draws, in rank correlations.
    """

    name: str
    law: str
    radius: Array
    marginal: Array
    distances: list[float]
    expected: Array
    radii: Array
    radii_are: str
    radii_law: Array
    widened: float = 1.0


def calibration(e: Evidence) -> Section:
    """Latent radius, marginal latents, their correlations, and coverage of regions of highest density, together."""
    section = Section("calibration", "Calibration")
    if len(e.test) < _LEAST:
        section.missing = f"{len(e.test)} held-out rows are too few to see a distribution"
        return section
    if len(e.samples) == 0:
        section.add("coverage", BAD, "no sample of the model is a finite number")
        return section
    _coverage(e, section)
    with torch.no_grad():
        z = e.density.latent(e.test.values, e.test.context)
    if z is not None and z.numel():
        z = as_array(z.flatten(1))
        finite = np.isfinite(z).all(1)
        section.figures["latents_not_finite"] = int((~finite).sum())
        if finite.sum() >= _LEAST:
            _compare(_under_law(e, z[finite]), z[finite], section)
    return section


def _under_law(e: Evidence, z: Array) -> _Latents:
    """Latents (N, D) under the base of the flow that they are of; standard normal where there is none."""
    flows = e.density.inner_flows(e.test[np.arange(1)].values, None if e.test.context is None else e.test.context[:1])
    base = flows[0].flow.base if len(flows) == 1 else None
    if base is None or isinstance(base, StandardNormal):
        return _under_normal(z, e.rng(3))
    return _under_draws(base, z, e.seed, e.rng(3))


def _under_normal(z: Array, rng: np.random.Generator) -> _Latents:
    from scipy.stats import chi2, kstest, norm

    n, d = z.shape
    squared = (z**2).sum(1)
    marginal = norm.cdf(z)
    return _Latents(
        name="latent radius",
        law=f"against chi^2 with {d} degree{'s' if d > 1 else ''} of freedom",
        radius=chi2(d).cdf(squared),
        marginal=marginal,
        distances=[float(kstest(u, "uniform").statistic) for u in marginal.T],
        expected=np.eye(d),
        radii=np.sqrt(np.sort(squared)),
        radii_are="latent radius",
        radii_law=np.sqrt(rng.chisquare(d, (_CURVES, n))),
    )


@torch.no_grad()
def _under_draws(base: Base, z: Array, seed: int, rng: np.random.Generator) -> _Latents:
    """Under a base that is no standard normal: its own draws are many enough to count as the law itself."""
    own = next((t for group in (base.parameters(), base.buffers()) for t in group if t.is_floating_point()), None)
    device = None if own is None else own.device
    drawn = base.sample(_BASE_DRAWS, generator=torch.Generator(device or "cpu").manual_seed(seed))
    log_law = as_array(base.log_prob(drawn))
    log_prob = as_array(base.log_prob(torch.from_numpy(z).view(-1, *base.shape).to(drawn)))
    draws = as_array(drawn.flatten(1))
    columns = list(zip(z.T, draws.T, strict=True))
    return _Latents(
        name="latent density",
        law="against draws of the base",
        radius=1 - placements(log_law, log_prob),
        marginal=np.stack([placements(b, a) for a, b in columns], 1),
        distances=[ks_two(a, b) for a, b in columns],
        expected=spearman(draws[:_RANKED_DRAWS])[0],
        radii=np.sort(-log_prob),
        radii_are="negative log-density of the latent",
        radii_law=-rng.choice(log_law, (_CURVES, len(z))),
        widened=math.sqrt(1 + len(z) / _RANKED_DRAWS),
    )


def _compare(latents: _Latents, z: Array, section: Section) -> None:
    """Findings on latents z (N, D)."""
    from scipy.stats import kstest, kstwo

    n, d = z.shape
    far = kstest(latents.radius, "uniform")
    section.figures["radius"] = {"ks": float(far.statistic), "p": float(far.pvalue)}
    section.table.append([latents.name, f"{far.statistic:.3f}", f"KS distance {latents.law}, {_p(far.pvalue)}"])

    order = np.argsort(latents.distances)[::-1]
    worst_latent = int(order[0])
    distance = latents.distances[worst_latent]
    corrected = min(1.0, d * float(kstwo.sf(distance, n)))
    largest, which = max((float(far.statistic), latents.name), (distance, f"latent {worst_latent + 1}"))
    section.add(
        "latents",
        rate("latents", largest, ks_noise(n, d + 1)),
        f"the shares of held-out rows along {which} are off by up to {100 * largest:.1f} points (KS distance)",
    )
    section.figures["marginals"] = {"ks": latents.distances, "worst": worst_latent, "p_corrected": corrected}
    label = f"latent {worst_latent + 1} of {d}, the worst" if d > 1 else "latent"
    remark = f"KS distance from the base, {_p(corrected)}" + (" (of all)" if d > 1 else "")
    section.table.append([label, f"{distance:.3f}", remark])
    section.plot_data |= {
        "radius": latents.radii, "radius_is": latents.radii_are, "radius_law": latents.radii_law,
        "marginal": latents.marginal, "order": order,
    }  # fmt: skip
    if d > 1:
        difference = abs(spearman(z)[0] - latents.expected)
        np.fill_diagonal(difference, 0)
        i, j = np.unravel_index(int(difference.argmax()), difference.shape)
        noise = normal_noise(d * (d - 1) / 2, sides=2) / math.sqrt(n - 1) * latents.widened
        value = float(difference[i, j])
        why = f"latents {i + 1} and {j + 1} are left with a rank correlation of {value:.3f}"
        section.add("latent_correlation", rate("latent_correlation", value, noise), why)
        section.figures["correlation"] = {"largest": value, "latents": [int(i), int(j)], "noise": noise}
        remark = f"largest rank correlation of two latents; chance gives up to {noise:.3f}"
        section.table.append(["latent correlation", f"{value:.3f}", remark])


def _coverage(e: Evidence, section: Section) -> None:
    """The finding on regions of highest density."""
    level = e.level(e.log_test)
    n, m = len(level), len(e.log_samples)
    shares = [float((level <= nominal).mean()) for nominal in LEVELS]
    errors = [math.sqrt(nominal * (1 - nominal) * (1 / n + 1 / m)) for nominal in LEVELS]
    section.figures["coverage"] = [
        {"level": nominal, "coverage": share, "se": se}
        for nominal, share, se in zip(LEVELS, shares, errors, strict=True)
    ]
    figure = ", ".join(f"{100 * share:.1f}" for share in shares)
    asked = ", ".join(f"{100 * nominal:.0f}" for nominal in LEVELS)
    section.table.append(["coverage, %", figure, f"of the rows in the densest {asked} % of the mass"])
    section.plot_data |= {"level": np.sort(level), "level_samples": m}
    z = normal_noise(len(LEVELS), sides=2)
    gaps = [abs(share - nominal) for share, nominal in zip(shares, LEVELS, strict=True)]
    verdicts = [rate("coverage", gap, z * se + 1 / n) for gap, se in zip(gaps, errors, strict=True)]
    verdict = worst(verdicts)
    i = max((k for k in range(len(LEVELS)) if verdicts[k] == verdict), key=lambda k: gaps[k])
    chance = z * errors[i] + 1 / n
    low, high = max(0.0, LEVELS[i] - chance), min(1.0, LEVELS[i] + chance)
    why = (
        f"the densest region that should hold {100 * LEVELS[i]:.0f} % of the rows holds {100 * shares[i]:.1f} % of the "
        f"held-out rows, where chance allows {100 * low:.0f} to {100 * high:.0f} %"
    )
    if verdict in (BAD, DOUBTFUL):
        is_low = shares[i] < LEVELS[i]
        why += f". Rows lie {'farther out' if is_low else 'closer together'} than the model says: it is "
        why += "too narrow, or its mass lies beside them" if is_low else "too wide"
    elif verdict == UNKNOWN:
        widest = max(z * se + 1 / n for se in errors)
        why += f", and {n} rows could hide a badly calibrated model{enough('coverage', widest, n, e.total)}"
    section.add("coverage", verdict, why)


def _p(p: float) -> str:
    return f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"
