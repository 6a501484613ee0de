"""Modules as programs, and archives that are none; what graphs may hold is in test_program_graph.py."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from meshfold.kernels.layers.layers import LAYERS
from meshfold.model.errors import InvalidData, SnapshotRefused
from meshfold.model.program import export_program, load_program, read_program, use_ieee_floats

GRAPH = "archive/models/model.json"
EXAMPLES = "archive/data/sample_inputs/model.pt"
WEIGHTS = "archive/data/weights/model_weights_config.json"
CONSTANTS = "archive/data/constants/model_constants_config.json"
X = torch.linspace(-1, 1, 4).unsqueeze(0)


class Layers(nn.Module):
    """A parameter, a buffer, a constant and dropout, so that each kind of tensor is in the archive."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(4, 3)
        self.drop = nn.Dropout(0.5)
        self.shift: Tensor
        self.register_buffer("shift", torch.ones(3))
        self.constant = torch.tensor([2.0, 3.0, 4.0])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.layer(x)) * self.constant + self.shift
        return out


class Making(nn.Module):
    """Makes tensors of its own, in each way that names a device."""

    def forward(self, x: Tensor) -> Tensor:
        made = torch.arange(4, device=x.device) + torch.full((4,), 2.0, device=x.device)
        return (x + made + torch.zeros(4).to(x.device) + torch.ones_like(x)).to(x.device, torch.float64)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.fixture(scope="module")
def program() -> bytes:
    return export_program(Layers(), (X,))


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to unpickle fails the test."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("something was unpickled")

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
        (torch._C, "_pickle_load_obj"),
    ):
        monkeypatch.setattr(module, name, refuse)


def test_a_program_gives_what_its_module_gives(program: bytes) -> None:
    loaded = load_program(program, "x")
    assert torch.equal(loaded(X), Layers().eval()(X))
    assert not any(tensor.requires_grad for tensor in loaded.parameters())


def test_equal_modules_have_equal_bytes_and_others_other(program: bytes) -> None:
    assert export_program(Layers(), (X,)) == program
    assert export_program(Layers(), (X * 2,)) == program, "the values of the example are no part of it"
    assert export_program(Layers(seed=1), (X,)) != program
    changed = Layers()
    with torch.no_grad():
        changed.shift[1] = 1.0000001
    assert export_program(changed, (X,)) != program


def test_a_program_of_a_program_is_a_program(program: bytes) -> None:
    again = export_program(load_program(program, "x"), (X,))
    assert torch.equal(load_program(again, "x")(X), Layers().eval()(X))


def test_layers_of_many_rows_are_the_same_however_they_run() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2, bias=False), nn.ReLU()
    )
    x = torch.randn(64, 8)
    once = load_program(export_program(layers, (x,)), "x")
    torch.testing.assert_close(once(x), layers(x).detach())
    again = load_program(export_program(nn.Sequential(once, nn.ReLU()), (x,)), "x")
    assert torch.equal(again(x), once(x))


class Scoring(nn.Module):
    """One user, and others beside them, in layers that follow each other and inputs that are put side by side."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.user, self.first = nn.Linear(4, 8), nn.Linear(11, 8)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(8, 6, bias=False), nn.Linear(6, 2), nn.ReLU())

    def forward(self, user: Tensor, items: Tensor, others: Tensor) -> Tensor:
        weight = self.first.weight * self.user(user).sum()
        x = nn.functional.linear(torch.cat([items, others.transpose(1, 2)], -1), weight, self.first.bias)
        out: Tensor = self.rest(x) + user.mean()
        return out


class InPlace(nn.Module):
    """Changes what follows from the user, and what two layers read, while it runs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, user: Tensor, items: Tensor) -> Tensor:
        twice = user * 2
        twice.add_(items.sum())
        x = items * 1
        y = self.first(x)
        x.add_(1)
        both = torch.cat([x, y], -1)
        x.mul_(3)
        out: Tensor = self.second(y) + twice.sum() + both.sum() + x
        return out


def scored() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(shape, generator=generator) for shape in ((1, 4), (1, 50, 8), (1, 3, 50)))  # type: ignore[return-value]


