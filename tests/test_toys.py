"""The toys: every density is checked against its samples, against quadrature and against what theory says of it."""

import math

import pytest
import torch

from pushforward.toys import (
    TOYS,
    Banana,
    Checkerboard,
    Circles,
    EightGaussians,
    Pinwheel,
    Rings,
    Spirals,
    Toy,
    TwoMoons,
    toy,
)
from pushforward.toys import _base as _toybase

BINS, FINE = 16, 15
# One of each, and some whose parameters are far from the defaults.
CASES = [cls() for cls in TOYS.values()] + [
    TwoMoons(noise=0.4),
    Circles(noise=0.3, factor=0.2),
    Spirals(noise=0.5, turns=0.7),
    Pinwheel(radial_std=0.5, tangential_std=0.3, arms=3, rate=0.1),
    Checkerboard(squares=3, side=0.7),
    EightGaussians(noise=1.0, radius=1.5),
    Rings(noise=0.2, rings=1, spacing=1.0),
    Banana(noise=1.0, width=0.5, curvature=2.0),
]


def make_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def midpoint_grid(bounds: tuple[float, float, float, float], steps: int) -> tuple[torch.Tensor, float]:
    """Midpoints (steps, steps, 2) of the cells of a window, x first, and the area of a cell."""
    xmin, xmax, ymin, ymax = bounds
    unit = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    grid = torch.cartesian_prod(xmin + (xmax - xmin) * unit, ymin + (ymax - ymin) * unit).reshape(steps, steps, 2)
    return grid, (xmax - xmin) * (ymax - ymin) / steps**2


def window(case: Toy) -> tuple[float, float, float, float]:
    # The cells of a grid must not straddle the edge of a square, where the density jumps.
    if isinstance(case, Checkerboard):
        end = case.squares * case.side / 2
        return -end, end, -end, end
    return case.bounds


def steps_of(case: Toy) -> tuple[int, int]:
    return (case.squares * 5, 12) if isinstance(case, Checkerboard) else (BINS, FINE)


@pytest.fixture(scope="module", params=CASES, ids=repr)
def gridded(request: pytest.FixtureRequest) -> tuple[Toy, torch.Tensor, float]:
    """A toy, its log density on a fine grid over its window, and the area of a cell."""
    bins, fine = steps_of(request.param)
    grid, area = midpoint_grid(window(request.param), bins * fine)
    return request.param, request.param.log_prob(grid), area


def brute_log_prob(x: torch.Tensor, points: torch.Tensor, weights: torch.Tensor, noise: float) -> torch.Tensor:
    """Density of weighted points plus noise, one exact distance at a time."""
    square = (x[:, None] - points).square().sum(-1)
    log_sum = torch.logsumexp(weights.log() - square / (2 * noise**2), -1)
    return log_sum - weights.sum().log() - math.log(2 * math.pi * noise**2)


