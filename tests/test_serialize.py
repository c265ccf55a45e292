"""Model files: whole or not at all, checked field by field, and never executed."""

from __future__ import annotations

import errno
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import pushforward as pf
from pushforward.io import registry


@pytest.fixture
def flow() -> pf.Flow:
    flow = pf.real_nvp(3, context_dim=2, depth=3, width=8, components=2, mixing="permute", seed=4)
    pf.initialize(flow, torch.randn(50, 3) * 5, torch.randn(50, 2))
    return flow


def test_a_loaded_flow_is_the_saved_one(flow: pf.Flow, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    pf.save(flow, path, about={"columns": ["a", "b", "c"]}, training={"steps": 3})
    again = pf.load(path)
    x, context = torch.randn(6, 3), torch.randn(6, 2)
    assert torch.equal(again.log_prob(x, context), flow.log_prob(x, context))
    a, b = (f.sample(5, context[0], generator=torch.Generator().manual_seed(0)) for f in (flow, again))
    assert torch.equal(a, b)
    assert again.about == {"columns": ["a", "b", "c"]}
    assert again.training_summary == {"steps": 3}
    assert again.recipe == flow.recipe
    assert {k: p.requires_grad for k, p in again.named_parameters()} == {
        k: p.requires_grad for k, p in flow.named_parameters()
    }
    pf.initialize(again, torch.randn(50, 3) + 100, context=torch.randn(50, 2))  # known to be done: changes nothing
    assert torch.equal(again.log_prob(x, context), flow.log_prob(x, context))
    pf.save(again, tmp_path / "second.safetensors")
    assert pf.load(tmp_path / "second.safetensors").about == again.about


def test_a_loaded_flow_trains_on(tmp_path: Path) -> None:
    flow = pf.real_nvp(2, depth=2, width=8, seed=0)
    x = torch.randn(200, 2)
    pf.fit(flow, x, steps=20, progress="none")
    pf.save(flow, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    pf.fit(again, x, steps=20, val_fraction=0.0, progress="none")
    assert not torch.equal(again.log_prob(x[:5]), flow.log_prob(x[:5]))


def test_float64_is_kept(tmp_path: Path) -> None:
    flow = pf.real_nvp(2, depth=2, width=8).double()
    pf.save(flow, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    x = torch.randn(5, 2, dtype=torch.float64)
    assert torch.equal(again.log_prob(x), flow.log_prob(x))
    assert again.sample(2).dtype == torch.float64


def test_a_flow_composed_by_hand_needs_its_composition(tmp_path: Path) -> None:
    def compose() -> pf.Flow:
        return pf.Flow(pf.Chain(pf.LULinear(2), pf.ActNorm(2)), 2)

    flow = compose()
    torch.nn.init.normal_(flow.bijection[0].factors)  # type: ignore[index]
    pf.save(flow, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="composed by hand"):
        pf.load(tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors", into=compose())
    x = torch.randn(5, 2)
    assert torch.equal(again.log_prob(x), flow.log_prob(x))
    with pytest.raises(ValueError, match="does not fit its flow"):
        pf.load(tmp_path / "m.safetensors", into=pf.real_nvp(2))


def write_raw(path: Path, header: object, tensors: dict[str, torch.Tensor] | None = None) -> None:
    metadata = {"pushforward": header if isinstance(header, str) else json.dumps(header)}
    save_file({"a": torch.zeros(1)} if tensors is None else tensors, path, metadata=metadata)


def recipe(**arguments: object) -> dict[str, object]:
    return {"format_version": 1, "recipe": {"name": "real_nvp", "arguments": {"shape": 2} | arguments}}


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (exec, ("raise SystemExit('executed')",))


FILES: dict[str, tuple[Callable[[Path, bytes], None], str]] = {
    "empty": (lambda p, good: p.write_bytes(b"") and None, "damaged or is no"),
    "text": (lambda p, good: p.write_text("a,b\n1,2\n") and None, "damaged or is no"),
    "pickle": (lambda p, good: p.write_bytes(pickle.dumps(Bomb())) and None, "damaged or is no"),
    "torch pickle": (lambda p, good: torch.save(Bomb(), p), "damaged or is no"),
    "truncated header": (lambda p, good: p.write_bytes(good[:40]) and None, "damaged or is no"),
    "truncated body": (lambda p, good: p.write_bytes(good[:-10]) and None, "damaged or is no"),
    "huge header length": (lambda p, good: p.write_bytes(struct.pack("<Q", 2**60) + good[8:]) and None, "damaged"),
    "foreign": (lambda p, good: save_file({"a": torch.zeros(2)}, p), "no pushforward model"),
    "not JSON": (lambda p, good: write_raw(p, "{"), "damaged header"),
    "deep JSON": (lambda p, good: write_raw(p, "[" * 100_000), "damaged header"),
    "a list": (lambda p, good: write_raw(p, [1]), "damaged header"),
    "newer format": (lambda p, good: write_raw(p, {"format_version": 99}), "format version 99.*please upgrade"),
    "unknown recipe": (
        lambda p, good: write_raw(p, {"format_version": 1, "recipe": {"name": "os.system", "arguments": {}}}),
        "unknown recipe 'os.system'",
    ),
    "recipe of a wrong kind": (lambda p, good: write_raw(p, {"format_version": 1, "recipe": 3}), "must be an object"),
    "unknown argument": (lambda p, good: write_raw(p, recipe(command="rm")), "has no argument 'command'"),
    "argument of a wrong kind": (lambda p, good: write_raw(p, recipe(width={"a": 1})), "value of a wrong kind"),
    "huge depth": (lambda p, good: write_raw(p, recipe(depth=900)), "depth = 900, but the file holds 1 tensors"),
    "huge width": (lambda p, good: write_raw(p, recipe(depth=1, hidden_layers=1, width=10**6)), "does not fit"),
    "bad shape": (lambda p, good: write_raw(p, recipe(shape=[-1], depth=1, hidden_layers=1)), "cannot be built"),
    "huge shape": (
        lambda p, good: write_raw(p, recipe(shape=10**15, depth=1, hidden_layers=1)), "cannot be built|does not fit",
    ),
    "schema of a wrong kind": (lambda p, good: write_raw(p, recipe() | {"schema": [1]}), "schema must be an object"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_gets_one_clear_error(name: str, flow: pf.Flow, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    pf.save(flow, path)
    make, message = FILES[name]
    make(path, path.read_bytes())
    with pytest.raises(ValueError, match=message) as caught:
        pf.load(path)
    assert "\n" not in str(caught.value)
    assert "m.safetensors" in str(caught.value)


@pytest.mark.parametrize("change", ["nan", "shape", "missing", "dtype", "extra"])
def test_tensors_are_checked_against_the_recipe(change: str, flow: pf.Flow, tmp_path: Path) -> None:
    tensors = {k: v.clone() for k, v in flow.state_dict().items()}
    name = next(k for k, v in tensors.items() if v.ndim == 2)
    if change == "nan":
        tensors[name][0, 0] = torch.nan
    elif change == "shape":
        tensors[name] = tensors[name].T.contiguous()
    elif change == "missing":
        del tensors[name]
    elif change == "dtype":
        tensors[name] = tensors[name].double()
    else:
        tensors["more"] = torch.zeros(1)
    write_raw(tmp_path / "m.safetensors", {"format_version": 1, "recipe": flow.recipe}, tensors)
    with pytest.raises(ValueError, match=r"m\.safetensors"):
        pf.load(tmp_path / "m.safetensors")


def test_a_missing_file_or_a_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"nothing\.safetensors"):
        pf.load(tmp_path / "nothing.safetensors")
    with pytest.raises(OSError, match="is a folder"):
        pf.load(tmp_path)


def test_a_full_disk_leaves_the_old_file(flow: pf.Flow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    pf.save(flow, path, training={"steps": 1})
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        pf.save(flow, path, training={"steps": 2})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_link_is_followed_and_a_folder_is_left_alone(flow: pf.Flow, tmp_path: Path) -> None:
    (tmp_path / "real.safetensors").write_bytes(b"old")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "real.safetensors")
    pf.save(flow, tmp_path / "link.safetensors")
    assert (tmp_path / "link.safetensors").is_symlink()
    assert pf.load(tmp_path / "real.safetensors").shape == (3,)
    with pytest.raises(OSError, match="no regular file"):
        pf.save(flow, tmp_path)


def test_what_is_not_json_is_refused_before_writing(flow: pf.Flow, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON-able"):
        pf.save(flow, tmp_path / "m.safetensors", about={"columns": {1, 2}})
    assert not list(tmp_path.iterdir())


class Shifted(pf.Density):
    """A normal density around a number that is a setting: kept in a buffer that files do not hold."""

    def __init__(self, centre: float) -> None:
        super().__init__()
        self.space = pf.Vectors(2)
        self.centre = centre
        self.log_scale = torch.nn.Parameter(torch.zeros(2))
        self.register_buffer("mean", torch.full((2,), centre), persistent=False)

    def log_prob(self, x: Any, context: Any = None) -> torch.Tensor:
        return torch.distributions.Normal(self.mean, self.log_scale.exp()).log_prob(x).sum(1)

    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> torch.Tensor:
        return self.mean + self.log_scale.exp() * torch.randn(n, 2)


def test_buffers_that_a_file_does_not_hold_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    registry.register(
        "shifted", Shifted, lambda d: {"centre": d.centre}, lambda settings, _: Shifted(settings["centre"])
    )
    for dtype in (torch.float32, torch.float64):
        density = pf.Mixture([Shifted(3.0), Shifted(-2.0)], weights=[0.3, 0.7]).to(dtype)
        pf.save(density, tmp_path / "model.safetensors")
        again = pf.load(tmp_path / "model.safetensors")
        x = torch.randn(5, 2, dtype=dtype)
        assert again[0].mean.dtype == dtype
        assert torch.equal(again.log_prob(x), density.log_prob(x))


def test_a_density_whose_class_files_do_not_know_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Shifted cannot be saved: its class was not made known"):
        pf.save(Shifted(1.0), tmp_path / "model.safetensors")


def test_densities_that_share_a_buffer_are_saved(tmp_path: Path) -> None:
    frequencies = pf.baselines.Frequencies([2])
    mixture = pf.Mixture([frequencies, pf.baselines.Frequencies([2], frequencies.log_mass)])
    pf.save(mixture, tmp_path / "m.safetensors")
    states = torch.tensor([[0], [1]])
    assert torch.equal(pf.load(tmp_path / "m.safetensors").log_prob(states), mixture.log_prob(states))


def test_flipped_bytes_are_told_and_files_without_a_checksum_load(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    path, flow = tmp_path / "m.safetensors", pf.real_nvp(2, depth=2, width=8, seed=0)
    pf.save(flow, path)
    whole = path.read_bytes()
    for place in (-1, -200):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged: it does not hold what was written"):
            pf.load(path)
        with pytest.raises(ValueError, match="is damaged"):
            pf.load(path, into=flow)
    path.write_bytes(
        whole.replace(b'\\"depth\\": 2', b'\\"depth\\": 3').replace(b'\\"clamp\\": 3.0', b'\\"clamp\\": 2.0')
    )
    with pytest.raises(ValueError, match="damaged"):
        pf.load(path)
    path.write_bytes(whole)
    with safe_open(path, framework="pt") as file:
        header, tensors = json.loads(file.metadata()["pushforward"]), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    assert len(header.pop("checksum")) == 64
    save_file(tensors, path, metadata={"pushforward": json.dumps(header)})
    x = torch.randn(5, 2)
    assert torch.equal(pf.load(path).log_prob(x), flow.log_prob(x))
