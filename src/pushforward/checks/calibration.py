"""Calibration: whether held-out rows fall where the density says, in latent space and in regions of high density."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from .evidence import Evidence
from .report import Section
from .stats import (
    BAD,
    DOUBTFUL,
    GOOD,
    UNKNOWN,
    Array,
    judge,
    ks_noise,
    ks_p,
    ks_two,
    ks_uniform,
    normal_quantile,
    share_within,
    spearman,
    worst,
)

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
_KS = (0.05, 0.12)  # good, bad: distances between distribution functions
_COVERAGE = (0.03, 0.1)
_CORRELATION = (0.07, 0.25)
_BASE_DRAWS = 50_000
_LEAST = 30
_TAILS = (0.05, 0.01, 0.001)
_LISTED = 10


def calibration(e: Evidence) -> Section:
    """Latent radius, marginal latents, their correlations, and coverage of regions of highest density, together."""
    section = Section("calibration", "Calibration", UNKNOWN, "")
    if len(e.test) < _LEAST:
        section.why = f"{len(e.test)} held-out rows are too few to see a distribution"
        return section
    if len(e.samples) == 0:
        section.verdict, section.why = BAD, "no sample of the model is a finite number"
        return section
    verdicts = {}
    z = e.subject.latent(e.test)
    if z is not None:
        finite = np.isfinite(z).all(1)
        section.figures["latents_not_finite"] = int((~finite).sum())
        if finite.sum() >= _LEAST:
            verdicts |= _of_latents(e, z[finite], section)
    verdicts["coverage"] = _coverage(e, section)
    section.figures["tests"] = verdicts
    section.verdict = worst(list(verdicts.values()))
    failed = [name for name, v in verdicts.items() if v in (BAD, DOUBTFUL)]
    if failed:
        passed = [name for name, v in verdicts.items() if v == GOOD]
        section.why = f"{_list(failed)} {'is' if len(failed) == 1 else 'are'} off"
        section.why += f", though {_list(passed)} {'passes' if len(passed) == 1 else 'pass'}" if passed else ""
    elif section.verdict == UNKNOWN:
        section.why = f"{len(e.test)} held-out rows leave room for a badly calibrated model"
    else:
        section.why = f"{_list(list(verdicts))} all agree with the density"
    return section


def tails(e: Evidence) -> Section:
    """The share of held-out rows in the outermost parts of the density, and the least likely of them."""
    section = Section("tails", "Tail mass", UNKNOWN, "")
    n, m = len(e.log_all), len(e.log_samples)
    order = np.argsort(np.nan_to_num(e.log_all, nan=-np.inf), kind="stable")[:_LISTED]
    listed = [{"row": int(e.numbers[i]), "log_density": float(e.log_all[i])} for i in order]
    section.figures["least_likely"] = listed
    if m == 0:
        section.verdict, section.why = BAD, "no sample of the model is a finite number"
        return section
    level = e.level(e.log_all)
    section.drawn["listed"] = listed
    verdicts, shares = [], {}
    for tail in _TAILS:
        share = float((level > 1 - tail).mean())
        noise = 2.6 * math.sqrt(tail * (1 - tail) * (1 / n + 1 / m)) + 1 / n
        shares[f"{tail:g}"] = {"share": share, "se": math.sqrt(max(share * (1 - share), tail * (1 - tail)) / n)}
        verdict = judge(share - tail, noise, max(0.2 * tail, 0.004), 0.02 + tail)
        if tail == _TAILS[0] and tail - share > max(noise, 0.02):
            verdict = DOUBTFUL
        verdicts.append(verdict)
        remark = f"of the held-out rows lie in the outermost {100 * tail:g} % of the model's mass"
        section.table.append(
            [f"outermost {100 * tail:g} %", f"{100 * share:.2f} +- {100 * shares[f'{tail:g}']['se']:.2f} %", remark]
        )
    section.figures["shares"] = shares
    beyond = int((level >= 1).sum())
    section.figures["beyond_all_samples"] = beyond
    section.table.append(["beyond all samples", f"{beyond:,} rows", f"less likely than each of {m:,} samples"])
    shown = ", ".join(f"{x['row']} ({x['log_density']:.4g})" for x in listed[:5])
    section.table.append(["least likely rows", "", f"{shown}; in brackets the log-density"])
    section.verdict = worst([v for v in verdicts if v != UNKNOWN] or [UNKNOWN])
    if n < _LEAST:
        section.verdict, section.why = UNKNOWN, f"{n} held-out row{'s are' if n > 1 else ' is'} too few to see a tail"
        return section
    main, tail = next(((t, v) for t, v in zip(_TAILS, verdicts, strict=True) if v == section.verdict))
    share = shares[f"{main:g}"]["share"]
    if section.verdict == GOOD:
        section.why = f"{100 * shares['0.01']['share']:.2f} % of the held-out rows lie in the model's outermost 1 %"
    elif share < main:
        section.why = (
            f"only {100 * share:.2f} % of the rows lie in the outermost {100 * main:g} %: the tails are too heavy"
        )
    else:
        section.why = (
            f"{100 * share:.2f} % of the rows lie in the model's outermost {100 * main:g} %: it misses some of them"
        )
    return section


def _of_latents(e: Evidence, z: Array, section: Section) -> dict[str, str]:
    n, d = z.shape
    base = e.subject.base_sample(_BASE_DRAWS, e.seed)
    if base is None:
        squared = torch.from_numpy((z**2).sum(1))
        radius = torch.special.gammainc(torch.tensor(d / 2, dtype=torch.float64), squared / 2).numpy()
        marginal = torch.special.ndtr(torch.from_numpy(z)).numpy()
        distances = [ks_uniform(u) for u in marginal.T]
        expected = np.eye(d)
        name, law = "latent radius", f"against chi^2 with {d} degree{'s' if d > 1 else ''} of freedom"
        section.drawn["radius"] = np.sqrt(np.sort(squared.numpy()))
        section.drawn["radius_is"] = name
        section.drawn["radius_law"] = np.sqrt(e.rng(3).chisquare(d, (60, n)))
    else:
        draws, log_density = base
        own = e.subject.base_log_prob(z)
        radius = 1 - share_within(own, log_density)
        marginal = np.stack([share_within(a, b) for a, b in zip(z.T, draws.T, strict=True)], 1)
        distances = [ks_two(a, b) for a, b in zip(z.T, draws.T, strict=True)]
        expected = spearman(draws[:5000])
        name, law = "latent density", "against draws of the base"
        section.drawn["radius"] = np.sort(-own)
        section.drawn["radius_is"] = "negative log-density of the latent"
        section.drawn["radius_law"] = -e.rng(3).choice(log_density, (60, n))
    # The base's own draws are many enough to count as the law itself.
    far = ks_uniform(radius)
    verdicts = {name: judge(far, ks_noise(n), *_KS)}
    section.figures["radius"] = {"ks": far, "p": ks_p(far, n)}
    section.table.append([name, f"{far:.3f}", f"KS distance {law}, {_p(ks_p(far, n))}"])

    worst_latent = int(np.argmax(distances))
    corrected = min(1.0, d * ks_p(distances[worst_latent], n))
    verdicts["marginal latents" if d > 1 else "latent"] = judge(distances[worst_latent], ks_noise(n, d), *_KS)
    section.figures["marginals"] = {"ks": distances, "worst": worst_latent, "p_corrected": corrected}
    label = f"latent {worst_latent + 1} of {d}, the worst" if d > 1 else "latent"
    remark = f"KS distance from the base, {_p(corrected)}" + (f", corrected for {d} tests" if d > 1 else "")
    section.table.append([label, f"{distances[worst_latent]:.3f}", remark])
    section.drawn["marginal"] = marginal
    section.drawn["order"] = np.argsort(distances)[::-1]

    if d > 1:
        difference = abs(spearman(z) - expected)
        np.fill_diagonal(difference, 0)
        i, j = np.unravel_index(int(difference.argmax()), difference.shape)
        noise = normal_quantile(1 - 0.005 / (d * (d - 1) / 2)) / math.sqrt(n - 1)
        noise *= 1 if base is None else math.sqrt(1 + n / 5000)
        value = float(difference[i, j])
        verdicts["latent correlation"] = judge(value, noise, *_CORRELATION)
        section.figures["correlation"] = {"largest": value, "latents": [int(i), int(j)], "noise": noise}
        remark = f"rank correlation left between two latents; chance alone gives up to {noise:.3f}"
        section.table.append(["latent correlation", f"{value:.3f}", remark])
    return verdicts


def _coverage(e: Evidence, section: Section) -> str:
    level = e.level(e.log_test)
    n, m = len(level), len(e.log_samples)
    found: list[dict[str, Any]] = []
    gaps, noises = [], []
    for nominal in LEVELS:
        actual = float((level <= nominal).mean())
        se = math.sqrt(nominal * (1 - nominal) * (1 / n + 1 / m))
        found.append({"level": nominal, "coverage": actual, "se": se})
        gaps.append(abs(actual - nominal))
        noises.append(2.9 * se)
    section.figures["coverage"] = found
    shown, asked, errors = (
        [f"{100 * f[k]:.{p}f}" for f in found] for k, p in (("coverage", 1), ("level", 0), ("se", 1))
    )
    remark = f"of the rows in the densest regions of mass {', '.join(asked)} %; errors {', '.join(errors)}"
    section.table.append(["coverage, %", ", ".join(shown), remark])
    section.drawn["level"] = np.sort(level)
    section.drawn["level_samples"] = m
    return worst([judge(gap, noise, *_COVERAGE) for gap, noise in zip(gaps, noises, strict=True)])


def _p(p: float) -> str:
    return f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
