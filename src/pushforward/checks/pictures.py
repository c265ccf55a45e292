"""The pictures of a report: samples over data, log-densities, calibration, ROC curves, columns, nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter

from ..plots import images, pairs, style
from .stats import Array

if TYPE_CHECKING:
    from .report import Report

_REAL = "#228833"
_PAIRED, _LATENTS, _BARS = 5, 9, 18
_BAND = 1.96


Drawn = list[tuple[str, Figure]]  # captions and figures


@style.without_pyplot()
def pictures(report: Report) -> dict[str, Drawn]:
    """The name of a section -> captions and figures; "overview" holds those of the whole."""
    drawn: dict[str, Drawn] = {"overview": [], **{section.name: [] for section in report}}
    data = report.plot_data
    if not data:
        return drawn
    if all(shown is not None and len(shown) for shown in data["pictures"].values()):
        drawn["overview"].append(("Held-out rows beside samples.", _grids(data["pictures"])))
    if len(data["test"]) and len(data["samples"]) and data["names"]:
        caption = "Held-out rows and samples"
        if len(data["names"]) > 1:
            caption += ": single rows, and of many the contours that hold 50 and 90 % of the mass"
        drawn["overview"].append((f"{caption}.", _pairs(report)))
    if "log_test" in data and np.isfinite(data["log_test"]).any() and len(data["log_samples"]):
        caption = "Log-densities. If the model is right, held-out rows and samples have the same histogram."
        drawn["likelihood"].append((caption, _log_densities(data)))
    for name, key, draw, caption in _PICTURES:
        if name in drawn and key in report[name].plot_data:
            drawn[name].append((caption, draw(report[name].plot_data)))
    return {name: [_in_words(report, *one) for one in each] for name, each in drawn.items()}


def _in_words(report: Report, caption: str, fig: Figure) -> tuple[str, Figure]:
    """A picture with the words of the report's rows."""
    for text in fig.findobj(Text):
        text.set_text(report.worded(text.get_text()))
    return report.worded(caption), fig


def _grids(pictures: dict[str, Array]) -> Figure:
    """Some rows of each kind, as pictures side by side."""
    axes, fig = style.panels(None, 1, len(pictures), (4.2 * len(pictures), 2.6))
    for ax, (name, shown) in zip(axes.flat, pictures.items(), strict=True):
        images(shown, columns=8, title=name, ax=ax)
    return fig


def _pairs(report: Report) -> Figure:
    """The columns that samples get most wrong, and then the others, numbers before indicators of categories."""
    data = report.plot_data
    compared = next((section.figures for section in report if section.name == "columns"), {})
    far = {f["column"]: f["ks"] for f in compared.get("columns", [])}
    number = np.arange(len(data["names"]))
    order = sorted(number, key=lambda i: (data["indicator"][i], -far.get(data["names"][i], 0.0)))
    keep = sorted(order[:_PAIRED])
    names = [data["names"][i] for i in keep]
    axes = pairs(data["samples"][:, keep], data["test"][:, keep], columns=names, labels=("held-out rows", "samples"))
    legend = axes[0, -1].get_legend()
    if legend is not None and len(number) > len(keep):
        legend.set_title(f"the {len(keep)} columns farthest off" if far else f"{len(keep)} of {len(number)} columns")
    return _figure(axes[0, 0])


def _log_densities(data: dict[str, Any]) -> Figure:
    ax = style.figure_of(None, (5.2, 3.4))
    kinds = [("held-out rows", data["log_test"], style.DATA), ("samples", data["log_samples"], style.MODEL)]
    if data["log_train"] is not None:
        kinds.insert(1, ("training rows", data["log_train"], _REAL))
    finite = [(label, v[np.isfinite(v)], colour) for label, v, colour in kinds]
    every = np.concatenate([v for _, v, _ in finite])
    low, high = np.quantile(every, [0.003, 1.0])
    margin = 0.04 * (high - low) + 1e-9
    if beyond := int((every < low - margin).sum()):
        _note(ax, f"{beyond:,} lower", "left")
    _histograms(ax, finite, (low - margin, high + margin))
    ax.set(xlim=(low - margin, high + margin), yticks=[])
    style.dress(ax, x="log-density of a row  [nats]", y="share")
    _legend(ax, "upper left")
    return _figure(ax)


