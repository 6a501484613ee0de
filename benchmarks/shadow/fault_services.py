"""Meshes and models with planted faults: real services over faulty stores, and proxies that rewrite messages."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent import futures
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.processes import running
from benchmarks.shadow.fault_stores import SURFACE, Contents, Stores, newest
from meshfold.compat.mesh import orchestrator
from meshfold.compat.mesh.orchestrator import Orchestrator, Parts
from meshfold.compat.mesh_v1 import retrieve, score, search
from meshfold.compat.shadow.attribution import MeshFacts
from meshfold.protos.mesh.v1 import orchestrator_pb2, retrieval_pb2, scoring_pb2, types_pb2

TIMEOUT_S = 60.0
FAULTS = ("missing", "not_ignored", "shuffled", "stale", "tower", "head", "float16", "fifth")
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))

Ask = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Mesh:
    """ask: its orchestrator. facts: where the services behind it are."""

    ask: Ask
    facts: MeshFacts


class Services:
    """Starts services at first use; they end with the block."""

    def __init__(self, stores: Stores, logs: Path) -> None:
        self._stores, self._logs = stores, logs
        self._stack = ExitStack()
        self._running: dict[tuple[str, ...], str] = {}
        self._meshes: dict[frozenset[str], Mesh] = {}
        self._models: dict[frozenset[str], Ask] = {}

    def __enter__(self) -> Services:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def mesh(self, faults: frozenset[str]) -> Mesh:
        if faults not in self._meshes:
            self._meshes[faults] = self._mesh(faults)
        return self._meshes[faults]

    def model(self, faults: frozenset[str]) -> Ask:
        if faults not in self._models:
            address = self._served(model_store(faults))
            ask = self._call(address, retrieve.METHOD)
            if "not_ignored" in faults:
                ask = _rewriting_request(ask)
            self._models[faults] = _with_answer_faults(ask, faults)
        return self._models[faults]

    def _mesh(self, faults: frozenset[str]) -> Mesh:
        stale = Contents(stale="stale" in faults)
        found_in = replace(stale, missing="missing" in faults)
        fifth = replace(found_in, fifth="fifth" in faults)
        tower = self._service("tower", self._stores.store_of(replace(stale, tower="tower" in faults)))
        indices = self._stores.indices_of(fifth)
        retrieval = self._service("retrieval", self._stores.store_of(found_in), f"--indices={indices}")
        scoring = self._service("scoring", self._stores.store_of(replace(stale, head="head" in faults)))
        if "not_ignored" in faults:
            retrieval = self._proxy(retrieval, search.METHOD, _search_without_not, bytes)
        if "float16" in faults:
            scoring = self._proxy(scoring, score.METHOD, bytes, _score_in_float16)
        parts = Parts(tower, retrieval, scoring, TIMEOUT_S)
        of_surface = Orchestrator.open(newest(self._stores.store_of(stale)), SURFACE, parts, 0)

        def ask(request: bytes) -> bytes:
            return of_surface.retrieve(orchestrator.decode(request), math.inf, lambda: True)

        # Faults of rounding and rewriting lie behind the orchestrator; the order is shuffled in front of it.
        return Mesh(
            _with_answer_faults(ask, faults & {"shuffled"}),
            MeshFacts(tower, retrieval, scoring, timeout_s=TIMEOUT_S),
        )

    def _service(self, name: str, store: Path, *flags: str) -> str:
        words = (
            "mesh",
            "run",
            name,
            f"--store={store}",
            "--address=127.0.0.1:0",
            "--json",
            "--attached",
            *flags,
        )
        return self._process(words, lambda line: json.loads(line)["address"])

    def _served(self, of: Contents) -> str:
        words = ("serve", f"--store={self._stores.store_of(of)}", "--address=127.0.0.1:0")
        return self._process(words, lambda line: line.removeprefix("listening on ").partition(",")[0].strip())

    def _process(self, words: tuple[str, ...], address_of: Callable[[str], str]) -> str:
        if words not in self._running:
            log = self._logs / f"{len(self._running)}-{words[2] if words[0] == 'mesh' else words[0]}.log"
            line = self._stack.enter_context(running(words, "127.0.0.1", log, is_killed=True))
            self._running[words] = address_of(line)
        return self._running[words]

    def _proxy(
        self, target: str, method: str, request: Callable[[bytes], bytes], answer: Callable[[bytes], bytes]
    ) -> str:
        """The address of a server that passes one method on to `target`, messages rewritten."""
        call = self._call(target, method)
        handler = grpc.unary_unary_rpc_method_handler(lambda message, _: answer(call(request(message))))
        service, _, name = method.strip("/").partition("/")
        server = grpc.server(futures.ThreadPoolExecutor(4), options=_OPTIONS)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self._stack.callback(lambda: server.stop(None).wait())
        return f"127.0.0.1:{port}"

    def _call(self, address: str, method: str) -> Ask:
        channel = self._stack.enter_context(grpc.insecure_channel(address, _OPTIONS))
        call = channel.unary_unary(method)
        return lambda message: call(message, timeout=TIMEOUT_S)


def model_store(faults: frozenset[str]) -> Contents:
    """The store of a model with these faults, less those that proxies plant."""
    return Contents(**{name: name in faults for name in vars(Contents())})


def _without_not(message: types_pb2.Filter) -> None:
    """Every `not` of a filter becomes one that everything passes."""
    kind = message.WhichOneof("kind")
    if kind == "not":
        message.all.SetInParent()
    elif kind in ("all", "any", "at_least"):
        for inner in getattr(message, kind).filters:
            _without_not(inner)


def _search_without_not(message: bytes) -> bytes:
    request = retrieval_pb2.SearchRequest.FromString(message)
    _without_not(request.filter)
    changed: bytes = request.SerializeToString()
    return changed


def _score_in_float16(message: bytes) -> bytes:
    response = scoring_pb2.ScoreResponse.FromString(message)
    response.values[:] = _rounded(response.values)
    changed: bytes = response.SerializeToString()
    return changed


def _rounded(values: Any) -> list[float]:
    rounded: list[float] = np.array(values, np.float16).astype(np.float32).tolist()
    return rounded


def _rewriting_request(ask: Ask) -> Ask:
    def asked(message: bytes) -> bytes:
        request = orchestrator_pb2.RetrieveRequest.FromString(message)
        _without_not(request.filter)
        return ask(request.SerializeToString())

    return asked


def _with_answer_faults(ask: Ask, faults: frozenset[str]) -> Ask:
    """Asks for more results than are wanted, and returns those that a fault lets be the best."""
    if not faults & {"shuffled", "float16"}:
        return ask

    def asked(message: bytes) -> bytes:
        request = orchestrator_pb2.RetrieveRequest.FromString(message)
        wanted = request.max_results
        request.max_results = wanted * 3 // 2
        response = orchestrator_pb2.RetrieveResponse.FromString(ask(request.SerializeToString()))
        candidates = list(response.candidates)
        if "float16" in faults:
            for candidate, value in zip(candidates, _rounded([c.value for c in candidates]), strict=True):
                candidate.value = value
            candidates.sort(key=lambda c: (-c.value, c.item_id))
        if "shuffled" in faults:
            random = np.random.default_rng(len(message))
            moved = np.arange(len(candidates)) + random.uniform(0, wanted / 2, len(candidates))
            candidates = [candidates[place] for place in np.argsort(moved)]
        del response.candidates[:]
        response.candidates.extend(candidates[:wanted])
        changed: bytes = response.SerializeToString()
        return changed

    return asked
