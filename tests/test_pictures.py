"""Pictures as they are seen: labels inside, nothing on top of another, the best point where the file says it is."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

import pushforward as pf
from pushforward import plots
from pushforward.plots.order import in_order
from pushforward.toys import TOYS


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    plt.switch_backend("agg")
    yield
    plt.close("all")


def rows(n: int, features: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


def small(**arguments: Any) -> pf.Flow:
    return pf.real_nvp(2, **{"depth": 4, "width": 8, "seed": 0} | arguments)


def figure_of(picture: Axes | np.ndarray) -> Figure:
    fig = np.asarray(picture, dtype=object).flat[0].get_figure(root=True)
    FigureCanvasAgg(fig)
    fig.draw_without_rendering()
    return fig


def assert_inside(fig: Figure) -> None:
    """No text, tick label or legend leaves the figure."""
    bounds = fig.get_tightbbox()
    width, height = fig.get_size_inches()
    assert min(bounds.x0, bounds.y0, width - bounds.x1, height - bounds.y1) >= -0.01


def texts(ax: Axes) -> list[Text]:
    found = [*ax.texts, *(ax.get_title(loc=loc) and title for loc, title in _titles(ax))]
    return [text for text in found if isinstance(text, Text) and text.get_text()]


def _titles(ax: Axes) -> list[tuple[Any, Text]]:
    return [("left", ax._left_title), ("right", ax._right_title), ("center", ax.title)]  # type: ignore[attr-defined]


def assert_no_overlap(fig: Figure) -> None:
    boxes = [text.get_window_extent() for ax in fig.axes for text in texts(ax)]
    assert not [(i, j) for i, a in enumerate(boxes) for j, b in enumerate(boxes[:i]) if a.overlaps(b)]


@pytest.mark.parametrize("name", TOYS)
def test_labels_of_every_toy_are_inside(name: str) -> None:
    toy, flow = TOYS[name](), small()
    x = toy.sample(500, generator=torch.Generator().manual_seed(0))
    flow.initialize(x)
    for picture in (
        plots.density(flow, bounds=toy.bounds, truth=toy.log_prob, resolution=12),
        plots.density(flow, x=x, log=True, resolution=12, columns=["a column with a name", "another_1"]),
        plots.four_panels(flow, x),
        plots.warped_grid(flow, lines=3),
        plots.plane(x, x),
    ):
        fig = figure_of(picture)
        assert_inside(fig)
        assert_no_overlap(fig)


TABLE = {
    "a_rather_long_name_of_a_column_of_numbers": np.where(np.arange(300) % 3, np.arange(300.0) ** 2, np.nan),
    "grade": np.array(["low", "high", "mid"])[np.arange(300) % 3],
    "share": np.where(np.arange(300) % 2, np.sin(np.arange(300.0)), np.nan),
    "when": np.datetime64("2020-01-01") + np.arange(300) % 37 * np.timedelta64(1, "D"),
    "day": np.array(["Wed", "Mon", "Tue"])[np.arange(300) // 120],
}


def test_labels_of_a_table_are_inside_and_apart() -> None:
    space = pf.fit_table(TABLE, steps=1, stack=False, progress="none").space
    for picture in (plots.pairs(TABLE, TABLE, space=space), plots.marginals(TABLE, TABLE, space=space)):
        fig = figure_of(picture)
        assert_inside(fig)
        assert_no_overlap(fig)
    marginals = plots.marginals(TABLE, TABLE, space=space)
    assert "missing 33.3% | 33.3%" in [text.get_text() for text in texts(marginals.flat[0])]
    (days,) = (ax for ax in marginals.flat if ax.get_title(loc="left") == "day")
    assert [label.get_text() for label in days.get_xticklabels()] == ["Mon", "Tue", "Wed"]


def test_a_call_is_shown_by_pyplot() -> None:
    ax = plots.history([pf.Epoch(1, 1, 1, 0.5, 2.0, 2.0, 0.1, 0)])
    assert plt.gcf() is ax.get_figure()
    with_picture, without = io.BytesIO(), io.BytesIO()
    plt.savefig(with_picture)
    plt.figure(figsize=ax.get_figure().get_size_inches())
    plt.savefig(without)
    assert len(with_picture.getvalue()) > 2 * len(without.getvalue())


def test_without_pyplot_figures_are_unknown_to_it() -> None:
    with plots.without_pyplot():
        picture = plots.pairs(rows(20, 2))
    assert plt.get_fignums() == []
    assert_inside(figure_of(picture))
    plots.pairs(rows(20, 2))
    assert len(plt.get_fignums()) == 1


SEVERAL: dict[str, Callable[[Any], np.ndarray]] = {
    "four_panels": lambda ax: plots.four_panels(small(), rows(20, 2), ax=ax),
    "warped_grid": lambda ax: plots.warped_grid(small(), lines=3, ax=ax),
    "pairs": lambda ax: plots.pairs(rows(20, 2), rows(20, 2), ax=ax),
    "marginals": lambda ax: plots.marginals(rows(20, 2), rows(20, 2), ax=ax),
    "plane": lambda ax: plots.plane(rows(200, 2), rows(200, 2), ax=ax),
}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("layout", ["constrained", None])
def test_one_axes_is_divided_among_panels(name: str, layout: Any) -> None:
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 6), layout=layout)
    right.set_title("mine")
    before = right.get_position().x0
    axes = SEVERAL[name](left)
    figure_of(axes)
    assert all(ax.get_figure() is fig for ax in axes.flat)
    assert left not in fig.axes
    assert max(ax.get_position().x1 for ax in axes.flat) <= (before if layout is None else right.get_position().x0)
    free = fig.add_axes((0.1, 0.1, 0.3, 0.3))
    assert all(ax.get_position().x1 < 0.41 for ax in SEVERAL[name](free).flat)


def test_other_things_than_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="axes of matplotlib, got ndarray"):
        plots.density(small(), resolution=5, ax=np.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="or an array of them, got str"):
        plots.pairs(rows(9, 2), ax="left")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="array of 4 axes, got 2"):
        plots.pairs(rows(9, 2), ax=plt.subplots(1, 2)[1])


def names_of(flow: pf.Flow, **arguments: Any) -> list[str]:
    return [ax.get_title(loc="left") for ax in plots.warped_grid(flow, lines=3, **arguments)]


def test_a_warped_grid_counts_couplings_in_even_steps() -> None:
    flow = small(depth=16)
    assert names_of(flow) == ["z", *(f"after coupling {k} of 16" for k in range(2, 16, 2)), "X = g(z)"]
    assert names_of(flow, max_panels=5) == ["z", *(f"after coupling {k} of 16" for k in (4, 8, 12)), "X = g(z)"]
    assert names_of(small(depth=2, mixing="lu")) == ["z", "after coupling 1 of 2", "X = g(z)"]
    assert names_of(small(depth=1)) == ["z", "X = g(z)"]


def test_lines_of_a_warped_grid_are_opaque_and_the_strongest_lie_on_top() -> None:
    for ax in plots.warped_grid(small(), lines=9):
        (lines,) = (part for part in ax.collections if isinstance(part, LineCollection))
        colours = lines.get_colors()
        assert (np.asarray(colours)[:, 3] == 1).all()
        ends = np.asarray(lines.get_segments())
        inside = (ends > np.array([ax.get_xlim()[0], ax.get_ylim()[0]])).all((1, 2))
        inside &= (ends < np.array([ax.get_xlim()[1], ax.get_ylim()[1]])).all((1, 2))
        paleness = np.asarray(colours)[:, :3].min(1)
        assert paleness[~inside].min(initial=1.0) > 0.7  # where a line leaves the panel it has all but faded
        assert paleness[:50].mean() > paleness[-50:].mean() + 0.3


class _Thread(pf.Density):
    """A hill, and a thread of it thinner than half a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.space = pf.Flow(pf.Chain(), 2).space

    def log_prob(self, x: torch.Tensor, context: Any = None) -> torch.Tensor:
        hill = -0.5 * x.square().sum(-1)
        thread = 3.0 - 0.5 * ((x[:, 1] - 0.3 * x[:, 0] - 2) / 0.04).square()
        return torch.logaddexp(hill, thread)

    def sample(self, n: Any, context: Any = None, *, generator: Any = None) -> torch.Tensor:
        return torch.zeros(n, 2)


