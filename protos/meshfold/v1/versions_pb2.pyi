from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListVersionsRequest(_message.Message):
    __slots__ = ("surface", "changes")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    surface: str
    changes: int
    def __init__(self, surface: _Optional[str] = ..., changes: _Optional[int] = ...) -> None: ...

class LoadVersionRequest(_message.Message):
    __slots__ = ("surface", "version")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    surface: str
    version: str
    def __init__(self, surface: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class UnloadVersionRequest(_message.Message):
    __slots__ = ("surface",)
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    surface: str
    def __init__(self, surface: _Optional[str] = ...) -> None: ...

class ActivateVersionRequest(_message.Message):
    __slots__ = ("surface", "version", "who", "why")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    surface: str
    version: str
    who: str
    why: str
    def __init__(self, surface: _Optional[str] = ..., version: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("surface", "version", "who", "why")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    surface: str
    version: str
    who: str
    why: str
    def __init__(self, surface: _Optional[str] = ..., version: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class FollowNewestRequest(_message.Message):
    __slots__ = ("surface", "who", "why")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    surface: str
    who: str
    why: str
    def __init__(self, surface: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class DeleteVersionsRequest(_message.Message):
    __slots__ = ("surface", "versions", "keep", "days", "who", "why", "dry_run")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    surface: str
    versions: _containers.RepeatedScalarFieldContainer[str]
    keep: int
    days: float
    who: str
    why: str
    dry_run: bool
    def __init__(self, surface: _Optional[str] = ..., versions: _Optional[_Iterable[str]] = ..., keep: _Optional[int] = ..., days: _Optional[float] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., dry_run: bool = ...) -> None: ...

class DeletedVersions(_message.Message):
    __slots__ = ("versions",)
    class Version(_message.Message):
        __slots__ = ("surface", "folder", "disk_bytes")
        SURFACE_FIELD_NUMBER: _ClassVar[int]
        FOLDER_FIELD_NUMBER: _ClassVar[int]
        DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
        surface: str
        folder: str
        disk_bytes: int
        def __init__(self, surface: _Optional[str] = ..., folder: _Optional[str] = ..., disk_bytes: _Optional[int] = ...) -> None: ...
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[DeletedVersions.Version]
    def __init__(self, versions: _Optional[_Iterable[_Union[DeletedVersions.Version, _Mapping]]] = ...) -> None: ...

class Versions(_message.Message):
    __slots__ = ("surfaces", "history", "trouble")
    SURFACES_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    surfaces: _containers.RepeatedCompositeFieldContainer[SurfaceVersions]
    history: _containers.RepeatedCompositeFieldContainer[VersionChange]
    trouble: str
    def __init__(self, surfaces: _Optional[_Iterable[_Union[SurfaceVersions, _Mapping]]] = ..., history: _Optional[_Iterable[_Union[VersionChange, _Mapping]]] = ..., trouble: _Optional[str] = ...) -> None: ...

class SurfaceVersions(_message.Message):
    __slots__ = ("surface", "versions", "pin")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    surface: str
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    pin: VersionChange
    def __init__(self, surface: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ..., pin: _Optional[_Union[VersionChange, _Mapping]] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("folder", "version", "published_unix_ms", "items", "disk_bytes", "memory_bytes", "active", "previous", "pinned", "loaded", "trouble")
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    folder: str
    version: str
    published_unix_ms: int
    items: int
    disk_bytes: int
    memory_bytes: int
    active: bool
    previous: bool
    pinned: bool
    loaded: bool
    trouble: str
    def __init__(self, folder: _Optional[str] = ..., version: _Optional[str] = ..., published_unix_ms: _Optional[int] = ..., items: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., active: bool = ..., previous: bool = ..., pinned: bool = ..., loaded: bool = ..., trouble: _Optional[str] = ...) -> None: ...

class VersionChange(_message.Message):
    __slots__ = ("surface", "folder", "action", "who", "why", "unix_ms")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    surface: str
    folder: str
    action: str
    who: str
    why: str
    unix_ms: int
    def __init__(self, surface: _Optional[str] = ..., folder: _Optional[str] = ..., action: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., unix_ms: _Optional[int] = ...) -> None: ...

class ListDeniedRequest(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: int
    def __init__(self, changes: _Optional[int] = ...) -> None: ...

class DenyRequest(_message.Message):
    __slots__ = ("surface", "item_ids", "who", "why", "force")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    surface: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    who: str
    why: str
    force: bool
    def __init__(self, surface: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., force: bool = ...) -> None: ...

class Denied(_message.Message):
    __slots__ = ("items", "total", "history", "trouble", "passes_mesh_answers")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    PASSES_MESH_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[DeniedItem]
    total: int
    history: _containers.RepeatedCompositeFieldContainer[DeniedChange]
    trouble: str
    passes_mesh_answers: bool
    def __init__(self, items: _Optional[_Iterable[_Union[DeniedItem, _Mapping]]] = ..., total: _Optional[int] = ..., history: _Optional[_Iterable[_Union[DeniedChange, _Mapping]]] = ..., trouble: _Optional[str] = ..., passes_mesh_answers: bool = ...) -> None: ...

class DeniedItem(_message.Message):
    __slots__ = ("surface", "item_id", "who", "why", "unix_ms", "held_by")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    HELD_BY_FIELD_NUMBER: _ClassVar[int]
    surface: str
    item_id: str
    who: str
    why: str
    unix_ms: int
    held_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, surface: _Optional[str] = ..., item_id: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., unix_ms: _Optional[int] = ..., held_by: _Optional[_Iterable[str]] = ...) -> None: ...

class DeniedChange(_message.Message):
    __slots__ = ("action", "surface", "item_ids", "who", "why", "unix_ms")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    action: str
    surface: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    who: str
    why: str
    unix_ms: int
    def __init__(self, action: _Optional[str] = ..., surface: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., unix_ms: _Optional[int] = ...) -> None: ...
