"""The mesh's own protocol: a module a call, each with METHOD, measure, decode, path and encode."""

from meshfold.compat.mesh_v1 import embed, retrieve, score, search

ADAPTERS = (retrieve, embed, search, score)
