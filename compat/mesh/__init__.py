"""The mesh that a model replaces: four services over mesh.v1, out of the same snapshots.

Each service is a process with a version of its own (docs/mesh.md). What answers calls is here; servers, queues and
reloading are the service room's, handed over by its entry point.
"""
