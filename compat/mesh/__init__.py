"""The reference mesh: four services over mesh.v1 that serve the same snapshots as the model.

Each service is a process with its own version (docs/mesh.md). It uses parts of the server (service/): ports, queues,
and loading of published snapshots.
"""
