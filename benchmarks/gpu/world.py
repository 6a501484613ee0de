"""The catalog of `run.py`, made on the device in chunks: items of topics in learnt clusters, six fields.

Items lie around the centres of topics, as those of meshfold/model/data/generated.py do; users mix topics. Clusters are
learnt by the k-means of `meshfold build`. Nothing but a sample for the filter's layout is ever on the host.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import ITEMS, WORDS, count
from meshfold.kernels.filter.sign import SignedField, sign
from meshfold.kernels.vectors.quantize import Quantized, quantize
from meshfold.model.config import IndexConfig
from meshfold.model.data.catalog import Column
from meshfold.model.filter.expression import All, Expression, Match, Not, Range
from meshfold.model.filter.index import FilterLayout, layout_of
from meshfold.model.filter.module import EligibilityFilter
from meshfold.model.filter.program import FilterCompiler
from meshfold.model.index.ivf import IvfIndex
from meshfold.model.index.kmeans import Assigned, assign, learn_centroids, spreads
from meshfold.model.index.numbering import side_by_side
from meshfold.model.progress import Progress
from meshfold.model.schema import Field, FieldKind, Schema

LANGUAGES, COUNTRIES, SHOPS, FIRST_YEAR, YEARS, PRICES = 20, 200, 10_000, 1950, 76, 100.0
# An item's first, second and third tag, so that they ascend.
TAGS = ((0, 100), (100, 1000), (1000, 5000))
SCHEMA = Schema(
    "gpu",
    (
        Field("language", FieldKind.INTEGER),
        Field("country", FieldKind.INTEGER),
        Field("shop", FieldKind.INTEGER),
        Field("year", FieldKind.INTEGER),
        Field("price", FieldKind.NUMBER),
        Field("tags", FieldKind.INTEGERS),
    ),
    ("watch",),
    generated=True,
)
_DIMENSION_FALL = 0.35
_USER_SHIFT = 0.5
_CHUNK = 1 << 20
_ITERATIONS = 2
_SAMPLE = 1 << 20


@dataclass(frozen=True, eq=False)
class World:
    """index, filter: on the device. columns: [N] of each field of one value; tags: [N, 3], -1 for none."""

    index: IvfIndex
    filter: EligibilityFilter
    layout: FilterLayout
    columns: dict[str, Tensor]
    tag_offsets: Tensor
    tag_values: Tensor
    centres: Tensor
    spectrum: Tensor

    @property
    def items(self) -> int:
        return self.index.rows.numel()

    @property
    def dimension(self) -> int:
        return self.index.centroids.shape[1]

    @property
    def device(self) -> torch.device:
        return self.index.rows.device

    @classmethod
    def make(cls, items: int, dimension: int, device: torch.device, progress: Progress) -> World:
        topics = max(1, min(round(math.sqrt(items)), 1 << 14))
        falling = (torch.arange(dimension, dtype=torch.float64) + 1) ** -_DIMENSION_FALL
        spectrum = (falling / falling.square().sum().sqrt()).float().to(device)
        centres = torch.randn((topics, dimension), generator=_random(device, 1), device=device) * spectrum
        index = _index(items, centres, spectrum, progress)
        columns, offsets, values = _columns(items, device)
        layout = layout_of(SCHEMA, _sampled(columns, offsets, values))
        signature = _signature(layout, columns, offsets, values, progress)
        filter_ = _filter(signature, columns, offsets, values)
        return cls(index, filter_, layout, columns, offsets, values, centres, spectrum)

    def users(self, queries: int, seed: int) -> Tensor:
        """[queries, D] float32: each mixes up to four topics and shares a shift."""
        random = _random(self.device, seed)
        topics = torch.randint(len(self.centres), (queries, 4), generator=random, device=self.device)
        weights = torch.rand((queries, 4, 1), generator=random, device=self.device)
        mixed = (self.centres[topics] * weights).sum(1) / weights.square().sum(1).sqrt()
        shift = torch.randn(self.dimension, generator=_random(self.device, 2), device=self.device)
        return mixed + _USER_SHIFT * shift * self.spectrum

    def compiler(self) -> FilterCompiler:
        return FilterCompiler(SCHEMA, {}, self.layout)

    def passes(self, query: int) -> Tensor:
        """[N] bool: what `expression(query)` lets through, from the columns alone."""
        year, price = self.columns["year"], self.columns["price"].view(torch.float64)
        passed = (self.columns["language"] - query) % LANGUAGES < 8
        passed &= self.columns["country"] != query % COUNTRIES
        passed &= (year >= 1990) & (year <= 2020) & (price <= 60.0)
        for shop in _shops(query):
            passed &= self.columns["shop"] != shop
        tagged = torch.zeros_like(self.tag_values, dtype=torch.int32)
        for tag in _tags(query):
            tagged |= self.tag_values == tag
        before = torch.nn.functional.pad(torch.cumsum(tagged, 0, dtype=torch.int32), (1, 0))
        return passed & (before[self.tag_offsets[1:]] == before[self.tag_offsets[:-1]])


def expression(query: int) -> Expression:
    """Seven conditions over six fields; about a tenth of the items pass. Values differ from query to query."""
    return All(
        (
            Match("language", ints=tuple((query + i) % LANGUAGES for i in range(8))),
            Not(Match("country", ints=(query % COUNTRIES,))),
            Range("year", minimum=1990, inclusive=True),
            Range("year", maximum=2020, inclusive=True),
            Range("price", maximum=60.0, inclusive=True),
            Not(Match("tags", ints=_tags(query))),
            Not(Match("shop", ints=_shops(query))),
        )
    )


def _tags(query: int) -> tuple[int, ...]:
    return (query % 100, 100 + query * 7 % 900)


def _shops(query: int) -> tuple[int, ...]:
    return tuple((query * 31 + i) % SHOPS for i in range(3))


def _random(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(seed)


def _chunks(items: int) -> Iterator[tuple[int, int]]:
    """Ranges of positions, whole bundles each."""
    assert _CHUNK % ITEMS == 0
    for start in range(0, items, _CHUNK):
        yield start, min(start + _CHUNK, items)


def _index(items: int, centres: Tensor, spectrum: Tensor, progress: Progress) -> IvfIndex:
    dimension, device = centres.shape[1], centres.device
    codes = torch.empty((items, dimension), dtype=torch.int8, device=device)
    residuals, units = torch.empty_like(codes), torch.empty(items, device=device)
    for start, end in _chunks(items):
        progress(f"{items:,} items", start, items)
        random = _random(device, 1000 + start)
        topic = torch.randint(len(centres), (end - start,), generator=random, device=device)
        drawn = torch.randn((end - start, dimension), generator=random, device=device) * spectrum
        part = quantize((drawn + centres[topic]) / math.sqrt(2))
        codes[start:end], residuals[start:end], units[start:end] = part.codes, part.residuals, part.scales
    progress(f"{items:,} items", items, items)

    clusters = IndexConfig().clusters_of(items)
    # Items come in no order, so that the first are a sample.
    first = slice(0, min(items, 64 * clusters))
    sample = Quantized(codes[first], residuals[first], units[first])
    learnt = learn_centroids(sample, clusters, _ITERATIONS, 0, progress).to("cpu")
    centroids = learnt.in_order(side_by_side(learnt, 0)).to(device)
    members = torch.empty(items, dtype=torch.int64, device=device)
    distances = torch.empty(items, device=device)
    for start, end in _chunks(items):
        progress("assigning", start, items)
        near = assign(codes[start:end], units[start:end], centroids)
        members[start:end], distances[start:end] = near.members, near.distances
    progress("assigning", items, items)
    spread = spreads(Assigned(members, distances), clusters, dimension)
    del distances
    sizes = torch.bincount(members, minlength=clusters)
    offsets = torch.nn.functional.pad(torch.cumsum(sizes, 0), (1, 0))
    order = torch.argsort(members, stable=True)
    del members
    codes = codes[order]
    residuals = residuals[order]
    return IvfIndex(
        Quantized(codes, residuals, units[order]),
        order.int(),
        centroids.codes,
        centroids.scales,
        spread,
        offsets,
        scan_budget=0,
    )


def _columns(items: int, device: torch.device) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The fields of one value, and the tags as offsets and values."""
    ranges = {"language": LANGUAGES, "country": COUNTRIES, "shop": SHOPS, "year": YEARS}
    columns = {name: torch.empty(items, dtype=torch.int32, device=device) for name in ranges}
    columns["price"] = torch.empty(items, dtype=torch.int64, device=device)
    lengths, values = torch.empty(items, dtype=torch.int64, device=device), []
    for start, end in _chunks(items):
        random, n = _random(device, 2000 + start), end - start
        for name, many in ranges.items():
            columns[name][start:end] = torch.randint(many, (n,), generator=random, device=device)
        # In cents, from 0 on: the order-preserving key of such a number is its bits.
        cents = torch.randint(int(PRICES * 100) + 1, (n,), generator=random, device=device)
        columns["price"][start:end] = (cents.double() / 100).view(torch.int64)
        own = torch.randint(4, (n,), generator=random, device=device)
        tags = torch.stack([_skewed(low, high, n, random) for low, high in TAGS], 1)
        lengths[start:end] = own
        values.append(tags[torch.arange(3, device=device) < own.unsqueeze(1)].int())
    columns["year"] += FIRST_YEAR
    return columns, torch.nn.functional.pad(torch.cumsum(lengths, 0), (1, 0)), torch.cat(values)