@pytest.mark.parametrize("log", [False, True])
def test_a_thread_thinner_than_a_cell_is_no_row_of_specks(log: bool) -> None:
    image = np.asarray(plots.density(_Thread(), bounds=(-4, 4, -4, 4), resolution=40, log=log).images[0].get_array())
    along = (np.log(image.max(0)) if not log else image.max(0))[1:-1]
    assert along.max() - along.min() < 1.7  # taken at the centres alone it is 3


def test_points_of_both_kinds_are_as_many_and_none_lie_on_top() -> None:
    axes = plots.pairs(rows(5000, 2), rows(400, 2, 1))
    (points,) = (part for part in axes[1, 0].collections if isinstance(part, PathCollection))
    _, first, counts = np.unique(points.get_facecolor(), axis=0, return_index=True, return_counts=True)
    assert counts.tolist() == [400, 400]
    assert max(first) < 50
    colours = {tuple(part.get_edgecolor()[0][:3]) for part in axes[1, 0].collections if part is not points}
    assert len(colours) == 2  # contours of either


def test_the_report_has_points_and_contours_in_two_colours() -> None:
    from pushforward.checks.pictures import pictures

    report = pf.check(pf.Flow(pf.Chain(), 2), rows(120, 2), rows(120, 2, 1))
    figures = [fig for drawn in pictures(report).values() for _, fig in drawn]
    assert plt.get_fignums() == []
    for fig in figures:
        FigureCanvasAgg(fig)
        fig.draw_without_rendering()
        assert_inside(fig)
    (_, pairs), *_ = pictures(report)["overview"]
    panel = pairs.axes[2]
    assert len({tuple(np.round(c[:3], 3)) for part in panel.collections for c in part.get_edgecolor()}) == 2
    assert [t.get_text() for t in pairs.axes[1].get_legend().get_texts()] == [
        "held-out rows, 120 rows",
        "samples, 120 rows",
    ]