def simpson(end: float, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes on [0, end] and weights of Simpson's rule: even steps, nothing in common with the quadrature under test."""
    weights = torch.tensor([2.0, 4.0], dtype=torch.float64).repeat(steps // 2 + 1)[: steps + 1]
    weights[[0, -1]] = 1
    return torch.linspace(0, end, steps + 1, dtype=torch.float64), weights


def near_points(case: Toy, log_prob_drop: float = 25) -> torch.Tensor:
    """Points all over the window whose density is not negligible."""
    xmin, xmax, ymin, ymax = case.bounds
    span = torch.tensor([xmax - xmin, ymax - ymin], dtype=torch.float64)
    x = torch.tensor([xmin, ymin]) - 0.1 * span + 1.2 * span * torch.rand(400, 2, generator=make_generator()).double()
    log_prob = case.log_prob(x)
    return x[log_prob > log_prob.max() - log_prob_drop]


def test_density_integrates_to_one(gridded):
    _, log_prob, area = gridded
    assert float(log_prob.exp().sum() * area) == pytest.approx(1, abs=3e-4)


def test_entropy_is_the_integral_of_the_density(gridded):
    case, log_prob, area = gridded
    inside = torch.where(log_prob.exp() > 0, log_prob.exp() * log_prob, 0.0)
    assert float(-inside.sum() * area) == pytest.approx(case.entropy(), abs=3e-3)


def test_samples_fill_the_bins_as_the_density_says(gridded):
    case, log_prob, area = gridded
    n, (bins, fine) = 20_000, steps_of(case)
    expected = (log_prob.exp() * area).reshape(bins, fine, bins, fine).sum((1, 3)).flatten() * n
    xmin, xmax, ymin, ymax = window(case)
    x = case.sample(n, generator=make_generator(1), dtype=torch.float64)
    unit = (x - torch.tensor([xmin, ymin])) / torch.tensor([xmax - xmin, ymax - ymin])
    inside = ((unit >= 0) & (unit < 1)).all(-1)
    assert inside.float().mean() > 0.999
    column, row = (unit[inside] * bins).long().unbind(-1)
    count = torch.bincount(column * bins + row, minlength=bins * bins)
    full = expected >= 10
    observed = torch.cat((count[full], (n - count[full].sum())[None])).double()
    # All the thin bins, and what lies outside the window, are one more bin.
    expected = torch.cat((expected[full], (n - expected[full].sum()).clamp_min(1)[None]))
    chi2, freedom = float(((observed - expected) ** 2 / expected).sum()), len(observed) - 1
    assert chi2 < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_mean_log_prob_of_samples_is_minus_the_entropy(case):
    log_prob = case.log_prob(case.sample(20_000, generator=make_generator(2), dtype=torch.float64))
    error = float(log_prob.std() / len(log_prob) ** 0.5)
    assert float(-log_prob.mean()) == pytest.approx(case.entropy(), abs=5 * error + 1e-9)


def test_moons_entropy_at_noise_005_by_two_quadratures_and_monte_carlo():
    moons = TwoMoons(noise=0.05)
    assert moons.entropy() == pytest.approx(0.28923, abs=1e-4)
    for steps in (120, 200):
        grid, area = midpoint_grid((-1.4, 2.4, -0.9, 1.4), steps)
        log_prob = moons.log_prob(grid)
        assert float(-(log_prob.exp() * log_prob).sum() * area) == pytest.approx(0.28923, abs=1e-4)
    log_prob = moons.log_prob(moons.sample(50_000, generator=make_generator(3)))
    assert float(-log_prob.mean()) == pytest.approx(0.28923, abs=4 * float(log_prob.std()) / 50_000**0.5)


def test_entropy_in_the_limits_where_it_has_a_closed_form():
    def gaussian(std: float) -> float:
        return math.log(2 * math.pi * math.e * std**2)

    assert Checkerboard().entropy() == pytest.approx(math.log(32))
    assert Checkerboard(squares=3, side=2).entropy() == pytest.approx(math.log(20))
    assert Banana(noise=0.2, width=3).entropy() == pytest.approx(gaussian(math.sqrt(0.6)))
    assert EightGaussians(noise=0.05).entropy() == pytest.approx(gaussian(0.05) + math.log(8), abs=1e-9)
    assert Pinwheel(radial_std=0.05, tangential_std=0.05).entropy() == pytest.approx(gaussian(0.1) + math.log(5))
    # A thin ring is a line of length 2 pi R and a Gaussian across it.
    assert Rings(noise=1e-3, rings=1, spacing=1).entropy() == pytest.approx(
        math.log(2 * math.pi) + gaussian(1e-3) / 2, abs=1e-5
    )
    # Noise that drowns the shape leaves one Gaussian.
    for wide in (TwoMoons(100), Circles(100), Rings(100), Spirals(100), EightGaussians(100)):
        assert wide.entropy() == pytest.approx(gaussian(100), abs=1e-3)


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.3, 2.0])
def test_moons_density_against_a_plain_sum(noise):
    t, weights = simpson(math.pi, 40_000)
    points = torch.cat((torch.stack((t.cos(), t.sin()), -1), torch.stack((1 - t.cos(), 0.5 - t.sin()), -1)))
    moons = TwoMoons(noise)
    tips = torch.tensor([[1.0, -noise], [0.0, 0.5 + 2 * noise], [-1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    x = torch.cat((near_points(moons)[:30], tips))
    torch.testing.assert_close(
        moons.log_prob(x), brute_log_prob(x, points, weights.repeat(2), noise), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.4])
def test_spirals_density_against_a_plain_sum(noise):
    spirals = Spirals(noise)
    t, weights = simpson(3 * math.pi, 40_000)
    arm = torch.stack((-t * t.cos(), t * t.sin()), -1) / 3
    x = near_points(spirals)[:40]
    expected = brute_log_prob(x, torch.cat((arm, -arm)), (weights * t).repeat(2), noise)
    torch.testing.assert_close(spirals.log_prob(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", [Circles(), Circles(noise=0.4, factor=0.9), Rings(), Rings(noise=0.5)], ids=repr)
def test_rings_density_against_a_plain_sum(case):
    radii = [1, case.factor] if isinstance(case, Circles) else [case.spacing * (k + 1) for k in range(case.rings)]
    t = torch.arange(2000, dtype=torch.float64) * 2 * math.pi / 2000
    points = torch.cat([radius * torch.stack((t.cos(), t.sin()), -1) for radius in radii])
    x = near_points(case)[:100]
    expected = brute_log_prob(x, points, torch.ones(len(points)).double(), case.noise)
    torch.testing.assert_close(case.log_prob(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", [Pinwheel(), Banana()], ids=repr)
def test_warped_gaussians_against_the_jacobian_of_their_sampler(case, monkeypatch):
    """Differentiate x through the sampler, and weigh the arms that could have made it."""
    z = torch.randn(20, 2, generator=make_generator(4), dtype=torch.float64)
    module = "pushforward.toys"

    def draw(z: torch.Tensor, arm: int) -> torch.Tensor:
        monkeypatch.setattr(f"{module}.normal", lambda generator, *shape: z)
        monkeypatch.setattr(f"{module}.choice", lambda generator, n, count: torch.full((n,), arm))
        return case.sample(len(z), dtype=torch.float64)

    for row in z:
        jacobian = torch.autograd.functional.jacobian(lambda z: draw(z[None], 0)[0], row)
        log_one = -row.square().sum() / 2 - math.log(2 * math.pi) - torch.linalg.slogdet(jacobian)[1]
        x = draw(row[None], 0)
        arms = case.arms if isinstance(case, Pinwheel) else 1
        # The other arms are a rotation away: their share is the ratio of the whole density to a single term.
        total = case.log_prob(x)[0] + math.log(arms)
        assert total >= log_one - 1e-9
        if row.abs().max() < 1:
            assert float(total) == pytest.approx(float(log_one), abs=1e-3)


@pytest.mark.parametrize(("case", "maker"), [(TwoMoons(1e-9), "make_moons"), (Circles(1e-9), "make_circles")])
def test_geometry_and_labels_are_those_of_scikit_learn(case, maker):
    datasets = pytest.importorskip("sklearn.datasets")
    options = {} if maker == "make_moons" else {"factor": 0.5}
    theirs, their_labels = (torch.from_numpy(a) for a in getattr(datasets, maker)(4000, noise=None, **options))
    ours, labels = case.sample_with_labels(4000, generator=make_generator(5), dtype=torch.float64)
    for label in (0, 1):
        distance = torch.cdist(ours[labels == label], theirs[their_labels == label])
        # Our points lie on their curve, and no part of their curve is far from our points.
        assert distance.min(1).values.max() < 2e-3
        assert distance.min(0).values.max() < 0.03


def test_labels_name_the_component():
    for case in CASES:
        x, labels = case.sample_with_labels(4000, generator=make_generator(6), dtype=torch.float64)
        assert labels.dtype == torch.int64
        assert labels.shape == (4000,)
        share = labels.bincount() / 4000
        assert float((share - 1 / len(share)).abs().max()) < 0.05
        assert torch.equal(x, case.sample(4000, generator=make_generator(6), dtype=torch.float64))
    assert not Banana().sample_with_labels(50)[1].any()
    x, labels = Rings().sample_with_labels(2000, dtype=torch.float64)
    assert ((x.norm(dim=-1) - 0.75 * (labels + 1)).abs() < 0.5).all()
    x, labels = EightGaussians(noise=0.01).sample_with_labels(500)
    angle = torch.atan2(x[:, 1], x[:, 0]).remainder(2 * math.pi) / (math.pi / 4)
    assert torch.equal(angle.round().long() % 8, labels)
    x, labels = Pinwheel(0.01, 0.01).sample_with_labels(500)
    turned = torch.atan2(x[:, 1], x[:, 0]) - labels * 2 * math.pi / 5 + 0.25 * math.e
    assert (turned.remainder(2 * math.pi) - math.pi).abs().min() > 3
    x, labels = Spirals(noise=0.01).sample_with_labels(500)
    t = 3 * x.norm(dim=-1)
    arm = torch.stack((-t.cos(), t.sin()), -1) * (1 - 2 * labels[:, None])
    outer = t > 2
    assert ((x * arm).sum(-1)[outer] > 0.9 * x.norm(dim=-1)[outer]).all()
    x, labels = Checkerboard().sample_with_labels(500)
    cells = torch.unique(torch.cat(((x / 2).floor(), labels[:, None]), -1), dim=0)
    assert len(cells) == 8
    assert cells[:, 2].tolist() == list(range(8))


@pytest.mark.parametrize("case", CASES, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_finite_and_the_dtype_is_kept(case, dtype):
    directions = torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, 0.5], [0.7, -1]], dtype=dtype)
    x = torch.cat([directions * size for size in (0, 1, 30, 1e3, 1e6)]).requires_grad_()
    log_prob = case.log_prob(x)
    assert log_prob.dtype == dtype
    if isinstance(case, Checkerboard):
        assert ((log_prob == -math.inf) | (log_prob == -case.entropy())).all()
        return
    assert log_prob.isfinite().all()
    assert (log_prob[-7:] < -100).all()
    (gradient,) = torch.autograd.grad(log_prob.sum(), x)
    assert gradient.isfinite().all()
    assert ((gradient * x).sum(-1)[-7:] < 0).all()


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_log_prob_takes_any_leading_axes_and_any_values(case, monkeypatch):
    x = case.sample(60, generator=make_generator(7), dtype=torch.float64)
    log_prob = case.log_prob(x)
    assert case.log_prob(x[0]).shape == ()
    assert case.log_prob(x[:0]).shape == (0,)
    torch.testing.assert_close(case.log_prob(x.reshape(3, 20, 2)), log_prob.reshape(3, 20), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(case.log_prob(x.float()), log_prob.float(), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(_toybase, "CHUNK", 1)
    torch.testing.assert_close(case.log_prob(x), log_prob, rtol=1e-12, atol=1e-12)
    odd = torch.tensor([[math.inf, 0], [-math.inf, math.inf], [math.nan, 0]])
    assert case.log_prob(odd)[:2].tolist() == [-math.inf, -math.inf]
    assert case.log_prob(odd)[2].isnan()


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_sampling_follows_the_generator(case):
    before = torch.get_rng_state()
    first = case.sample(100, generator=make_generator(8))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == (100, 2)
    assert first.dtype == torch.float32
    assert torch.equal(first, case.sample(100, generator=make_generator(8)))
    assert not torch.equal(first, case.sample(100, generator=make_generator(9)))
    double = case.sample(100, generator=make_generator(8), dtype=torch.float64)
    torch.testing.assert_close(first, double.float(), rtol=0, atol=1e-4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        assert torch.equal(first, case.sample(100))
    assert case.sample(0).shape == (0, 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("case", [Checkerboard(), Checkerboard(squares=5, side=0.3)], ids=repr)
def test_rounding_keeps_checkerboard_samples_on_dark_squares(case, dtype):
    x = case.sample(50_000, generator=make_generator(10), dtype=dtype)
    assert case.log_prob(x).isfinite().all()


def test_a_toy_is_named_by_its_parameters():
    assert list(TOYS) == ["moons", "circles", "spirals", "pinwheel", "checkerboard", "gaussians", "rings", "banana"]
    for name, cls in TOYS.items():
        assert toy(name) == cls()
        assert cls.name == name
    assert repr(toy("moons", noise=0.1)) == "TwoMoons(noise=0.1)"
    assert toy("rings", rings=2) == Rings(rings=2) != Rings()
    with pytest.raises(ValueError, match=r"name must be one of moons, circles, .*got 'moon'"):
        toy("moon")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TwoMoons(noise=0), r"noise must be a finite number > 0, got 0"),
        (lambda: TwoMoons(noise=math.nan), r"noise must be a finite number > 0, got nan"),
        (lambda: TwoMoons(noise="0.1"), r"noise must be a finite number > 0, got '0.1'"),  # type: ignore[arg-type]
        (lambda: Circles(noise=-1), r"noise must be"),
        (lambda: Circles(factor=1.0), r"factor must be between 0 and 1, got 1.0"),
        (lambda: Circles(factor=0), r"factor must be"),
        (lambda: Spirals(noise=-0.1), r"noise must be"),
        (lambda: Spirals(turns=0), r"turns must be"),
        (lambda: Pinwheel(radial_std=0), r"radial_std must be"),
        (lambda: Pinwheel(tangential_std=0), r"tangential_std must be"),
        (lambda: Pinwheel(arms=0), r"arms must be an integer >= 1, got 0"),
        (lambda: Pinwheel(rate=-1), r"rate must be"),
        (lambda: Checkerboard(squares=2.5), r"squares must be an integer >= 1, got 2.5"),  # type: ignore[arg-type]
        (lambda: Checkerboard(side=math.inf), r"side must be"),
        (lambda: EightGaussians(noise=0), r"noise must be"),
        (lambda: EightGaussians(radius=-2), r"radius must be"),
        (lambda: Rings(noise=0), r"noise must be"),
        (lambda: Rings(rings=0), r"rings must be"),
        (lambda: Rings(spacing=0), r"spacing must be"),
        (lambda: Banana(noise=0), r"noise must be"),
        (lambda: Banana(width=0), r"width must be"),
        (lambda: Banana(curvature=0), r"curvature must be"),
        (lambda: TwoMoons().log_prob(torch.zeros(4, 3)), r"x must have shape \(\*N, 2\), got \(4, 3\)"),
        (lambda: TwoMoons().log_prob(torch.tensor(1.0)), r"x must have shape \(\*N, 2\), got \(\)"),
        (lambda: TwoMoons().log_prob(torch.zeros(4, 2).long()), r"x must be a floating point tensor, got torch.int64"),
        (lambda: TwoMoons().log_prob([[0.0, 0.0]]), r"x must be a floating point tensor, got <class 'list'>"),  # type: ignore[arg-type]
        (lambda: TwoMoons().sample(-1), r"n must be an integer >= 0, got -1"),
        (lambda: TwoMoons().sample(3, dtype=torch.int64), r"dtype must be a floating point type, got torch.int64"),
    ],
)
def test_wrong_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
