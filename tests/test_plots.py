"""Pictures: what they show is what the flow says, they refuse what they cannot show, and they leave nothing behind."""

import importlib.util
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

import pushforward as pf
from pushforward import plots


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """No picture touches matplotlib's settings or torch's global generator."""
    plt.switch_backend("agg")
    settings, state = dict(mpl.rcParams), torch.get_rng_state()
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == settings
    assert torch.equal(torch.get_rng_state(), state)


def rows(n: int, features: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


def small(features: int = 2, **arguments: Any) -> pf.Flow:
    return pf.real_nvp(features, depth=3, width=8, seed=0, **arguments)


def lopsided() -> pf.Flow:
    """A density around (5, -20) with standard deviations 1 and 10: nothing about it is symmetric."""
    flow = pf.Flow(pf.Chain(pf.Standardize(2)), 2)
    pf.initialize(flow, rows(500, 2) * torch.tensor([1.0, 10.0]) + torch.tensor([5.0, -20.0]))
    return flow


def record(step: int, train_nll: float, val_nll: float | None) -> SimpleNamespace:
    return SimpleNamespace(step=step, epoch=step / 10, seconds=step / 5, train_nll=train_nll, val_nll=val_nll, lr=0.1)


def draw(fig: Figure) -> None:
    """Renders, so that what only fails then (or only warns then) fails the test."""
    fig.savefig(io.BytesIO(), format="png", dpi=50)


PICTURES: dict[str, Callable[[], Axes | np.ndarray]] = {
    "four_panels": lambda: plots.four_panels(small(), rows(300, 2)),
    "four_panels of arrays with labels": lambda: plots.four_panels(
        small(), rows(300, 2).numpy(), n=50, labels=np.arange(300) % 9
    ),
    "four_panels in a context": lambda: plots.four_panels(small(context_dim=1), rows(30, 2), context=[0.5]),
    "four_panels on unlike axes": lambda: plots.four_panels(lopsided(), rows(30, 2) * torch.tensor([1.0, 1e4])),
    "density": lambda: plots.density(small(), resolution=20),
    "density of wild bounds": lambda: plots.density(small(), bounds=(-1e3, 1e3, -1, 1), resolution=20),
    "log density": lambda: plots.density(small(), resolution=20, log=True, columns=["a_1", "price in $"]),
    "density in a context": lambda: plots.density(small(context_dim=1), context=[0.5], resolution=20),
    "density beside a truth": lambda: plots.density(
        small(), resolution=20, truth=lambda x: -0.5 * x.square().sum(-1) - 1.84
    ),
    "density beside a truth out of sight": lambda: plots.density(
        small(), resolution=20, truth=lambda x: torch.full(x.shape[:-1], -torch.inf)
    ),
    "density of one column": lambda: plots.density(small(1, components=2), x=rows(300, 1), resolution=50),
    "log density of one column": lambda: plots.density(
        small(1), x=rows(300, 1)[:, 0], resolution=50, log=True, truth=lambda x: -x[..., 0].abs()
    ),
    "density of a mixture": lambda: plots.density(pf.Mixture([small(), lopsided()], [0.3, 0.7]), resolution=20),
    "history": lambda: plots.history(
        [record(i, 100 / (i + 1), 100 / (i + 1) + 0.1 if i % 3 else None) for i in range(40)], floor=0.5
    ),
    "history of one record": lambda: plots.history([record(1, 2.0, None)], against="seconds"),
    "history of a divergence": lambda: plots.history([record(i, float("nan"), float("inf")) for i in range(3)]),
    "warped_grid": lambda: plots.warped_grid(small(), lines=5),
    "warped_grid of a mixture base": lambda: plots.warped_grid(small(components=3), lines=5, bounds=(-1, 1, 0, 1)),
    "warped_grid of the identity": lambda: plots.warped_grid(pf.Flow(pf.Chain(), 2), lines=5),
    "pairs": lambda: plots.pairs(rows(300, 3), rows(400, 3, 1), columns=["a", "b_2", "100 %"]),
    "pairs of one column": lambda: plots.pairs(rows(300, 1), rows(400, 1, 1)),
    "pairs of two columns and few rows": lambda: plots.pairs(rows(3, 2), rows(4, 2, 1).numpy()),
    "pairs of many columns": lambda: plots.pairs(rows(200, 9), rows(200, 9, 1), max_columns=2, max_points=0),
    "pairs of counts": lambda: plots.pairs(rows(300, 2).round(), rows(300, 2, 1).round()),
    "pairs far away": lambda: plots.pairs(rows(300, 2) + 1e6, rows(300, 2)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_drawn_and_saved(name: str, tmp_path: Path) -> None:
    path = plots.save_figure(PICTURES[name](), tmp_path / "picture.png", dpi=50)
    with Image.open(path) as image:
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("log", [False, True])
def test_the_image_is_the_density_the_right_way_up(log: bool) -> None:
    flow, bounds = lopsided(), (2.0, 9.0, -60.0, 10.0)
    ax = plots.density(flow, bounds=bounds, resolution=40, log=log)
    (image,) = ax.images
    values = image.get_array()
    assert values is not None
    assert tuple(image.get_extent()) == bounds
    assert image.origin == "lower"
    for row, column in [(0, 0), (3, 30), (39, 39), (22, 17)]:
        x = torch.tensor([2 + 7 * (column + 0.5) / 40, -60 + 70 * (row + 0.5) / 40])
        expected = flow.log_prob(x).item()
        assert values[row, column] == pytest.approx(expected if log else np.exp(expected), rel=1e-4)
    row, column = np.unravel_index(values.argmax(), values.shape)
    assert abs(2 + 7 * (column + 0.5) / 40 - 5) < 0.3
    assert abs(-60 + 70 * (row + 0.5) / 40 + 20) < 3


def test_the_density_of_one_column_is_the_curve_over_an_honest_histogram() -> None:
    flow = small(1, components=2)
    x = rows(1000, 1)
    ax = plots.density(flow, x=x, bounds=(0.0, 4.0), resolution=200)
    at, p = ax.lines[0].get_data()
    assert np.allclose(p, flow.log_prob(torch.as_tensor(at)[:, None].float()).exp().detach(), atol=1e-5)
    heights, edges, _ = ax.patches[0].get_data()
    # Rows beyond the bounds count: otherwise the histogram would be twice too high beside the curve.
    assert (heights * np.diff(edges)).sum() == pytest.approx((x > 0).float().mean().item(), abs=0.01)


def test_bounds_follow_the_data_and_ignore_a_stray_row() -> None:
    x = torch.cat([rows(2000, 2) + 100, torch.tensor([[1e6, -1e6]])])
    ax = plots.density(small(), x=x, resolution=10)
    assert ax.get_xlim()[0] == pytest.approx(96, abs=1)
    assert ax.get_xlim()[1] == pytest.approx(104, abs=1)


def test_density_keeps_no_graph_and_does_not_change_the_flow() -> None:
    flow = small()
    before = {k: v.clone() for k, v in flow.state_dict().items()}
    image = plots.density(flow, resolution=10).images[0]
    assert isinstance(image.get_array(), np.ndarray)
    assert all(p.grad is None for p in flow.parameters())
    assert all(torch.equal(v, before[k]) for k, v in flow.state_dict().items())


def test_pictures_are_drawn_into_what_is_given() -> None:
    fig = Figure()
    ax = fig.add_subplot()
    assert plots.density(small(), resolution=10, ax=ax) is ax
    draw(fig)
    ax = Figure().add_subplot()
    assert plots.history([record(1, 1.0, 1.0)], ax=ax) is ax
    for picture in (
        lambda ax: plots.four_panels(small(), rows(20, 2), ax=ax),
        lambda ax: plots.warped_grid(small(), lines=3, ax=ax),
        lambda ax: plots.pairs(rows(20, 2), rows(20, 2), ax=ax),
        lambda ax: plots.marginals(rows(20, 2), rows(20, 2), ax=ax),
        lambda ax: plots.plane(rows(200, 2), rows(200, 2), ax=ax),
    ):
        fig = Figure()
        given = fig.subplots(2, 2)
        axes = picture(given)
        assert set(axes.flat) <= set(given.flat)
        assert any(ax.has_data() for ax in axes.flat)
        draw(fig)


def test_four_panels_show_the_map_with_one_colour_a_point() -> None:
    flow, x = small(), rows(40, 2)
    latent, prior, data, samples = (ax.collections[0] for ax in plots.four_panels(flow, x).flat)
    shown = np.asarray(data.get_offsets())
    assert {tuple(row) for row in shown.astype(np.float32)} == {tuple(row) for row in x.numpy()}
    assert np.allclose(np.asarray(latent.get_offsets()), flow.f(shown)[0].detach(), atol=1e-5)
    assert np.allclose(np.asarray(samples.get_offsets()), flow.g(np.asarray(prior.get_offsets())).detach(), atol=1e-4)
    assert np.array_equal(latent.get_facecolor(), data.get_facecolor())
    assert np.array_equal(prior.get_facecolor(), samples.get_facecolor())
    titles = [ax.get_title(loc="left") for ax in plots.four_panels(flow, x).flat]
    assert titles == ["z = f(X)", "z ~ p(z)", "X ~ data", "X = g(z)"]


def test_four_panels_repeat_and_follow_a_generator() -> None:
    def offsets(seed: int | None) -> np.ndarray:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        axes = plots.four_panels(small(), rows(40, 2), n=20, generator=generator)
        return np.asarray(axes[1, 1].collections[0].get_offsets())

    assert np.array_equal(offsets(None), offsets(None))
    assert not np.array_equal(offsets(1), offsets(2))


def test_points_outside_of_the_window_are_counted() -> None:
    x = torch.cat([rows(500, 2), torch.tensor([[1e4, 0.0]])])
    axes = plots.four_panels(pf.Flow(pf.Chain(), 2), x)
    assert [t.get_text() for t in axes[1, 0].texts] == ["1 of 501 outside"]
    assert [t.get_text() for t in axes[1, 1].texts] == []


class _Far(pf.Bijection):
    """Sends points with a positive first coordinate to infinity, or very far."""

    def __init__(self, reach: float) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        return x, torch.zeros(len(x))

    def inverse(self, z: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.where(z[:, :1] > 2.5, self.reach, z), torch.zeros(len(z))


@pytest.mark.parametrize("reach", [float("inf"), float("nan"), 1e30])
def test_a_flow_that_runs_away_still_has_pictures(reach: float, tmp_path: Path) -> None:
    flow = pf.Flow(pf.Chain(_Far(reach), pf.Permute([1, 0])), 2)
    draw(plots.four_panels(flow, rows(200, 2))[0, 0].figure)
    draw(plots.warped_grid(flow, lines=5)[0].figure)
    draw(plots.pairs(flow.sample(200, generator=torch.Generator().manual_seed(0)), rows(200, 2))[0, 0].figure)
    plots.animate(flow, tmp_path / "a.gif", frames=3, n=500, size=60)


def test_warped_grid_ends_at_the_data_and_joins_layers_without_a_sight() -> None:
    flow = pf.Flow(pf.Chain(pf.Standardize(2), pf.Permute([1, 0]), pf.Permute([1, 0]), pf.ActNorm(2)), 2)
    pf.initialize(flow, rows(100, 2) * 7)
    axes = plots.warped_grid(flow, lines=3, bounds=(-1, 1, -2, 2))
    assert [ax.get_title(loc="left") for ax in axes] == ["z", "after layer 2 of 4", "X = g(z)"]
    first, last = (grid_lines(axes[i]) for i in (0, -1))
    assert np.allclose(first.min((0, 1)), [-1, -2])
    assert np.allclose(first.max((0, 1)), [1, 2])
    mapped = np.asarray(flow.g(first).detach())
    near = np.abs(last[:, None] - mapped[None]).max((2, 3)).min(1)
    assert len(last) == len(mapped)
    assert near.max() < 1e-4  # but for rounding


def grid_lines(ax: Axes) -> np.ndarray:
    """The segments (S, 2, 2) of the lines of a grid."""
    (lines,) = (part for part in ax.collections if isinstance(part, LineCollection))
    return np.array(lines.get_segments())


class _Steep(pf.Bijection):
    """Moves the first coordinate by a step of 6 about zero, within a thousandth."""

    def forward(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def inverse(self, z: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([z[:, 0] + 3 * torch.tanh(1e3 * z[:, 0]), z[:, 1] + z[:, 0]], 1), torch.zeros(len(z))


def test_lines_stay_curves_where_the_map_stretches() -> None:
    flow = pf.Flow(pf.Chain(_Steep()), 2)
    _, last = plots.warped_grid(flow, lines=3, bounds=(-2, 2, -2, 2))
    points = grid_lines(last)
    left, right = last.get_xlim()
    assert abs(np.diff(points[..., 0], axis=1)).max() <= 0.011 * (right - left)
    assert len(points) < 3 * 6 * 160


def test_warped_grid_of_many_layers_is_a_selection() -> None:
    axes = plots.warped_grid(pf.real_nvp(2, depth=30, width=4, seed=0, mixing="permute"), lines=3, max_panels=6)
    titles = [t for ax in axes if (t := ax.get_title(loc="left"))]
    assert (len(titles), titles[0], titles[-1]) == (6, "z", "X = g(z)")


@pytest.mark.parametrize("frames", [2, 9])
def test_the_animation_has_the_frames_asked_for_and_rests_at_the_ends(frames: int, tmp_path: Path) -> None:
    path = plots.animate(small(), tmp_path / "flow.gif", frames=frames, n=60, size=90, fps=10, hold=0.5)
    assert [p.name for p in tmp_path.iterdir()] == ["flow.gif"]
    durations, corners = [], []
    with Image.open(path) as gif:
        assert isinstance(gif, GifImageFile)
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (frames, (90, 90), 0)
        for i in range(frames):
            gif.seek(i)
            durations.append(gif.info["duration"])
            corners.append(gif.convert("RGB").getpixel((0, 0)))
    assert durations == [600, *[100] * (frames - 2), 600]
    assert set(corners) == {(255, 255, 255)}


def test_the_animation_of_the_identity_keeps_its_frames(tmp_path: Path) -> None:
    path = plots.animate(pf.Flow(pf.Chain(), 2), tmp_path / "flow.gif", frames=5, n=20, size=60, grid=False)
    with Image.open(path) as gif:
        assert isinstance(gif, GifImageFile)
        assert gif.n_frames == 5


def test_pairs_take_their_limits_from_the_data_and_count_what_is_not_finite() -> None:
    samples = rows(200, 2) * 50
    samples[:3] = torch.inf
    axes = plots.pairs(samples, rows(2000, 2))
    assert max(abs(v) for v in axes[0, 0].get_xlim()) < 5
    assert [t.get_text() for t in axes[0, -1].get_legend().get_texts()] == [
        "data, 2,000 rows",
        "model, 200 rows, 3 not finite",
    ]


def test_history_does_not_end_in_a_spike() -> None:
    last = [2.0, 9.0]
    for batches, shown in ((4, (100 * 2.0 + 4 * 9.0) / 104), (80, 9.0)):
        steps = [100, 200, 300, 300 + batches]
        records = [record(s, nll, nll) for s, nll in zip(steps, [4.0, 3.0, *last], strict=True)]
        training, validation = plots.history(records).lines[:2]
        assert np.asarray(training.get_ydata())[-1] == pytest.approx(shown)
        assert np.asarray(validation.get_ydata())[-1] == 9


def test_history_shows_a_validation_far_above_the_training() -> None:
    records = [record(i, 3.0 - i / 100, 25.0 if i in (50, 99) else None) for i in range(1, 100)]
    low, high = plots.history(records).get_ylim()
    assert low < 2.1
    assert high > 25


def test_history_marks_the_best_validation_and_the_floor() -> None:
    ax = plots.history([record(1, 3.0, 2.5), record(2, 2.0, None), record(3, 1.0, 1.5)], floor=0.25, against="epoch")
    assert ax.get_xlabel() == "epoch"
    legend = ax.get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == [
        "training",
        "validation",
        "best 1.5, at step 3",
        "entropy of the data 0.25",
    ]


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "four_panels of D = 3": (lambda _: plots.four_panels(small(3), rows(9, 3)), r"shape \(2,\), got .* \(3,\)"),
    "four_panels of other data": (lambda _: plots.four_panels(small(), rows(9, 3)), r"\(N, 2\) .* got \(9, 3\)"),
    "four_panels of no data": (lambda _: plots.four_panels(small(), rows(0, 2)), r"N >= 1, got \(0, 2\)"),
    "labels of another length": (
        lambda _: plots.four_panels(small(), rows(9, 2), labels=[1, 2]),
        r"labels of shape \(9,\).* got \(2,\)",
    ),
    "four_panels of no points": (lambda _: plots.four_panels(small(), rows(9, 2), n=0), "at least 1, got 0"),
    "four_panels of a mixture": (lambda _: plots.four_panels(pf.Mixture([small()]), rows(9, 2)), "Mixture has none"),
    "density of D = 3": (lambda _: plots.density(small(3)), r"\(1,\) or \(2,\), got .* \(3,\)"),
    "density of other data": (lambda _: plots.density(small(), x=rows(9, 1)), r"\(N, 2\) .* got \(9, 1\)"),
    "density of backward bounds": (lambda _: plots.density(small(), bounds=(1, 0, 0, 1)), "xmin.* got .1.0, 0.0"),
    "density of two bounds": (lambda _: plots.density(small(), bounds=(0, 1)), "ymax.* got .0.0, 1.0"),
    "density of one cell": (lambda _: plots.density(small(), resolution=1), "at least 2, got 1"),
    "density with one name": (lambda _: plots.density(small(), columns=["a"]), "2 column names, got 1"),
    "density without its context": (
        lambda _: plots.density(small(context_dim=2)),
        r"context of shape \(N, 2\), got no context",
    ),
    "history of nothing": (lambda _: plots.history([]), "at least one record"),
    "history against something": (lambda _: plots.history([record(1, 1, 1)], against="day"), "got 'day'"),
    "warped_grid of D = 1": (lambda _: plots.warped_grid(small(1)), r"shape \(2,\), got .* \(1,\)"),
    "warped_grid of one line": (lambda _: plots.warped_grid(small(), lines=1), "at least 2, got 1"),
    "animation of D = 3": (lambda p: plots.animate(small(3), p / "a.gif"), r"shape \(2,\), got .* \(3,\)"),
    "animation of one frame": (lambda p: plots.animate(small(), p / "a.gif", frames=1), "frames >= 2.* got 1"),
    "pairs of unlike columns": (lambda _: plots.pairs(rows(9, 2), rows(9, 3)), "same columns, got 2 and 3"),
    "pairs with one name": (lambda _: plots.pairs(rows(9, 2), rows(9, 2), columns=["a"]), "2 column names, got 1"),
    "pairs of no columns": (lambda _: plots.pairs(rows(9, 2), rows(9, 2), max_columns=0), "at least 1"),
    "a figure of no format": (lambda p: plots.save_figure(Figure(), p / "a.doc"), r"png.* got .*a\.doc"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_shown_is_refused_with_what_came(name: str, tmp_path: Path) -> None:
    picture, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        picture(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.png"
    path.write_text("old")

    def fail(_: object, target: Path, **__: Any) -> None:
        Path(target).write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.save_figure(Figure(), path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_in_a_plain_layout_the_colour_bar_takes_its_room_from_its_own_axes() -> None:
    fig = Figure()
    left, right = fig.subplots(1, 2)
    slot, neighbour = left.get_position(), right.get_position().bounds
    plots.density(small(), bounds=(-3, 3, -3, 3), resolution=10, ax=left)
    draw(fig)
    assert fig.axes[2].get_window_extent().x1 <= slot.x1 * fig.bbox.width + 1
    assert right.get_position().bounds == neighbour


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    spec = importlib.util.spec_from_file_location("pushforward._plots_without_matplotlib", plots.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r'pip install "pushforward\[plot\]"'):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
