"""Snapshots with absurd contents whose seals are right: every file's mark and the version fit what the files hold.

What damage a number stands for never changes, so that a failure is repeated by its number.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from meshfold.model.build import publish
from meshfold.model.data.catalog import Column
from meshfold.model.errors import MeshfoldError
from meshfold.model.exports import export_over_arch, export_user_tower
from meshfold.model.schema import FieldKind, Input, InputKind
from meshfold.model.snapshot import MANIFEST, OVER_ARCH, TENSOR_FILES, USER_TOWER, Content
from meshfold.model.store import Store
from meshfold.model.tensor_file import mark_of, write_tensors
from meshfold.model.value.config import ValueConfig, Weight
from tests.data.towers.towers import D, Rank, User
from tests.model.conftest import catalog_of

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
ITEMS = 600
# Of so many snapshots one has damaged programs; those take ten times as long to open.
PROGRAMS_EVERY = 8
INPUTS = (
    Input("country", InputKind.STRINGS, 2),
    Input("search", InputKind.TEXT, 4),
    Input("ages", InputKind.INTS, 2),
    Input("clock", InputKind.FLOATS, 2),
)
# What a number of a tensor or of a manifest becomes.
INTEGERS = (
    -(2**63),
    -(2**31),
    -1,
    0,
    1,
    63,
    64,
    511,
    ITEMS - 1,
    ITEMS,
    ITEMS + 1,
    2**31 - 1,
    2**31,
    2**62,
    2**63 - 1,
)
FLOATS = (float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e-45, 1e19, 3.4e38)
OTHERS: tuple[Any, ...] = (
    None,
    True,
    "",
    "x",
    [],
    {},
    [[1, 2]],
    1e308,
    -1.5,
    float("nan"),
    float("inf"),
    10**30,
)
DTYPES = ("int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64", "bool", "uint32")
# Operators that read memory by numbers, or by what they believe of a tensor.
OPERATORS = tuple(
    f"torch.ops.aten.{name}"
    for name in (
        *(
            "embedding.default",
            "index_select.default",
            "gather.default",
            "take.default",
            "as_strided.default",
        ),
        *(
            "slice.Tensor",
            "select.int",
            "narrow.default",
            "view.default",
            "_reshape_alias.default",
            "resize_.default",
        ),
        *(
            "set_.default",
            "_unsafe_index.Tensor",
            "_sparse_coo_tensor_unsafe.default",
            "embedding_bag.default",
        ),
        *("index.Tensor", "unfold.default", "expand.default", "repeat.default", "squeeze.dim"),
    )
)


def make_base(root: Path) -> tuple[Path, Path]:
    """Folders of two snapshots with every kind of field, without and with programs."""
    vectors = np.random.default_rng(0).standard_normal((ITEMS, D)).astype(np.float32)
    catalog = catalog_of(vectors, inputs=INPUTS)
    # Of so many values that they have Bloom rows and posting lists, several an item.
    groups = [[int(i) % 97, -(int(i) * int(i) % 89)] if i % 5 else [] for i in catalog.item_ids]
    columns = {**catalog.columns, "groups": Column.of_integers(FieldKind.INTEGERS, groups)}
    catalog = replace(catalog, columns=columns)
    value = ValueConfig(
        {"mixed": "weights.like * like + watch", "recent": "has(year) ? year + price : features.hour"},
        "mixed",
        {"like": Weight(0.5, 0.0, 2.0)},
    )
    programs = {
        USER_TOWER: export_user_tower(User(), catalog.schema, D),
        OVER_ARCH: export_over_arch(Rank(), catalog.schema, D),
    }
    plain = publish(catalog, Store(root / "plain"), value=value)
    return plain, publish(catalog, Store(root / "programs"), value=value, programs=programs)


def damage(bases: tuple[Path, Path], folder: Path, number: int) -> str:
    """Writes the snapshot of a number to a new folder; returns what is wrong with it."""
    rng = np.random.default_rng(number)
    with_programs = number % PROGRAMS_EVERY == 0
    shutil.copytree(bases[with_programs], folder)
    raw = json.loads((folder / MANIFEST).read_text())
    told = []
    for _ in range(1 if rng.random() < 0.7 else int(rng.integers(2, 5))):
        if with_programs:
            told.append(_damage_program(rng, folder))
        elif rng.random() < 0.8:
            told.append(_damage_tensor(rng, folder))
        else:
            told.append(_damage_manifest(rng, raw["content"]))
    _seal(folder, raw)
    return "; ".join(told)


def _seal(folder: Path, raw: dict[str, Any]) -> None:
    files = raw["content"].get("files") if isinstance(raw["content"], dict) else None
    if isinstance(files, dict):
        files.update({name: asdict(mark_of(folder / name)) for name in files if (folder / name).is_file()})
    # What is no content has no version.
    with suppress(KeyError, TypeError, ValueError, AttributeError, OverflowError, MeshfoldError):
        raw["version"] = Content.from_json(raw["content"]).version
    (folder / MANIFEST).write_text(json.dumps(raw))


def _damage_tensor(rng: np.random.Generator, folder: Path) -> str:
    path = folder / TENSOR_FILES[rng.integers(len(TENSOR_FILES))]
    tensors = {
        name: array for name, array in sorted(load_file(path).items()) if not name.startswith("padding.")
    }
    path.unlink()
    name = list(tensors)[rng.integers(len(tensors))]
    if rng.random() < 0.05:
        other = list(tensors)[rng.integers(len(tensors))]
        tensors[name], tensors[other] = tensors[other], tensors[name]
        kind = f"exchanged with {other}"
    elif rng.random() < 0.03:
        del tensors[name]
        kind = "missing"
    else:
        change = CHANGES[rng.integers(len(CHANGES))]
        with np.errstate(all="ignore"):
            tensors[name] = np.ascontiguousarray(change(rng, tensors[name]))
        kind = change.__name__.strip("_")
    _write(path, tensors)
    return f"{path.name} {name} {kind}"


def _write(path: Path, tensors: Arrays) -> None:
    try:
        write_tensors(path, tensors)
    except KeyError:  # a dtype that no snapshot has
        path.unlink(missing_ok=True)
        save_file(tensors, path)


def _anything(rng: np.random.Generator, a: Array) -> Array:
    return np.frombuffer(rng.bytes(a.nbytes), a.dtype).reshape(a.shape)


def _extreme(rng: np.random.Generator, a: Array) -> Array:
    """Some entries, or one at either end."""
    if not a.size:
        return a
    values = FLOATS if a.dtype.kind == "f" else INTEGERS
    flat = a.reshape(-1)
    places = [rng.integers(a.size, size=rng.integers(1, 6)), np.array([0]), np.array([a.size - 1])]
    for place in places[rng.integers(3)]:
        value = np.array([values[rng.integers(len(values))]])
        flat[place] = value.astype(a.dtype)[0]
    return a


def _constant(rng: np.random.Generator, a: Array) -> Array:
    return np.full_like(a, _extreme(rng, a[:1].copy()).reshape(-1)[0]) if a.size else a


def _swapped(rng: np.random.Generator, a: Array) -> Array:
    if len(a):
        i, j = rng.integers(len(a), size=2)
        a[[i, j]] = a[[j, i]]
    return a


def _shuffled(rng: np.random.Generator, a: Array) -> Array:
    return rng.permutation(a)


def _reversed(rng: np.random.Generator, a: Array) -> Array:
    return a[::-1]


def _repeated(rng: np.random.Generator, a: Array) -> Array:
    if len(a):
        i, j = rng.integers(len(a), size=2)
        a[i] = a[j]
    return a


def _shifted(rng: np.random.Generator, a: Array) -> Array:
    by = np.array([rng.choice([-1, 1, 7, ITEMS])]).astype(a.dtype)
    shifted: Array = a + by if a.dtype != np.bool_ else ~a
    return shifted


def _shorter(rng: np.random.Generator, a: Array) -> Array:
    return a[: rng.choice([0, len(a) // 2, max(len(a) - 1, 0)])]


def _longer(rng: np.random.Generator, a: Array) -> Array:
    return np.concatenate([a, a[-1:]])


def _reshaped(rng: np.random.Generator, a: Array) -> Array:
    return (a[None], a.reshape(-1), a.T, a[..., None])[rng.integers(4)]


def _of_another_type(rng: np.random.Generator, a: Array) -> Array:
    return a.astype(DTYPES[rng.integers(len(DTYPES))])


CHANGES: tuple[Callable[[np.random.Generator, Array], Array], ...] = (
    *(_anything, _extreme, _extreme, _extreme, _constant, _swapped, _shuffled, _reversed, _repeated),
    *(_shifted, _shorter, _longer, _reshaped, _of_another_type),
)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, what holds the leaf, its key there), of all but lists and objects."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(entries):
        if isinstance(inner, dict | list):
            yield from _leaves(inner, f"{path}.{key}")
        else:
            yield f"{path}.{key}", value, key


def _change_leaf(rng: np.random.Generator, of: Any, numbers: float) -> str:
    """Another value in a place of JSON; numbers: how often a number is taken."""
    leaves = [leaf for leaf in _leaves(of) if not leaf[0].startswith(".files.")]
    numeric = [leaf for leaf in leaves if isinstance(leaf[1][leaf[2]], int | float)]
    if numeric and rng.random() < numbers:
        leaves = numeric
    path, holder, key = leaves[rng.integers(len(leaves))]
    before = holder[key]
    values: tuple[Any, ...] = (*INTEGERS, *FLOATS, *OTHERS)
    if isinstance(before, int | float) and rng.random() < 0.4:
        values = (before + 1, before - 1, before * 2, -before)
    holder[key] = values[rng.integers(len(values))]
    return f"{path} {before!r} is {holder[key]!r}"


def _damage_manifest(rng: np.random.Generator, content: dict[str, Any]) -> str:
    if rng.random() < 0.1:
        key = list(content)[rng.integers(len(content))]
        content[key] = OTHERS[rng.integers(len(OTHERS))] if rng.random() < 0.5 else [content[key]]
        return f"content.{key} is {content[key]!r:.60}"
    return f"content{_change_leaf(rng, content, 0.7)}"


def _damage_program(rng: np.random.Generator, folder: Path) -> str:
    path = folder / (USER_TOWER, OVER_ARCH)[rng.integers(2)]
    if rng.random() < 0.1:
        other = folder / (OVER_ARCH if path.name == USER_TOWER else USER_TOWER)
        path.write_bytes(other.read_bytes())
        return f"{path.name} is {other.name}"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    weights = [name for name in entries if "/weight_" in name or "/tensor_" in name]
    (config,) = (name for name in entries if name.endswith("weights_config.json"))
    (graph,) = (name for name in entries if name.endswith("models/model.json"))
    what = rng.random()
    if what < 0.25:
        name = weights[rng.integers(len(weights))]
        data = entries[name]
        changed = (b"", data[:-1], data[: len(data) // 2], data + b"\0" * 64, rng.bytes(len(data)))
        entries[name] = changed[rng.integers(len(changed))]
        told = f"{name} has {len(entries[name])} of {len(data)} bytes"
    else:
        name = config if what < 0.5 else graph
        held = json.loads(entries[name])
        if what < 0.9 or name != graph:
            told = f"{name}{_change_leaf(rng, held, 0.9)}"
        else:
            nodes = held["graph_module"]["graph"]["nodes"]
            node = nodes[rng.integers(len(nodes))]
            before, node["target"] = node["target"], OPERATORS[rng.integers(len(OPERATORS))]
            told = f"{before} is {node['target']}"
        entries[name] = json.dumps(held).encode()
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in entries.items():
            archive.writestr(zipfile.ZipInfo(entry), data)
    return f"{path.name} {told}"
