from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(_message.Message):
    __slots__ = ("kind", "percent")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Mode.Kind]
        MESH: _ClassVar[Mode.Kind]
        MIRROR: _ClassVar[Mode.Kind]
        CANARY: _ClassVar[Mode.Kind]
        SERVE: _ClassVar[Mode.Kind]
        ONLY: _ClassVar[Mode.Kind]
        DEFAULT: _ClassVar[Mode.Kind]
    KIND_UNSPECIFIED: Mode.Kind
    MESH: Mode.Kind
    MIRROR: Mode.Kind
    CANARY: Mode.Kind
    SERVE: Mode.Kind
    ONLY: Mode.Kind
    DEFAULT: Mode.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    kind: Mode.Kind
    percent: float
    def __init__(self, kind: _Optional[_Union[Mode.Kind, str]] = ..., percent: _Optional[float] = ...) -> None: ...

class GetModesRequest(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: int
    def __init__(self, changes: _Optional[int] = ...) -> None: ...

class SetModeRequest(_message.Message):
    __slots__ = ("surface", "mode", "who", "why", "force", "generation")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    surface: str
    mode: Mode
    who: str
    why: str
    force: bool
    generation: int
    def __init__(self, surface: _Optional[str] = ..., mode: _Optional[_Union[Mode, _Mapping]] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., force: bool = ..., generation: _Optional[int] = ...) -> None: ...

class KillRequest(_message.Message):
    __slots__ = ("who", "why")
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    who: str
    why: str
    def __init__(self, who: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class Modes(_message.Message):
    __slots__ = ("mesh", "generation", "default", "surfaces", "history", "served", "trouble", "comparison")
    MESH_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    SURFACES_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    mesh: str
    generation: int
    default: Change
    surfaces: _containers.RepeatedCompositeFieldContainer[Change]
    history: _containers.RepeatedCompositeFieldContainer[Change]
    served: _containers.RepeatedScalarFieldContainer[str]
    trouble: str
    comparison: Comparison
    def __init__(self, mesh: _Optional[str] = ..., generation: _Optional[int] = ..., default: _Optional[_Union[Change, _Mapping]] = ..., surfaces: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., history: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., served: _Optional[_Iterable[str]] = ..., trouble: _Optional[str] = ..., comparison: _Optional[_Union[Comparison, _Mapping]] = ...) -> None: ...

class Comparison(_message.Message):
    __slots__ = ("on", "share", "surface_shares", "canary_share", "noise_share", "folder", "file_age_s", "keep_requests", "has_key", "omit")
    class SurfaceSharesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ON_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    SURFACE_SHARES_FIELD_NUMBER: _ClassVar[int]
    CANARY_SHARE_FIELD_NUMBER: _ClassVar[int]
    NOISE_SHARE_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    FILE_AGE_S_FIELD_NUMBER: _ClassVar[int]
    KEEP_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    HAS_KEY_FIELD_NUMBER: _ClassVar[int]
    OMIT_FIELD_NUMBER: _ClassVar[int]
    on: bool
    share: float
    surface_shares: _containers.ScalarMap[str, float]
    canary_share: float
    noise_share: float
    folder: str
    file_age_s: float
    keep_requests: bool
    has_key: bool
    omit: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, on: bool = ..., share: _Optional[float] = ..., surface_shares: _Optional[_Mapping[str, float]] = ..., canary_share: _Optional[float] = ..., noise_share: _Optional[float] = ..., folder: _Optional[str] = ..., file_age_s: _Optional[float] = ..., keep_requests: bool = ..., has_key: bool = ..., omit: _Optional[_Iterable[str]] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("surface", "mode", "who", "why", "unix_ms", "kill")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    KILL_FIELD_NUMBER: _ClassVar[int]
    surface: str
    mode: Mode
    who: str
    why: str
    unix_ms: int
    kill: bool
    def __init__(self, surface: _Optional[str] = ..., mode: _Optional[_Union[Mode, _Mapping]] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., unix_ms: _Optional[int] = ..., kill: bool = ...) -> None: ...
