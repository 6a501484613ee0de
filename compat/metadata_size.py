"""Options of clients' channels that take whatever metadata a server sends: by default gRPC takes 8 to 16 KiB."""

from __future__ import annotations

_UNBOUNDED = (1 << 31) - 1
# From the first on some are refused by chance, from the second on all.
ANY_METADATA = (("grpc.max_metadata_size", _UNBOUNDED), ("grpc.absolute_max_metadata_size", _UNBOUNDED))