def test_layers_that_follow_each_other_are_one_call() -> None:
    given = scored()
    once = load_program(export_program(Scoring(), given), "x")
    torch.testing.assert_close(once(*given), Scoring()(*given).detach())
    calls = [node for node in once._exported.graph.nodes if node.target is LAYERS]
    assert [len(node.args[1]) for node in calls] == [3]
    assert len(calls[0].args[0]) == 2
    again = load_program(export_program(once, given), "x")
    assert torch.equal(again(*given), once(*given))


def test_what_follows_from_the_first_input_is_computed_once() -> None:
    user, *others = scored()
    program = load_program(export_program(Scoring(), (user, *others)), "x")
    first, second = program.halves()
    kept = first(user)
    for factor in (1, 2):
        beside = [other * factor for other in others]
        assert torch.equal(second(*kept, *beside), program(user, *beside))
    assert not any("user" in name for name, _ in second.named_parameters())
    moved = [part.to("meta") for part in program.halves()]
    assert moved[1](*moved[0](user.to("meta")), *(other.to("meta") for other in others)).is_meta


def test_what_is_changed_in_place_is_computed_each_time_and_where_it_stands() -> None:
    user, items = scored()[0], torch.randn(1, 20, 4)
    program = load_program(export_program(InPlace(), (user, items)), "x")
    torch.testing.assert_close(program(user, items), InPlace()(user, items).detach())
    first, second = program.halves()
    kept = first(user)
    for _ in range(2):
        assert torch.equal(second(*kept, items), program(user, items))


def test_a_program_that_is_moved_makes_its_own_tensors_there() -> None:
    """meta: a device that torch has everywhere, and does not mix with others."""
    making = load_program(export_program(Making(), (X,)), "x")
    assert torch.equal(making(X), Making()(X))
    moved = making.to("meta")
    assert moved(X.to("meta")).is_meta
    with pytest.raises(RuntimeError, match="device"):
        moved(X)
    assert torch.equal(moved.to("cpu")(X), Making()(X))


def test_a_gpu_multiplies_float32_as_such_and_programs_can_be_exported(program: bytes) -> None:
    use_ieee_floats()
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert not torch.backends.cudnn.allow_tf32
    assert export_program(Layers(), (X,)) == program


def test_weights_and_constants_are_moved_with_a_program(program: bytes) -> None:
    assert load_program(program, "x").to("meta")(X.to("meta")).is_meta


@pytest.mark.usefixtures("nothing_runs")
def test_loading_unpickles_nothing(program: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pt2").write_bytes(program)
    assert torch.equal(read_program(tmp_path / "x.pt2")(X), Layers().eval()(X))


def test_a_program_knows_one_mode_and_moves_with_the_model(program: bytes) -> None:
    model = nn.ModuleDict({"tower": load_program(program, "x"), "other": nn.Dropout()})
    wanted = Layers().eval()(X)
    for moved in (model.train(), model.eval(), model.to("cpu"), model.train(False).requires_grad_(False)):
        assert torch.equal(moved["tower"](X), wanted)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SnapshotRefused, match=r"x\.pt2: No such file"):
        read_program(tmp_path / "x.pt2")


def test_a_forward_that_branches_on_values_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        InvalidData,
        match=r"^Branching cannot be exported: branches on values.* at test_program\.py:\d+ `.*x\.sum.*`; .*where$",
    ) as caught:
        export_program(Branching(), (X,))
    assert "\n" not in str(caught.value)


def test_a_forward_that_raises_is_refused() -> None:
    with pytest.raises(InvalidData, match="Linear cannot be exported"):
        export_program(nn.Linear(5, 3), (X,))