def marked(ax: Axes) -> tuple[float, float]:
    (x,), (y,) = ax.lines[2].get_data()
    return float(x), float(y)


def test_history_marks_the_best_of_the_summary() -> None:
    result = pf.fit(small(), rows(300, 2), steps=80, lr=0.03, progress="none", seed=1)
    ax = plots.history(result)
    x, y = marked(ax)
    assert y == result.summary["best_val_nll"]
    validations = {epoch.step: epoch.val_nll for epoch in result.epochs if epoch.val_nll is not None}
    assert validations.get(int(x), y) == y
    low, high = ax.get_ylim()
    assert low < y < high


def test_history_marks_a_best_before_the_first_step() -> None:
    flow = small(standardize=False)
    result = pf.fit(flow, rows(40, 2), rows(2000, 2, 1), steps=100, lr=0.3, patience=None, progress="none")
    best = result.summary["best_val_nll"]
    assert best < min(e.val_nll for e in result.epochs if e.val_nll is not None)
    for against in ("step", "epoch", "seconds"):
        ax = plots.history(result, against=against)
        assert marked(ax) == (0, best)
        assert ax.get_legend_handles_labels()[1] == ["training", "validation", f"best {best:.4g}, before training"]


def test_history_shows_how_a_training_overfits() -> None:
    epochs = [
        pf.Epoch(i, i, i, 0.5, 20 - i / 100, 18 + 0.1 * abs(i - 30), 0.1, 0, None, 18.0, 30) for i in range(1, 300)
    ]
    low, high = plots.history(epochs).get_ylim()
    assert low < min(e.train_nll for e in epochs)
    assert high > max(e.val_nll or 0 for e in epochs)
    wild = [pf.Epoch(i, i, i, 0.5, 1e9 / i**8 + 2, 2.5, 0.1, 0) for i in range(1, 300)]
    assert plots.history(wild).get_ylim()[1] < 1000


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        ("b a c", "a b c"),
        ("10 9 -1", "-1 9 10"),
        ("60+ 20-39 0-19 40-59", "0-19 20-39 40-59 60+"),
        (">30 <10 10-30", "<10 10-30 >30"),
        ("VS2 SI10 SI9", "SI9 SI10 VS2"),
        ("March january May", "january March May"),
        ("red green blue", "red green blue"),
    ],
)
def test_categories_stand_in_their_order(names: str, ordered: str) -> None:
    counts = {name: 10 - i for i, name in enumerate(names.split())}
    assert in_order(counts) == ordered.split()
    assert in_order(counts, ordered.split()[::-1]) == ordered.split()[::-1]


def test_the_order_of_a_frame_is_kept_and_the_rarest_are_joined() -> None:
    pd = pytest.importorskip("pandas")
    order = ["poor", "fair", "good", "fine", "best", "x1", "x2", "x3", "x4", "x5", "x6"]
    cells = [name for i, name in enumerate(order) for _ in range(20 + 7 * (i % 4))]
    frame = pd.DataFrame({"grade": pd.Categorical(cells, order, ordered=True), "v": np.arange(float(len(cells)))})
    density = pf.fit_table(frame, steps=1, stack=False, progress="none")
    shown = plots.marginals(density.sample(50, generator=0), frame, space=density.space)
    labels = [label.get_text() for label in shown.flat[0].get_xticklabels()]
    assert len(labels) == 10
    assert labels[-1] == "other"
    assert labels[:-1] == [name for name in order if name in labels]
    assert {"fair", "good", "fine"} < set(labels)
