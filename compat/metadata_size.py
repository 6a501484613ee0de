"""Channel options that accept metadata of any size; gRPC's defaults accept 8 to 16 KiB."""

from __future__ import annotations

_UNBOUNDED = (1 << 31) - 1
# Above the first limit gRPC refuses some at random, above the second all.
ANY_METADATA = (("grpc.max_metadata_size", _UNBOUNDED), ("grpc.absolute_max_metadata_size", _UNBOUNDED))