def entries(program: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(held: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in held.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return written.getvalue()


def with_entry(program: bytes, name: str, data: bytes) -> bytes:
    return packed({**entries(program), name: data})


def pickled() -> bytes:
    """Runs pytest.fail where it is unpickled."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("something was unpickled",)

    written = io.BytesIO()
    torch.save((Evil(),), written)
    return written.getvalue()


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (EXAMPLES, pickled(), "pickled example inputs"),
        ("archive/data/weights/model.pt", pickled(), "holds 'data/weights/model.pt'"),
        ("archive/data/constants/opaque_obj_0", pickled(), "holds 'data/constants/opaque_obj_0'"),
        ("archive/data/constants/custom_obj_0", pickled(), "holds 'data/constants/custom_obj_0'"),
        ("archive/data/aotinductor/model/x.so", b"\x7fELF", "aotinductor"),
        ("archive/extra/x.py", b"print(1)", "extra/x.py"),
        ("archive/models/other.json", b"{}", "models/other.json"),
        ("x.py", b"print(1)", "holds ''"),
        ("other/data/sample_inputs/model.pt", b"", "an entry twice"),
        ("archive/archive_format", b"pt3", ""),
        ("archive/archive_version", b"9", ""),
        (GRAPH, b"{", ""),
        (GRAPH, b"[]", ""),
        (GRAPH, b"[" * 100_000, ""),
        (WEIGHTS, b"null", ""),
    ],
)
def test_an_entry_that_no_program_has_is_refused(
    program: bytes, name: str, data: bytes, message: str
) -> None:
    with pytest.raises(SnapshotRefused, match=f"^where: .*{message}"):
        load_program(with_entry(program, name, data), "where")


@pytest.mark.parametrize("name", [GRAPH, EXAMPLES, WEIGHTS, CONSTANTS, "archive/archive_format"])
def test_an_entry_that_is_missing_is_refused(program: bytes, name: str) -> None:
    with pytest.raises(SnapshotRefused, match="^where: "):
        load_program(packed({n: data for n, data in entries(program).items() if n != name}), "where")


def test_compressed_entries_are_refused(program: bytes) -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries(program).items():
            archive.writestr(name, data)
    with pytest.raises(SnapshotRefused, match="which no program of ours does"):
        load_program(written.getvalue(), "x")


@pytest.mark.parametrize("data", [b"", b"\x00", b"PK\x05\x06", b"PK\x05\x06" + bytes(18), pickled()])
@pytest.mark.usefixtures("nothing_runs")
def test_what_is_no_archive_of_a_program_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotRefused, match="^where: "):
        load_program(data, "where")


def test_truncated_programs_are_refused(program: bytes) -> None:
    for length in range(0, len(program), 97):
        with pytest.raises(SnapshotRefused):
            load_program(program[:length], "x")


@pytest.mark.usefixtures("nothing_runs")
def test_a_flipped_byte_is_refused_or_changes_nothing(program: bytes) -> None:
    rng = np.random.default_rng(0)
    wanted, refused = Layers().eval()(X), 0
    for place in rng.integers(0, len(program), 200).tolist():
        flipped = bytearray(program)
        flipped[place] ^= 1 << int(rng.integers(8))
        try:
            loaded = load_program(bytes(flipped), "x")
        except SnapshotRefused:
            refused += 1
        else:
            assert torch.equal(loaded(X), wanted)
    assert refused > 100


def directory(archive: bytes) -> tuple[int, int]:
    """(offset, size) of the central directory of a zip archive."""
    end = archive.rfind(b"PK\x05\x06")
    size, offset = struct.unpack("<II", archive[end + 12 : end + 20])
    return offset, size


@pytest.mark.usefixtures("nothing_runs")
def test_two_archives_in_one_are_read_as_the_one_that_was_checked(program: bytes) -> None:
    """Readers differ in where they look for the directory: where it is said to be, or before its end record."""
    evil = with_entry(program, EXAMPLES, pickled())
    (offset, size), (evil_offset, evil_size) = directory(program), directory(evil)
    assert size == evil_size
    before = evil[: evil_offset + size]
    shift = len(before) + offset - evil_offset
    moved, place, entry = bytearray(), offset, 0
    while place < offset + size:
        lengths = struct.unpack("<HHH", program[place + 28 : place + 34])
        (start,) = struct.unpack("<I", program[place + 42 : place + 46])
        length = 46 + sum(lengths)
        # Python adds `shift` to all offsets.
        moved += program[place : place + 42] + struct.pack("<I", (start + len(before) - shift) % (1 << 32))
        moved += program[place + 46 : place + length]
        place, entry = place + length, entry + 1
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, entry, entry, size, evil_offset, 0)
    both = before + program[:offset] + bytes(moved) + end
    assert torch.equal(load_program(both, "x")(X), Layers().eval()(X))
