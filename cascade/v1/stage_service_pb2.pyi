from cascade.v1 import model_service_pb2 as _model_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreRequest(_message.Message):
    __slots__ = ("stage", "texts", "windows", "adapter")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    stage: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    windows: _containers.RepeatedCompositeFieldContainer[TokenWindow]
    adapter: str
    def __init__(self, stage: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., windows: _Optional[_Iterable[_Union[TokenWindow, _Mapping]]] = ..., adapter: _Optional[str] = ...) -> None: ...

class TokenWindow(_message.Message):
    __slots__ = ("ids", "adapter")
    IDS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    adapter: str
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., adapter: _Optional[str] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("model", "results", "tokenize_ms", "queue_ms", "infer_ms", "windows", "oom_halvings")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZE_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    INFER_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    OOM_HALVINGS_FIELD_NUMBER: _ClassVar[int]
    model: _model_service_pb2.Model
    results: _containers.RepeatedCompositeFieldContainer[TextScores]
    tokenize_ms: float
    queue_ms: float
    infer_ms: float
    windows: _containers.RepeatedCompositeFieldContainer[WindowScores]
    oom_halvings: int
    def __init__(self, model: _Optional[_Union[_model_service_pb2.Model, _Mapping]] = ..., results: _Optional[_Iterable[_Union[TextScores, _Mapping]]] = ..., tokenize_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ..., infer_ms: _Optional[float] = ..., windows: _Optional[_Iterable[_Union[WindowScores, _Mapping]]] = ..., oom_halvings: _Optional[int] = ...) -> None: ...

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

class DescribeRequest(_message.Message):
    __slots__ = ("stage",)
    STAGE_FIELD_NUMBER: _ClassVar[int]
    stage: str
    def __init__(self, stage: _Optional[str] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("model", "scripts", "judges", "tokenizer", "calibration", "adapter_calibrations")
    class AdapterCalibrationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Calibration
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Calibration, _Mapping]] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCRIPTS_FIELD_NUMBER: _ClassVar[int]
    JUDGES_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_CALIBRATIONS_FIELD_NUMBER: _ClassVar[int]
    model: _model_service_pb2.Model
    scripts: _containers.RepeatedScalarFieldContainer[str]
    judges: bool
    tokenizer: Tokenizer
    calibration: Calibration
    adapter_calibrations: _containers.MessageMap[str, Calibration]
    def __init__(self, model: _Optional[_Union[_model_service_pb2.Model, _Mapping]] = ..., scripts: _Optional[_Iterable[str]] = ..., judges: _Optional[bool] = ..., tokenizer: _Optional[_Union[Tokenizer, _Mapping]] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ..., adapter_calibrations: _Optional[_Mapping[str, Calibration]] = ...) -> None: ...

class Tokenizer(_message.Message):
    __slots__ = ("json", "sentencepiece", "window_tokens", "overlap", "filler")
    JSON_FIELD_NUMBER: _ClassVar[int]
    SENTENCEPIECE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    FILLER_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    sentencepiece: bytes
    window_tokens: int
    overlap: int
    filler: int
    def __init__(self, json: _Optional[bytes] = ..., sentencepiece: _Optional[bytes] = ..., window_tokens: _Optional[int] = ..., overlap: _Optional[int] = ..., filler: _Optional[int] = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("unsafe", "labels", "length_penalty", "label_length_penalties")
    UNSAFE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LABEL_LENGTH_PENALTIES_FIELD_NUMBER: _ClassVar[int]
    unsafe: Calibrator
    labels: _containers.RepeatedCompositeFieldContainer[Calibrator]
    length_penalty: float
    label_length_penalties: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, unsafe: _Optional[_Union[Calibrator, _Mapping]] = ..., labels: _Optional[_Iterable[_Union[Calibrator, _Mapping]]] = ..., length_penalty: _Optional[float] = ..., label_length_penalties: _Optional[_Iterable[float]] = ...) -> None: ...

class Calibrator(_message.Message):
    __slots__ = ("slope", "bias", "knots")
    SLOPE_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    KNOTS_FIELD_NUMBER: _ClassVar[int]
    slope: float
    bias: float
    knots: _containers.RepeatedCompositeFieldContainer[Knot]
    def __init__(self, slope: _Optional[float] = ..., bias: _Optional[float] = ..., knots: _Optional[_Iterable[_Union[Knot, _Mapping]]] = ...) -> None: ...

class Knot(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ...) -> None: ...