def _radius(data: dict[str, Any]) -> Figure:
    ax = style.figure_of(None, (3.8, 3.8))
    actual, law = data["radius"], np.sort(data["radius_law"], 1)
    middle, spread = np.median(law, 0), _BAND * law.std(0)
    ax.fill_between(middle, middle - spread, middle + spread, color=style.RULE, alpha=0.5, linewidth=0)
    ax.plot(middle[[0, -1]], middle[[0, -1]], color=style.INK, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.plot(middle, actual, ".", color=style.DATA, markersize=3, rasterized=True)
    # One row far outside must not squeeze the rest into a corner.
    top = max(middle[-1], min(actual[-1], middle[-1] + 0.8 * (middle[-1] - middle[0])))
    low = min(middle[0], max(actual[0], middle[0] - 0.3 * (middle[-1] - middle[0])))
    pad = 0.04 * (top - low)
    ax.set(xlim=(middle[0] - pad, middle[-1] + pad), ylim=(low - pad, top + pad), box_aspect=1)
    style.dress(ax, x=f"expected {data['radius_is']}", y="found", closed=True)
    if beyond := int((actual > top).sum()):
        _note(ax, f"{beyond} above")
    return _figure(ax)


def _coverage(data: dict[str, Any]) -> Figure:
    ax = style.figure_of(None, (3.8, 3.8))
    level, m = data["level"], data["level_samples"]
    nominal = np.linspace(0, 1, 201)
    excess = np.searchsorted(level, nominal, "right") / len(level) - nominal
    excess[-1] = 0.0
    band = _BAND * np.sqrt(nominal * (1 - nominal) * (1 / len(level) + 1 / m))
    ax.fill_between(nominal, -band, band, color=style.RULE, alpha=0.5, linewidth=0)
    ax.axhline(0, color=style.INK, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.plot(nominal, excess, color=style.DATA, linewidth=1.6)
    reach = max(1.3 * abs(excess).max(), 0.03)
    ax.set(xlim=(0, 1), ylim=(-reach, reach), box_aspect=1)
    style.dress(ax, x="mass of the region", y="share of rows in it, less its mass", closed=True)
    ax.xaxis.set_major_formatter(PercentFormatter(1, 0))
    ax.yaxis.set_major_formatter(PercentFormatter(1, 0 if reach > 0.06 else 1))
    _note(ax, "over the line: too wide\nunder the line: too narrow", "left")
    return _figure(ax)


def _marginals(data: dict[str, Any]) -> Figure:
    shown = [int(i) for i in data["order"][:_LATENTS]]
    across = min(len(shown), 3)
    down = math.ceil(len(shown) / across)
    axes, fig = style.panels(None, down, across, (2.5 * across + 0.4, 1.5 * down + 0.5))
    for i, ax in enumerate(axes.flat):
        if i >= len(shown):
            ax.set_axis_off()
            continue
        u = data["marginal"][:, shown[i]]
        bins = int(min(max(len(u) / 40, 5), 25))
        heights = np.histogram(u, bins, (0, 1))[0] * bins / len(u)
        noise = _BAND * math.sqrt((bins - 1) / len(u))
        ax.axhspan(1 - noise, 1 + noise, color=style.RULE, alpha=0.5, linewidth=0)
        ax.stairs(heights, np.linspace(0, 1, bins + 1), fill=True, color=style.DATA, alpha=0.25)
        ax.stairs(heights, np.linspace(0, 1, bins + 1), color=style.DATA, linewidth=0.9)
        ax.set(xlim=(0, 1), ylim=(0, max(2.0, 1.15 * heights.max())), yticks=[], xticks=[0, 0.5, 1])
        style.dress(ax)
        ax.set_title(f"latent {shown[i] + 1}", fontsize=9, color=style.INK, loc="left", pad=4)
        ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    return fig


def _roc(data: dict[str, Any]) -> Figure:
    ax = style.figure_of(None, (3.8, 3.8))
    for (label, (low, high)), colour in zip(data["roc"].items(), (style.MODEL, _REAL), strict=True):
        cuts = np.quantile(np.concatenate([low, high]), np.linspace(0, 1, 301))
        false, true = ((v[:, None] >= cuts).mean(0) for v in (low, high))
        ax.plot(np.append(false, 0), np.append(true, 0), color=colour, linewidth=1.5, label=label)
    ax.plot([0, 1], [0, 1], color=style.INK, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.set(xlim=(0, 1), ylim=(0, 1), box_aspect=1)
    style.dress(ax, x="held-out rows taken for the others", y="others found", closed=True)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, 0))
    _legend(ax, "lower right")
    return _figure(ax)


def _bars(data: dict[str, Any]) -> Figure:
    shown = data["columns"][:_BARS][::-1]
    ax = style.figure_of(None, (5.6, 0.9 + 0.27 * len(shown)))
    at = np.arange(len(shown))
    ours = [f["ks"] for f in shown]
    ax.barh(at, ours, 0.62, color=style.MODEL, alpha=0.75, label="samples")
    real = [f["real_ks"] for f in shown]
    ax.plot(real, at, "D", color=_REAL, markersize=4.5, markeredgecolor="white", label="other real rows")
    ax.axvline(data["noise"], color=style.INK, linewidth=0.8, linestyle=(0, (4, 3)), label="chance, at most")
    ax.set(xlim=(0, 1.08 * max(*ours, *real, data["noise"])), ylim=(-0.6, len(shown) - 0.4))
    style.dress(ax, x="Kolmogorov-Smirnov distance")
    labels = [style.axis_names([f["column"]], 1)[0] for f in shown]
    ax.set_yticks(at, [n if len(n) <= 28 else f"{n[:26]} …" for n in labels])
    ax.tick_params(axis="y", length=0)
    _legend(ax, "lower right", outside=True)
    return _figure(ax)


def _neighbours(data: dict[str, Any]) -> Figure:
    ax = style.figure_of(None, (5.2, 3.4))
    both = np.concatenate([data["test"], data["samples"]])
    span = (0.0, float(np.quantile(both, 0.99)) or 1.0)
    _histograms(ax, [("held-out rows", data["test"], style.DATA), ("samples", data["samples"], style.MODEL)], span)
    ax.set(xlim=span, yticks=[])
    style.dress(ax, x="distance to the nearest training row  [spreads]", y="share")
    _legend(ax, "upper right")
    return _figure(ax)


def _histograms(ax: Axes, kinds: list[tuple[str, Array, str]], span: tuple[float, float]) -> None:
    """Shares of each kind, the first filled; on the bins of the smallest, as peaks look higher in narrow bins."""
    bins = int(min(max(math.sqrt(min(len(values) for _, values, _ in kinds)), 10), 60))
    for i, (label, values, colour) in enumerate(kinds):
        counts, edges = np.histogram(values, bins, span)
        if i == 0:
            ax.stairs(counts / len(values), edges, fill=True, color=colour, alpha=0.25)
        ax.stairs(counts / len(values), edges, color=colour, linewidth=0.9 if i == 0 else 1.4, label=label)


def _legend(ax: Axes, where: str, outside: bool = False) -> None:
    at: Any = {"bbox_to_anchor": (0, 1.0, 1, 0), "ncols": 3, "loc": "lower left"} if outside else {"loc": where}
    ax.legend(fontsize=8.5, frameon=False, labelcolor=style.INK, **at)


def _note(ax: Axes, text: str, side: str = "right") -> None:
    at = 0.03 if side == "left" else 0.97
    ax.text(at, 0.03, text, transform=ax.transAxes, ha=side, va="bottom", fontsize=7.5, color=style.MUTED)


def _figure(ax: Axes) -> Figure:
    fig = ax.figure
    assert isinstance(fig, Figure)
    return fig


_PICTURES: list[tuple[str, str, Callable[[dict[str, Any]], Figure], str]] = [  # of a section, from what
    ("calibration", "radius", _radius,
     "Quantiles of the held-out latents against those of the base; 95 % of good models stay in the band."),
    ("calibration", "level", _coverage,
     "Share of held-out rows in regions of highest density, beyond what it should be."),
    ("calibration", "marginal", _marginals,
     "Where the held-out latents fall in the base, one at a time, the worst first: flat within the band if good."),
    ("two_sample", "roc", _roc,
     "ROC curves of the classifier: on the diagonal it cannot tell one from the other."),
    ("columns", "columns", _bars,
     "Distance of each column's samples, and of other real rows, from held-out rows; chance is left of the line."),
    ("privacy", "test", _neighbours,
     "Distance to the nearest training row: a model that copies has its histogram left of the held-out rows'."),
]  # fmt: skip
