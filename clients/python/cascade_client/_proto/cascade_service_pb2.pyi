from cascade_client._proto import check_pb2 as _check_pb2
from cascade_client._proto import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BatchCheckRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[_check_pb2.CheckRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[_check_pb2.CheckRequest, _Mapping[str, object]]]] = ...) -> None: ...

class BatchCheckResponse(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[BatchCheckItem]
    def __init__(self, items: _Optional[_Iterable[_Union[BatchCheckItem, _Mapping[str, object]]]] = ...) -> None: ...

class BatchCheckItem(_message.Message):
    __slots__ = ("request_id", "response", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    response: _check_pb2.CheckResponse
    error: _status_pb2.Status
    def __init__(self, request_id: _Optional[str] = ..., response: _Optional[_Union[_check_pb2.CheckResponse, _Mapping[str, object]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping[str, object]]] = ...) -> None: ...

class CheckStreamRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: _check_pb2.CheckRequest
    def __init__(self, request: _Optional[_Union[_check_pb2.CheckRequest, _Mapping[str, object]]] = ...) -> None: ...

class CheckStreamResponse(_message.Message):
    __slots__ = ("request_id", "response", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    response: _check_pb2.CheckResponse
    error: _status_pb2.Status
    def __init__(self, request_id: _Optional[str] = ..., response: _Optional[_Union[_check_pb2.CheckResponse, _Mapping[str, object]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping[str, object]]] = ...) -> None: ...

class ModerateStreamRequest(_message.Message):
    __slots__ = ("start", "delta", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: ModerateStart
    delta: str
    end: ModerateEnd
    def __init__(self, start: _Optional[_Union[ModerateStart, _Mapping[str, object]]] = ..., delta: _Optional[str] = ..., end: _Optional[_Union[ModerateEnd, _Mapping[str, object]]] = ...) -> None: ...

class ModerateStart(_message.Message):
    __slots__ = ("request_id", "prompt", "policy", "options")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    prompt: str
    policy: str
    options: _check_pb2.CheckOptions
    def __init__(self, request_id: _Optional[str] = ..., prompt: _Optional[str] = ..., policy: _Optional[str] = ..., options: _Optional[_Union[_check_pb2.CheckOptions, _Mapping[str, object]]] = ...) -> None: ...

class ModerateEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModerateStreamResponse(_message.Message):
    __slots__ = ("request_id", "verdict", "released_upto", "final")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    RELEASED_UPTO_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    verdict: _check_pb2.CheckResponse
    released_upto: int
    final: bool
    def __init__(self, request_id: _Optional[str] = ..., verdict: _Optional[_Union[_check_pb2.CheckResponse, _Mapping[str, object]]] = ..., released_upto: _Optional[int] = ..., final: _Optional[bool] = ...) -> None: ...
