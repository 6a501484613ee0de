"""Reads files of requests, as `meshfold record read --requests` writes them, into pairs without answers.

A file has mesh.v1.RetrieveRequest messages, each after its length as a varint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from google.protobuf.message import DecodeError
from google.protobuf.proto import parse_length_prefixed

from meshfold.compat.key import KeyedHash
from meshfold.compat.shadow.pair_files import read_pairs
from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.recorded import is_recording, recorded_pairs
from meshfold.compat.shadow.request_facts import facts_of
from meshfold.compat.shadow.skipped import Skipped
from meshfold.compat.traffic import Traffics
from meshfold.model.errors import InvalidData
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

NO_REQUESTS = "messages that are no requests"
_PAIR_SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json")
CUT = "files of requests that end in the middle"


def requests_of(
    place: Path, keyed: KeyedHash, skipped: Skipped, traffics: Traffics | None = None
) -> Iterator[Pair]:
    """Pairs with requests to replay, from a recording, from files of pairs, or from a file of requests.

    keyed: hashes ids of users and requests that are not hashes yet. traffics: of mapped methods in a recording, whose
    requests are translated to mesh.v1. Raises InvalidData.
    """
    if is_recording(place):
        return recorded_pairs(place, keyed, skipped, traffics=traffics)
    if place.is_dir() or place.suffix in _PAIR_SUFFIXES:
        return read_pairs(place, skipped=skipped)
    return read_requests(place, keyed, skipped)


def read_requests(path: Path, keyed: KeyedHash, skipped: Skipped) -> Iterator[Pair]:
    """The requests of a file. keyed: hashes ids of users and requests. A request without an id gets its number as id.

    skipped: counts messages that cannot be parsed. Raises InvalidData where the file cannot be read or has no request.
    """
    number = read = 0
    try:
        with path.open("rb") as file:
            while True:
                number += 1
                where = f"{path}, message {number}"
                try:
                    request = parse_length_prefixed(pb.RetrieveRequest, file)
                except DecodeError:
                    skipped.add(NO_REQUESTS, where)
                    continue
                except ValueError:
                    skipped.add(CUT, where)
                    break
                if request is None:
                    break
                read += 1
                message = request.SerializeToString()
                pair = Pair(**vars(facts_of(message, keyed)), request=message)
                yield pair if pair.request_id else replace(pair, request_id=f"request-{number}")
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from None
    if not read:
        raise InvalidData(
            f"{path} holds no requests; expected length-prefixed mesh.v1.RetrieveRequest messages"
        )
