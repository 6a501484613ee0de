"""The mesh that a model replaces: four services over mesh.v1, out of the same snapshots.

Each service is a process with a version of its own (docs/mesh.md). It stands on the server's parts (service/), which
know nothing of it: ports, queues, and reloading what is published.
"""
