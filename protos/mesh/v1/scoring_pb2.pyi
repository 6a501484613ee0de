from meshfold.protos.mesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreRequest(_message.Message):
    __slots__ = ("surface", "user", "item_ids", "task_weights", "value_formula", "item_keys")
    class TaskWeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    TASK_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FORMULA_FIELD_NUMBER: _ClassVar[int]
    ITEM_KEYS_FIELD_NUMBER: _ClassVar[int]
    surface: str
    user: _types_pb2.UserContext
    item_ids: _containers.RepeatedScalarFieldContainer[int]
    task_weights: _containers.ScalarMap[str, float]
    value_formula: str
    item_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, surface: _Optional[str] = ..., user: _Optional[_Union[_types_pb2.UserContext, _Mapping]] = ..., item_ids: _Optional[_Iterable[int]] = ..., task_weights: _Optional[_Mapping[str, float]] = ..., value_formula: _Optional[str] = ..., item_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("tasks", "item_ids", "values", "task_scores", "unknown_item_ids", "version", "item_keys", "unknown_item_keys")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TASK_SCORES_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ITEM_KEYS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEM_KEYS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedScalarFieldContainer[str]
    item_ids: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    task_scores: _containers.RepeatedScalarFieldContainer[float]
    unknown_item_ids: _containers.RepeatedScalarFieldContainer[int]
    version: str
    item_keys: _containers.RepeatedScalarFieldContainer[str]
    unknown_item_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, tasks: _Optional[_Iterable[str]] = ..., item_ids: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[float]] = ..., task_scores: _Optional[_Iterable[float]] = ..., unknown_item_ids: _Optional[_Iterable[int]] = ..., version: _Optional[str] = ..., item_keys: _Optional[_Iterable[str]] = ..., unknown_item_keys: _Optional[_Iterable[str]] = ...) -> None: ...
