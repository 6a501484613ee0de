from meshfold.protos.mesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RetrieveRequest(_message.Message):
    __slots__ = ("request_id", "surface", "user", "filter", "max_results", "excluded_item_ids", "task_weights", "value_formula", "explain", "excluded_item_keys")
    class TaskWeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    TASK_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FORMULA_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_ITEM_KEYS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    surface: str
    user: _types_pb2.UserContext
    filter: _types_pb2.Filter
    max_results: int
    excluded_item_ids: _containers.RepeatedScalarFieldContainer[int]
    task_weights: _containers.ScalarMap[str, float]
    value_formula: str
    explain: bool
    excluded_item_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., surface: _Optional[str] = ..., user: _Optional[_Union[_types_pb2.UserContext, _Mapping]] = ..., filter: _Optional[_Union[_types_pb2.Filter, _Mapping]] = ..., max_results: _Optional[int] = ..., excluded_item_ids: _Optional[_Iterable[int]] = ..., task_weights: _Optional[_Mapping[str, float]] = ..., value_formula: _Optional[str] = ..., explain: bool = ..., excluded_item_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class RetrieveResponse(_message.Message):
    __slots__ = ("request_id", "tasks", "candidates", "versions", "explain")
    class ExplainEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tasks: _containers.RepeatedScalarFieldContainer[str]
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    versions: _types_pb2.Versions
    explain: _containers.ScalarMap[str, str]
    def __init__(self, request_id: _Optional[str] = ..., tasks: _Optional[_Iterable[str]] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., versions: _Optional[_Union[_types_pb2.Versions, _Mapping]] = ..., explain: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("item_id", "value", "similarity", "task_scores", "item_key")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    TASK_SCORES_FIELD_NUMBER: _ClassVar[int]
    ITEM_KEY_FIELD_NUMBER: _ClassVar[int]
    item_id: int
    value: float
    similarity: float
    task_scores: _containers.RepeatedScalarFieldContainer[float]
    item_key: str
    def __init__(self, item_id: _Optional[int] = ..., value: _Optional[float] = ..., similarity: _Optional[float] = ..., task_scores: _Optional[_Iterable[float]] = ..., item_key: _Optional[str] = ...) -> None: ...
