from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetRecordingRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StartRecordingRequest(_message.Message):
    __slots__ = ("who", "why")
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    who: str
    why: str
    def __init__(self, who: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class StopRecordingRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Recording(_message.Message):
    __slots__ = ("on", "folder", "who", "why", "since_unix_ms", "written", "dropped", "files", "bytes")
    ON_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SINCE_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    on: bool
    folder: str
    who: str
    why: str
    since_unix_ms: int
    written: int
    dropped: int
    files: int
    bytes: int
    def __init__(self, on: bool = ..., folder: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., since_unix_ms: _Optional[int] = ..., written: _Optional[int] = ..., dropped: _Optional[int] = ..., files: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Recorded(_message.Message):
    __slots__ = ("unix_ms", "call", "shadow", "surface", "mode", "side", "fallback", "code", "took_s", "request", "answer", "is_redacted", "is_hashed", "again", "method", "mapping", "metadata", "hydrated", "left_out", "is_unreadable")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    TOOK_S_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    IS_REDACTED_FIELD_NUMBER: _ClassVar[int]
    IS_HASHED_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    MAPPING_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    HYDRATED_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    IS_UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    unix_ms: int
    call: int
    shadow: bool
    surface: str
    mode: str
    side: str
    fallback: str
    code: int
    took_s: float
    request: bytes
    answer: bytes
    is_redacted: bool
    is_hashed: bool
    again: bool
    method: str
    mapping: str
    metadata: _containers.ScalarMap[str, str]
    hydrated: bytes
    left_out: _containers.RepeatedScalarFieldContainer[str]
    is_unreadable: bool
    def __init__(self, unix_ms: _Optional[int] = ..., call: _Optional[int] = ..., shadow: bool = ..., surface: _Optional[str] = ..., mode: _Optional[str] = ..., side: _Optional[str] = ..., fallback: _Optional[str] = ..., code: _Optional[int] = ..., took_s: _Optional[float] = ..., request: _Optional[bytes] = ..., answer: _Optional[bytes] = ..., is_redacted: bool = ..., is_hashed: bool = ..., again: bool = ..., method: _Optional[str] = ..., mapping: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., hydrated: _Optional[bytes] = ..., left_out: _Optional[_Iterable[str]] = ..., is_unreadable: bool = ...) -> None: ...
