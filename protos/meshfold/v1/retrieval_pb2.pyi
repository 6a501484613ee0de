from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RetrieveRequest(_message.Message):
    __slots__ = ("request_id", "surface", "user_id", "history", "features", "filter", "max_results", "excluded_item_ids", "weighted_tasks", "weights", "value_formula", "explain", "max_per_value", "fields", "user_key", "history_keys", "excluded_item_keys")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTED_TASKS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FORMULA_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    MAX_PER_VALUE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    USER_KEY_FIELD_NUMBER: _ClassVar[int]
    HISTORY_KEYS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_ITEM_KEYS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    surface: str
    user_id: int
    history: _containers.RepeatedScalarFieldContainer[int]
    features: _containers.RepeatedCompositeFieldContainer[FeatureColumn]
    filter: Filter
    max_results: int
    excluded_item_ids: _containers.RepeatedScalarFieldContainer[int]
    weighted_tasks: _containers.RepeatedScalarFieldContainer[str]
    weights: _containers.RepeatedScalarFieldContainer[float]
    value_formula: str
    explain: bool
    max_per_value: MaxPerValue
    fields: _containers.RepeatedScalarFieldContainer[str]
    user_key: str
    history_keys: _containers.RepeatedScalarFieldContainer[str]
    excluded_item_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., surface: _Optional[str] = ..., user_id: _Optional[int] = ..., history: _Optional[_Iterable[int]] = ..., features: _Optional[_Iterable[_Union[FeatureColumn, _Mapping]]] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., max_results: _Optional[int] = ..., excluded_item_ids: _Optional[_Iterable[int]] = ..., weighted_tasks: _Optional[_Iterable[str]] = ..., weights: _Optional[_Iterable[float]] = ..., value_formula: _Optional[str] = ..., explain: bool = ..., max_per_value: _Optional[_Union[MaxPerValue, _Mapping]] = ..., fields: _Optional[_Iterable[str]] = ..., user_key: _Optional[str] = ..., history_keys: _Optional[_Iterable[str]] = ..., excluded_item_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class FeatureColumn(_message.Message):
    __slots__ = ("name", "ints", "floats", "strings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INTS_FIELD_NUMBER: _ClassVar[int]
    FLOATS_FIELD_NUMBER: _ClassVar[int]
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    ints: _containers.RepeatedScalarFieldContainer[int]
    floats: _containers.RepeatedScalarFieldContainer[float]
    strings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., ints: _Optional[_Iterable[int]] = ..., floats: _Optional[_Iterable[float]] = ..., strings: _Optional[_Iterable[str]] = ...) -> None: ...

class MaxPerValue(_message.Message):
    __slots__ = ("field", "limit")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    field: str
    limit: int
    def __init__(self, field: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class Filter(_message.Message):
    __slots__ = ("match", "range", "exists", "all", "any", "at_least")
    MATCH_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    ANY_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    NOT_FIELD_NUMBER: _ClassVar[int]
    match: Match
    range: Range
    exists: Exists
    all: All
    any: Any
    at_least: AtLeast
    def __init__(self, match: _Optional[_Union[Match, _Mapping]] = ..., range: _Optional[_Union[Range, _Mapping]] = ..., exists: _Optional[_Union[Exists, _Mapping]] = ..., all: _Optional[_Union[All, _Mapping]] = ..., any: _Optional[_Union[Any, _Mapping]] = ..., at_least: _Optional[_Union[AtLeast, _Mapping]] = ..., **kwargs) -> None: ...

class Match(_message.Message):
    __slots__ = ("field", "strings", "ints")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    INTS_FIELD_NUMBER: _ClassVar[int]
    field: str
    strings: _containers.RepeatedScalarFieldContainer[str]
    ints: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, field: _Optional[str] = ..., strings: _Optional[_Iterable[str]] = ..., ints: _Optional[_Iterable[int]] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("field", "min", "max", "inclusive")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    INCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    field: str
    min: float
    max: float
    inclusive: bool
    def __init__(self, field: _Optional[str] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., inclusive: bool = ...) -> None: ...

class Exists(_message.Message):
    __slots__ = ("field",)
    FIELD_FIELD_NUMBER: _ClassVar[int]
    field: str
    def __init__(self, field: _Optional[str] = ...) -> None: ...

class All(_message.Message):
    __slots__ = ("filters",)
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    filters: _containers.RepeatedCompositeFieldContainer[Filter]
    def __init__(self, filters: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ...) -> None: ...

class Any(_message.Message):
    __slots__ = ("filters",)
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    filters: _containers.RepeatedCompositeFieldContainer[Filter]
    def __init__(self, filters: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ...) -> None: ...

class AtLeast(_message.Message):
    __slots__ = ("count", "filters")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    count: int
    filters: _containers.RepeatedCompositeFieldContainer[Filter]
    def __init__(self, count: _Optional[int] = ..., filters: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ...) -> None: ...

class RetrieveResponse(_message.Message):
    __slots__ = ("request_id", "tasks", "item_ids", "values", "similarities", "task_scores", "version", "fields", "explain", "item_keys")
    class ExplainEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    SIMILARITIES_FIELD_NUMBER: _ClassVar[int]
    TASK_SCORES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    ITEM_KEYS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tasks: _containers.RepeatedScalarFieldContainer[str]
    item_ids: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    similarities: _containers.RepeatedScalarFieldContainer[float]
    task_scores: _containers.RepeatedScalarFieldContainer[float]
    version: str
    fields: _containers.RepeatedCompositeFieldContainer[FieldColumn]
    explain: _containers.ScalarMap[str, str]
    item_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., tasks: _Optional[_Iterable[str]] = ..., item_ids: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[float]] = ..., similarities: _Optional[_Iterable[float]] = ..., task_scores: _Optional[_Iterable[float]] = ..., version: _Optional[str] = ..., fields: _Optional[_Iterable[_Union[FieldColumn, _Mapping]]] = ..., explain: _Optional[_Mapping[str, str]] = ..., item_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class FieldColumn(_message.Message):
    __slots__ = ("field", "lengths", "strings", "ints", "numbers")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    INTS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    field: str
    lengths: _containers.RepeatedScalarFieldContainer[int]
    strings: _containers.RepeatedScalarFieldContainer[str]
    ints: _containers.RepeatedScalarFieldContainer[int]
    numbers: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, field: _Optional[str] = ..., lengths: _Optional[_Iterable[int]] = ..., strings: _Optional[_Iterable[str]] = ..., ints: _Optional[_Iterable[int]] = ..., numbers: _Optional[_Iterable[float]] = ...) -> None: ...
