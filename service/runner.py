"""One loaded snapshot on its device or devices: queries to tensors, a forward pass or a part of it, answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from meshfold.kernels.columns import values_at
from meshfold.kernels.filter_program import Op, Programs
from meshfold.model.batch import QueryBatch, Results, ScoreBatch, SearchBatch, UserBatch
from meshfold.model.data.catalog import numbers_of_keys
from meshfold.model.errors import InvalidConfig, InvalidQuery
from meshfold.model.filter.program import FilterCompiler
from meshfold.model.filter.unmatched import UnmatchedParts
from meshfold.model.inputs import HISTORY, PAD, encode_inputs, query_vectors
from meshfold.model.item_ids import select
from meshfold.model.limits import NO_LIMITS, check
from meshfold.model.program import use_ieee_floats
from meshfold.model.progress import Progress, silent
from meshfold.model.query_lists import with_arrays
from meshfold.model.ranking import TILE
from meshfold.model.residence import Residuals, reside, workspace_bytes
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.schema import FieldKind, nearest
from meshfold.model.sharded import ShardedModel
from meshfold.model.snapshot import USER_TOWER, Snapshot
from meshfold.model.types import (
    Candidates,
    Embeddings,
    EmbedQuery,
    FieldValues,
    Ids,
    Int64s,
    Neighbours,
    Query,
    ScoreQuery,
    Scores,
    SearchQuery,
    User,
)
from meshfold.model.value.formulas import padded
from meshfold.service.extras import need
from meshfold.service.graphs import Graphs, depth_padded
from meshfold.service.notes import Notes
from meshfold.service.prepared import PreparedQuery, PreparedScore, PreparedSearch, PreparedUser

Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")
Batch = TypeVar("Batch")

# Users that a tower is run for before the next come in: what they take is held at once.
_USERS_AT_ONCE = 256


class Runner:
    """Answers for one snapshot, from any thread.

    surface, version, schema: the snapshot's. items: how many it has. candidates: that a query has at least.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        device: str = "cpu",
        residuals: str = "device",
        max_batch: int = 32,
        cuda_graphs: int = 32,
        progress: Progress = silent,
    ) -> None:
        """residuals: where a GPU finds them, in words of model/residence.py. max_batch: queries that it must have room
        for. cuda_graphs: as of service/graphs.py."""
        self.schema = snapshot.schema
        self.surface = snapshot.schema.surface
        self.version = snapshot.version
        self._content = snapshot.content
        devices = devices_of(device)
        self._device = devices[0]
        self._on_cuda = self._device.type == "cuda"
        self.candidates = self._content.config.candidates_on(self._device.type)
        self.items = self._content.items
        # Of a GPU, passes take turns; on a CPU they run side by side.
        self._turn: AbstractContextManager[Any] = threading.Lock() if self._on_cuda else nullcontext()
        self.model: RetrievalModel | ShardedModel
        self._forward: Callable[[QueryBatch], Results]
        if self._on_cuda:
            use_ieee_floats()
        if len(devices) > 1:
            self._forward = self.model = ShardedModel.of(snapshot, devices).eval()
        else:
            self._forward = self.model = model = RetrievalModel.of(snapshot).eval()
            if self._on_cuda:
                # The kernels of a GPU read none.
                model.filter.drop_lists()
                workspace = workspace_bytes(
                    model.index, len(self.schema.tasks), max_batch, self._depth(self.candidates)
                )
                # Graphs have a pool of memory of their own, beside that of passes which run operation by operation.
                workspace *= 2 if cuda_graphs else 1
                reside(model, self._device, Residuals(residuals), workspace, progress)
                self._forward = Graphs(model, self._device, cuda_graphs)
            else:
                model.index.in_huge_pages()
        # Fields of answers are read where they are mapped, whatever the model's device.
        self._columns = (snapshot.filter["signature"], *snapshot.columns())
        self._ids = snapshot.item_ids()
        self._positions: Int64s = snapshot.items["positions"].numpy()
        self._rows: npt.NDArray[np.int32] = snapshot.index["rows"].numpy()
        self._vocabularies = snapshot.vocabularies()
        self._texts = snapshot.texts()
        self._compiler = FilterCompiler(self.schema, self._vocabularies, snapshot.layout())
        unmatched = UnmatchedParts(self.schema, self._compiler.codes, *self._columns, self.items)
        has_user_tower = USER_TOWER in self._content.files
        self._notes = Notes(self.schema, self._content.value, unmatched, has_user_tower)

    @classmethod
    def open(
        cls,
        folder: Path,
        surface: str,
        device: str = "cpu",
        residuals: str = "device",
        max_batch: int = 32,
        cuda_graphs: int = 32,
        progress: Progress = silent,
    ) -> Self:
        """Raises SnapshotRefused where the folder is no whole snapshot of the surface, or the device has no room."""
        snapshot = Snapshot.open(folder, surface)
        runner = cls(snapshot, device, residuals, max_batch, cuda_graphs, progress)
        runner._warm_up()
        return runner

    def prepare(self, query: Query) -> PreparedQuery:
        """Raises InvalidQuery where the query does not fit the schema, UnknownName for an unknown formula."""
        query = with_arrays(query)
        check(query, NO_LIMITS)
        user = self._prepare_user(query.user)
        excluded = [self._positions_of(query.excluded_ids, "excluded_ids")]
        if self.schema.exclude_history:
            excluded.append(user.met)
        depth, cap_field = self._depth(query.max_results), self._cap_field(query)
        return PreparedQuery(
            query=query,
            user=user,
            excluded=np.concatenate(excluded),
            program=self._compiler.compile(query.filter),
            value=self._content.value.prepare(query.value_formula, query.task_weights, query.features),
            cap_field=cap_field,
            fields=self._fields(query),
            depth=depth,
            plan=(depth_padded(depth), cap_field >= 0) if self._on_cuda else None,
        )

    def run(self, batch: Sequence[PreparedQuery]) -> list[Candidates]:
        """One forward pass for queries that this runner prepared."""
        collated = self.collate(batch)
        with self._turn, torch.inference_mode():
            results = self._forward(collated)
        return [self._answer(prepared, results, i) for i, prepared in enumerate(batch)]

    def prepare_embed(self, query: EmbedQuery) -> list[PreparedUser]:
        """Raises InvalidQuery where a user does not fit the schema."""
        query = with_arrays(query)
        check(query, NO_LIMITS)
        prepared = []
        for place, user in enumerate(query.users):
            try:
                prepared.append(self._prepare_user(user))
            except InvalidQuery as error:
                raise error.within(f"users[{place}]") from None
        return prepared

    def embed(self, batch: Sequence[Sequence[PreparedUser]]) -> list[Embeddings]:
        """The user tower alone."""
        users = [user for of_query in batch for user in of_query]
        parts = [np.empty((0, len(self.schema.tasks), self._content.dimension), np.float32)]
        with self._turn, torch.inference_mode():
            for start in range(0, len(users), _USERS_AT_ONCE):
                vectors, known = self.model.embed(
                    self._moved(self._users(users[start : start + _USERS_AT_ONCE]))
                )
                parts.append(torch.where(known[:, None, None], vectors, 0.0).cpu().numpy())
        ends = np.cumsum([len(of_query) for of_query in batch])
        each = np.split(np.concatenate(parts), ends[:-1])
        return [Embeddings(self.schema.tasks, self.version, vectors) for vectors in each]

    def prepare_search(self, query: SearchQuery) -> PreparedSearch:
        """Raises InvalidQuery where the query does not fit the schema."""
        query = with_arrays(query)
        check(query, NO_LIMITS)
        d = self._content.dimension
        for place, vector in enumerate(query.queries):
            if vector.size != d:
                raise InvalidQuery(f"queries[{place}]", f"has {vector.size} values; expected {d}")
        return PreparedSearch(
            queries=np.concatenate([np.empty(0, np.float32), *query.queries]).reshape(-1, d),
            excluded=self._positions_of(query.excluded_ids, "excluded_ids"),
            program=self._compiler.compile(query.filter),
            depth=self._depth(query.k),
            k=query.k,
        )

    def search(self, batch: Sequence[PreparedSearch]) -> list[Neighbours]:
        """The index and the filter alone. Queries of as many vectors run together: padding would search for nothing."""
        return _by_size(batch, lambda prepared: len(prepared.queries), self._search)

    def _search(self, batch: Sequence[PreparedSearch]) -> list[Neighbours]:
        if not len(batch[0].queries):
            return [Neighbours(self.version, (), ()) for _ in batch]
        with self._turn, torch.inference_mode():
            nearest = self.model.search(
                self._moved(
                    SearchBatch(
                        vectors=torch.from_numpy(np.stack([p.queries for p in batch])),
                        programs=self._programs(batch),
                        depth=torch.tensor([p.depth for p in batch]),
                        max_results=torch.tensor([p.k for p in batch]),
                        candidates=max(p.depth for p in batch),
                        k=max(p.k for p in batch),
                    )
                )
            )
        answers = []
        for positions, similarities in zip(
            nearest.positions.cpu().numpy(), nearest.similarities.cpu().numpy(), strict=True
        ):
            lengths = (positions >= 0).sum(1).tolist()
            answers.append(
                Neighbours(
                    self.version,
                    tuple(self._ids_at(p[:n]) for p, n in zip(positions, lengths, strict=True)),
                    tuple(s[:n] for s, n in zip(similarities, lengths, strict=True)),
                )
            )
        return answers

    def prepare_score(self, query: ScoreQuery) -> PreparedScore:
        """Raises InvalidQuery where the query does not fit the schema, UnknownName for an unknown formula."""
        query = with_arrays(query)
        check(query, NO_LIMITS)
        positions = self._positions_of(query.item_ids, "item_ids")
        known = positions >= 0
        return PreparedScore(
            user=self._prepare_user(query.user),
            item_ids=select(query.item_ids, known),
            positions=positions[known],
            unknown_ids=select(query.item_ids, ~known),
            value=self._content.value.prepare(query.value_formula, query.task_weights, query.user.features),
        )

    def score(self, batch: Sequence[PreparedScore]) -> list[Scores]:
        """Ranking and value alone, with the item vectors of the index. Queries of as many tiles run together."""
        return _by_size(batch, lambda prepared: -(-len(prepared.positions) // TILE), self._score)

    def _score(self, batch: Sequence[PreparedScore]) -> list[Scores]:
        value_steps, value_constants = padded([p.value for p in batch])
        with self._turn, torch.inference_mode():
            values, task_scores = self.model.score(
                self._moved(
                    ScoreBatch(
                        users=self._users([p.user for p in batch]),
                        positions=torch.from_numpy(_padded([p.positions for p in batch], -1)),
                        value_steps=torch.from_numpy(value_steps),
                        value_constants=torch.from_numpy(value_constants),
                    )
                )
            )
        answers = []
        for prepared, of_query, scores in zip(
            batch, values.cpu().numpy(), task_scores.transpose(1, 2).cpu().numpy(), strict=True
        ):
            m = len(prepared.positions)
            answers.append(
                Scores(
                    tasks=self.schema.tasks,
                    version=self.version,
                    item_ids=prepared.item_ids,
                    values=of_query[:m],
                    task_scores=scores[:m],
                    unknown_ids=prepared.unknown_ids,
                )
            )
        return answers

    def _warm_up(self) -> None:
        """The first pass through each module sets up much that later ones find; no caller should wait for it."""
        first = self._ids.at(np.zeros(1, np.int64))
        known, unknown = Query(self.surface, 1, history=first), Query(self.surface, 1)
        self.run([self.prepare(known), self.prepare(unknown)])

    def _prepare_user(self, user: User) -> PreparedUser:
        met = self._positions_of(user.history, "history")
        return PreparedUser(
            query_vector=query_vectors(user.features, len(self.schema.tasks), self._content.dimension),
            met=met,
            history=met[-HISTORY:],
            history_ids=self._ids.keys_of(user.history[-HISTORY:]),
            inputs=encode_inputs(self.schema.inputs, user.features),
            has_input=any(len(user.features.get(i.name, ())) for i in self.schema.inputs),
        )

    def _depth(self, results: int) -> int:
        """Candidates to find for so many results."""
        return min(max(self.candidates, results + results // 4), self._content.items)

    def _positions_of(self, item_ids: Ids, path: str) -> Int64s:
        """Positions of items, -1 for those that the catalog has not. Raises InvalidQuery for the other kind of id."""
        rows = self._ids.rows_of(item_ids, path)
        return np.where(rows >= 0, self._positions[rows], -1)

    def _cap_field(self, query: Query) -> int:
        if query.max_per_value is None:
            return -1
        fields = {f.name: place for place, f in enumerate(self.schema.filterable)}
        name = query.max_per_value.field
        if name not in fields:
            raise InvalidQuery("max_per_value.field", f"no filterable field {name!r}{nearest(name, fields)}")
        return fields[name]

    def _fields(self, query: Query) -> tuple[str, ...]:
        for i, name in enumerate(query.fields):
            if name not in self.schema:
                known = [f.name for f in self.schema.fields]
                raise InvalidQuery(f"fields[{i}]", f"no field {name!r}{nearest(name, known)}")
        return tuple(dict.fromkeys(query.fields))

    def collate(self, batch: Sequence[PreparedQuery]) -> QueryBatch:
        """Queries as the model takes them, in the host's memory."""
        value_steps, value_constants = padded([p.value for p in batch])
        caps = [p.query.max_per_value for p in batch]
        return QueryBatch(
            users=self._users([p.user for p in batch]),
            programs=self._programs(batch),
            depth=torch.tensor([p.depth for p in batch]),
            max_results=torch.tensor([p.query.max_results for p in batch]),
            value_steps=torch.from_numpy(value_steps),
            value_constants=torch.from_numpy(value_constants),
            cap_field=torch.tensor([p.cap_field for p in batch]),
            cap_limit=torch.tensor([0 if c is None else c.limit for c in caps]),
            explain=torch.tensor([p.query.explain for p in batch]),
            k=max(p.depth for p in batch),
            capped=any(p.cap_field >= 0 for p in batch),
        )

    def _users(self, users: Sequence[PreparedUser]) -> UserBatch:
        t, d = len(self.schema.tasks), self._content.dimension
        vectors = np.zeros((len(users), t, d), np.float32)
        for i, user in enumerate(users):
            if user.query_vector is not None:
                vectors[i] = user.query_vector
        return UserBatch(
            query_vectors=torch.from_numpy(vectors),
            has_vector=torch.from_numpy(np.array([u.query_vector is not None for u in users])),
            history_positions=torch.from_numpy(_padded([u.history for u in users], -1, HISTORY)),
            history_ids=torch.from_numpy(_padded([u.history_ids for u in users], PAD, HISTORY)),
            inputs={
                i.name: torch.from_numpy(np.stack([u.inputs[i.name] for u in users]))
                for i in self.schema.inputs
            },
            has_input=torch.from_numpy(np.array([u.has_input for u in users])),
        )

    def _programs(self, batch: Sequence[PreparedQuery] | Sequence[PreparedSearch]) -> Programs:
        return Programs(
            steps=torch.from_numpy(_padded([p.program.steps for p in batch], int(Op.NOOP))),
            values=torch.from_numpy(_padded([p.program.values for p in batch], 0)),
            value_rows=torch.from_numpy(_padded([p.program.value_rows for p in batch], 0)),
            excluded=torch.from_numpy(_padded([p.excluded for p in batch], -1)),
        )

    def _moved(self, batch: Batch) -> Batch:
        """A batch on the model's device."""
        if not self._on_cuda:
            return batch
        moved: Batch = tree_map_only(Tensor, lambda tensor: tensor.to(self._device), batch)
        return moved

    def _answer(self, prepared: PreparedQuery, results: Results, i: int) -> Candidates:
        k = int((results.positions[i] >= 0).sum())
        positions: Int64s = results.positions[i, :k].numpy()
        return Candidates(
            tasks=self.schema.tasks,
            version=self.version,
            item_ids=self._ids_at(positions),
            values=results.values[i, :k].numpy(),
            similarities=results.similarities[i, :k].numpy(),
            task_scores=results.task_scores[i, :k].numpy(),
            fields={name: self._field_values(name, positions) for name in prepared.fields},
            explain=self._explain(prepared, results, i) if prepared.query.explain else {},
        )

    def _ids_at(self, positions: Int64s) -> Ids:
        return self._ids.at(self._rows[positions].astype(np.int64))

    def _field_values(self, name: str, positions: Int64s) -> FieldValues:
        field = self.schema[name]
        if field.kind is FieldKind.TEXT:
            texts = [self._texts[name][p] for p in positions.tolist()]
            present = np.array([text != "" for text in texts], np.int64)
            return FieldValues(present, tuple(text for text in texts if text))
        place = self.schema.filterable.index(field)
        signature, columns, offsets = self._columns
        lengths, held = values_at(
            signature, columns[place], offsets[place], place, torch.from_numpy(positions)
        )
        values: Int64s = held.numpy()
        if field.kind.holds_strings:
            words = self._vocabularies[name]
            return FieldValues(lengths.numpy(), tuple(words[code] for code in values.tolist()))
        if field.kind is FieldKind.NUMBER:
            return FieldValues(lengths.numpy(), numbers_of_keys(values))
        return FieldValues(lengths.numpy(), values)

    def _explain(self, prepared: PreparedQuery, results: Results, i: int) -> Mapping[str, str]:
        n = self._content.items
        known = bool(results.known[i])
        eligible = int(results.eligible[i])
        explain = {
            "user": "known" if known else "nothing known: the most popular eligible items",
            "items": str(n),
            "eligible": str(eligible),
            "pass_rate": f"{eligible / n:.6f}",
        }
        if known:
            plan, rate = self.model.plan(int(results.sampled[i]), prepared.depth)
            explain |= {"plan": plan.value, "estimated_pass_rate": f"{rate:.6f}"}
            opened, scored = results.opened[i].tolist(), results.scored[i].tolist()
            for task, clusters, items in zip(self.schema.tasks, opened, scored, strict=True):
                explain[f"{task}.clusters_opened"] = f"{clusters} of {self._content.clusters}"
                explain[f"{task}.items_scored"] = str(items)
            explain["exact"] = str(all(items == eligible for items in scored)).lower()
        return explain | self._notes.of(prepared, known, eligible)


def devices_of(names: str) -> list[torch.device]:
    """One, or several with commas between. Raises InvalidConfig as device_of does."""
    return [device_of(name.strip()) for name in names.split(",")]


def device_of(name: str) -> torch.device:
    """Raises InvalidConfig where no model can run on it here."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InvalidConfig(f"device must be cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise InvalidConfig(
                f"device {name}: torch {torch.__version__} finds {found} GPUs here; install a build of torch"
                " for CUDA and a driver, or use --device cpu"
            )
        need("gpu", f"device {name}")
    return device


def _by_size(
    batch: Sequence[Prepared],
    size: Callable[[Prepared], int],
    run: Callable[[Sequence[Prepared]], Sequence[Answer]],
) -> list[Answer]:
    """Runs those of one size together; the answers are in the order of the batch."""
    places: dict[int, list[int]] = {}
    for place, prepared in enumerate(batch):
        places.setdefault(size(prepared), []).append(place)
    answers = {
        place: answer
        for of_size in places.values()
        for place, answer in zip(of_size, run([batch[place] for place in of_size]), strict=True)
    }
    return [answers[place] for place in range(len(batch))]


def _padded(arrays: Sequence[Int64s], filler: int, length: int = 0) -> Int64s:
    """Arrays of different first dimensions as one: [B, length, ...] int64; 0 is the longest's."""
    longest = length or max(len(a) for a in arrays)
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), filler, np.int64)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out
