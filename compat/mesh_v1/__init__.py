"""Adapters of the mesh's own protocol: one module per method, with METHOD, measure, decode, path and encode."""

from meshfold.compat.mesh_v1 import embed, retrieve, score, search

ADAPTERS = (retrieve, embed, search, score)
