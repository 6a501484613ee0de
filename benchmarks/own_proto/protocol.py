"""The made-up company's messages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.descriptors import from_protos

HOME = Path(__file__).parent
MAPPING = HOME / "vidora.toml"
SERVICE = "vidora.feed.FeedService"
GET_FEED, WATCH_FEED = f"/{SERVICE}/GetFeed", f"/{SERVICE}/WatchFeed"


@dataclass(frozen=True)
class Messages:
    """Classes of messages. made_since: the extension."""

    request: Any
    response: Any
    video: Any
    device: Any
    debug: Any
    made_since: Any
    countries: Any

    def country(self, name: str) -> int:
        number: int = self.countries.values_by_name[name].number
        return number


def messages() -> Messages:
    pool = from_protos([HOME / "vidora.proto"]).pool
    kinds = {
        name: GetMessageClass(pool.FindMessageTypeByName(f"vidora.feed.{kind}"))
        for name, kind in {
            "request": "FeedRequest",
            "response": "FeedResponse",
            "video": "Video",
            "device": "Device",
            "debug": "Debug",
        }.items()
    }
    return Messages(
        **kinds,
        made_since=pool.FindExtensionByName("vidora.feed.made_since"),
        countries=pool.FindEnumTypeByName("vidora.feed.Country"),
    )
