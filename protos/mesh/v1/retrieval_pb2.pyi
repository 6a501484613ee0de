from meshfold.protos.mesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchRequest(_message.Message):
    __slots__ = ("surface", "queries", "filter", "excluded_item_ids", "k", "excluded_item_keys")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_ITEM_KEYS_FIELD_NUMBER: _ClassVar[int]
    surface: str
    queries: _containers.RepeatedCompositeFieldContainer[QueryVector]
    filter: _types_pb2.Filter
    excluded_item_ids: _containers.RepeatedScalarFieldContainer[int]
    k: int
    excluded_item_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, surface: _Optional[str] = ..., queries: _Optional[_Iterable[_Union[QueryVector, _Mapping]]] = ..., filter: _Optional[_Union[_types_pb2.Filter, _Mapping]] = ..., excluded_item_ids: _Optional[_Iterable[int]] = ..., k: _Optional[int] = ..., excluded_item_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class QueryVector(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("neighbours", "version")
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    neighbours: _containers.RepeatedCompositeFieldContainer[Neighbours]
    version: str
    def __init__(self, neighbours: _Optional[_Iterable[_Union[Neighbours, _Mapping]]] = ..., version: _Optional[str] = ...) -> None: ...

class Neighbours(_message.Message):
    __slots__ = ("item_ids", "similarities", "item_keys")
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    SIMILARITIES_FIELD_NUMBER: _ClassVar[int]
    ITEM_KEYS_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[int]
    similarities: _containers.RepeatedScalarFieldContainer[float]
    item_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, item_ids: _Optional[_Iterable[int]] = ..., similarities: _Optional[_Iterable[float]] = ..., item_keys: _Optional[_Iterable[str]] = ...) -> None: ...
