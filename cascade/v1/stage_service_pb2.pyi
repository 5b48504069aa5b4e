from cascade.v1 import model_service_pb2 as _model_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreRequest(_message.Message):
    __slots__ = ("stage", "texts")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, stage: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("model", "results", "tokenize_ms", "queue_ms", "infer_ms")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZE_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    INFER_MS_FIELD_NUMBER: _ClassVar[int]
    model: _model_service_pb2.Model
    results: _containers.RepeatedCompositeFieldContainer[TextScores]
    tokenize_ms: float
    queue_ms: float
    infer_ms: float
    def __init__(self, model: _Optional[_Union[_model_service_pb2.Model, _Mapping]] = ..., results: _Optional[_Iterable[_Union[TextScores, _Mapping]]] = ..., tokenize_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ..., infer_ms: _Optional[float] = ...) -> None: ...

class TextScores(_message.Message):
    __slots__ = ("windows", "tokens")
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    windows: _containers.RepeatedCompositeFieldContainer[WindowScores]
    tokens: int
    def __init__(self, windows: _Optional[_Iterable[_Union[WindowScores, _Mapping]]] = ..., tokens: _Optional[int] = ...) -> None: ...

class WindowScores(_message.Message):
    __slots__ = ("start", "end", "unsafe_logit", "label_logits")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    UNSAFE_LOGIT_FIELD_NUMBER: _ClassVar[int]
    LABEL_LOGITS_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    unsafe_logit: float
    label_logits: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., unsafe_logit: _Optional[float] = ..., label_logits: _Optional[_Iterable[float]] = ...) -> None: ...