def _skewed(low: int, high: int, n: int, random: torch.Generator) -> Tensor:
    drawn = torch.rand(n, generator=random, device=random.device).double()
    return low + (drawn.pow(3) * (high - low)).long()


def _sampled(columns: dict[str, Tensor], offsets: Tensor, values: Tensor) -> dict[str, Column]:
    """The first items' columns as a build has them: what each field's rows are chosen from."""
    n = min(_SAMPLE, offsets.numel() - 1)
    single = torch.arange(n + 1).numpy()
    made = {
        name: Column(SCHEMA[name].kind, single, column[:n].long().cpu().numpy())
        for name, column in columns.items()
    }
    held = values[: int(offsets[n])].long().cpu().numpy()
    return made | {"tags": Column(FieldKind.INTEGERS, offsets[: n + 1].cpu().numpy(), held)}


def _signature(
    layout: FilterLayout, columns: dict[str, Tensor], offsets: Tensor, values: Tensor, progress: Progress
) -> Tensor:
    items, device = offsets.numel() - 1, offsets.device
    signature = torch.empty((count(items), layout.rows, WORDS), dtype=torch.int64, device=device)
    planes = [torch.from_numpy(f.plane_values.copy()).to(device) for f in layout.fields]
    for start, end in _chunks(items):
        progress("signing", start, items)
        n = end - start
        first, last = int(offsets[start]), int(offsets[end])
        ragged = (
            *((torch.arange(n + 1, device=device), column[start:end]) for column in columns.values()),
            (offsets[start : end + 1] - first, values[first:last]),
        )
        fields = [
            SignedField(
                own, held.long(), plane, row, *((f.bloom.part, f.bloom.hashes) if f.bloom else (0, 0))
            )
            for (own, held), plane, row, f in zip(
                ragged, planes, layout.first_rows, layout.fields, strict=True
            )
        ]
        part = sign(fields, torch.arange(n, device=device), layout.rows)
        signature[start // ITEMS : start // ITEMS + part.shape[0]] = part
    progress("signing", items, items)
    return signature


def _filter(
    signature: Tensor, columns: dict[str, Tensor], offsets: Tensor, values: Tensor
) -> EligibilityFilter:
    names = [f.name for f in SCHEMA.filterable]
    none = torch.empty(0, dtype=torch.int64, device=offsets.device)
    return EligibilityFilter(
        offsets.numel() - 1,
        signature,
        [*(columns[name] for name in names[:-1]), values],
        [*[none] * (len(names) - 1), offsets],
        [f.kind is FieldKind.NUMBER for f in SCHEMA.filterable],
    )


def with_budget(index: IvfIndex, budget: int, device: torch.device | None = None) -> IvfIndex:
    """The same index with another budget of survivors that a query scores. device: None for the index's own."""

    def on(tensor: Tensor) -> Tensor:
        return tensor.to(device or tensor.device)

    return IvfIndex(
        Quantized(on(index.codes), on(index.residuals), on(index.units)),
        *(on(index.rows), on(index.centroids), on(index.centroid_units), on(index.centroid_spreads)),
        on(index.offsets),
        budget,
    )


def on_host(world: World) -> World:
    """The same world on the CPU, for its kernels."""
    host = torch.device("cpu")
    columns = {name: column.to(host) for name, column in world.columns.items()}
    offsets, values = world.tag_offsets.to(host), world.tag_values.to(host)
    return replace(
        world,
        index=with_budget(world.index, world.index._scan_budget, host),
        filter=_filter(world.filter.tensors().signature.to(host), columns, offsets, values),
        columns=columns,
        tag_offsets=offsets,
        tag_values=values,
        centres=world.centres.to(host),
        spectrum=world.spectrum.to(host),
    )
