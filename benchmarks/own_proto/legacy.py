"""The made-up company's own server: exact search over its vectors, with histories from its Redis.

python -m benchmarks.own_proto.legacy --world build/own_proto/world --redis unix:///tmp/redis.sock
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pyarrow.parquet as pq

from benchmarks.arguments import arguments
from benchmarks.own_proto.protocol import SERVICE, Messages, messages

# Its name of what the model has as a country.
_COUNTRIES = {"se": "COUNTRY_SE", "de": "COUNTRY_DE", "jp": "COUNTRY_JP"}
Mask = np.ndarray[Any, np.dtype[np.bool_]]
_OPERATORS: dict[str, Callable[[Any, Any], Mask]] = {
    "!=": lambda held, wanted: ~np.isin(held, wanted),
    ">=": lambda held, wanted: held >= wanted[0],
    "<=": lambda held, wanted: held <= wanted[0],
    "=": lambda held, wanted: np.isin(held, wanted),
}
_LONG_S = 3600.0


class Refused(Exception):
    """An error for a caller."""


class Feed:
    """Its catalog in memory."""

    def __init__(self, world: Path, redis: Any, pb: Messages) -> None:
        items = pq.read_table(world / "items.parquet").to_pydict()
        self._columns = {name: np.array(items[name]) for name in ("genre", "country", "year", "title")}
        self._vectors = np.load(world / "vectors.npy").astype(np.float64)
        self._redis = redis
        self._pb = pb

    async def get_feed(self, request: Any) -> Any:
        """Raises Refused."""
        history = await self._history(request.viewer.account.id)
        places, scores = self._ranked(request, history)
        first = _offset(request.page_token)
        page = places[first : first + request.page_size]
        response = self._pb.response(
            trace_id=request.envelope.trace_id,
            status={"code": 200},
            videos=[self._video(place, scores[place], number) for number, place in enumerate(page)],
        )
        response.columns["score"].values.extend(scores[page].tolist())
        if first + len(page) < len(places):
            response.next_page_token = base64.urlsafe_b64encode(b"o:%d" % (first + len(page))).decode()
        response.debug.Pack(self._pb.debug(model="vidora-7"))
        return response

    async def watch_feed(self, request: Any) -> AsyncIterator[Any]:
        """Raises Refused."""
        history = await self._history(request.viewer.account.id)
        places, scores = self._ranked(request, history)
        for number, place in enumerate(places[: request.page_size]):
            yield self._video(place, scores[place], number)

    async def _history(self, user: str) -> list[int]:
        held = await self._redis.get(f"watched:{user}") if user else None
        return list(json.loads(held)["history"]) if held else []

    def _ranked(self, request: Any, history: list[int]) -> tuple[Any, Any]:
        """(places of the eligible items, best first; the score of each item)."""
        total = self._vectors[history].sum(axis=0) if history else np.zeros(self._vectors.shape[1])
        length = np.linalg.norm(total)
        scores = self._vectors @ (total / length if length else total)
        allowed = np.ones(len(scores), bool)
        allowed[history] = False
        allowed[[int(video.removeprefix("vid_")) for video in request.hidden]] = False
        for pair in request.filter:
            allowed &= self._pair(pair)
        for group in filter(None, request.rules.split(";")):
            allowed &= np.any([self._rule(term) for term in group.split("|")], axis=0)
        device = self._pb.device()
        if request.context.Unpack(device) and device.countries:
            names = [name for name, own in _COUNTRIES.items() if self._pb.country(own) in device.countries]
            allowed &= np.isin(self._columns["country"], names)
        if request.HasExtension(self._pb.made_since):
            allowed &= self._columns["year"] >= request.Extensions[self._pb.made_since]
        eligible = np.flatnonzero(allowed)
        return eligible[np.lexsort((eligible, -scores[eligible]))], scores

    def _pair(self, pair: str) -> Mask:
        for operator, holds in _OPERATORS.items():
            name, found, values = pair.partition(operator)
            if found and name in ("genre", "year"):
                wanted = [int(value) if name == "year" else value for value in values.split(",")]
                return holds(self._columns[name], wanted)
        raise Refused(f"filter: {pair!r}")

    def _rule(self, term: str) -> Mask:
        name, _, value = term.partition(":")
        if name == "year":
            first, _, last = value.partition("..")
            return (self._columns["year"] >= int(first)) & (self._columns["year"] <= int(last))
        return np.isin(self._columns[name], value)

    def _video(self, place: int, score: float, number: int) -> Any:
        return self._pb.video(
            video_id=f"vid_{place}",
            score_ppm=round(score * 1e6),
            title=self._columns["title"][place],
            country=self._pb.country(_COUNTRIES[self._columns["country"][place]]),
            position=number,
        )


def _offset(token: str) -> int:
    """Raises Refused."""
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token).removeprefix(b"o:"))
    except ValueError:
        raise Refused("page_token: not one of ours") from None


async def serve(world: Path, redis_url: str, address: str) -> None:
    """Until it is killed."""
    from redis.asyncio import Redis

    pb = messages()
    feed = Feed(world, Redis.from_url(redis_url), pb)

    async def get_feed(request: Any, context: Any) -> Any:
        try:
            return await feed.get_feed(request)
        except Refused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def watch_feed(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for video in feed.watch_feed(request):
                yield video
        except Refused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    read = pb.request.FromString
    handlers = {
        "GetFeed": grpc.unary_unary_rpc_method_handler(get_feed, read, pb.response.SerializeToString),
        "WatchFeed": grpc.unary_stream_rpc_method_handler(watch_feed, read, pb.video.SerializeToString),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port(address)
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await asyncio.sleep(_LONG_S)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--world", type=Path, required=True)
    parser.add_argument("--redis", required=True, metavar="URL")
    parser.add_argument("--address", default="127.0.0.1:0")
    args = parser.parse_args()
    asyncio.run(serve(args.world, args.redis, args.address))


if __name__ == "__main__":
    main()
