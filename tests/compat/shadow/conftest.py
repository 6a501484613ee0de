"""Published snapshots and running servers, as the tests of the service have them."""

from tests.service.conftest import build_shop, publish_items, served, start, store

__all__ = ["build_shop", "publish_items", "served", "start", "store"]
