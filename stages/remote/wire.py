"""A stage's description <-> the messages of ``cascade.v1.StageService``: model, tokenizer, calibration."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cascade.v1 import stage_service_pb2
from cascade.v1.model_service_pb2 import Model
from stages.encoder import NetworkStage
from stages.errors import ModelError, StageError
from stages.runtime.sentences import SentencePieceTokenizer
from stages.runtime.tokens import WindowTokenizer
from stages.stage import Calibration, Calibrator, Isotonic, ModelInfo, Platt, Stage, Window, WindowScores

Tokenizer = WindowTokenizer | SentencePieceTokenizer


def tokenizer_of(stage: Stage) -> Tokenizer | None:
    """The tokenizer of a stage in a form that another process can have too; None if it has no such form."""
    tokenizer = stage.tokenizer if isinstance(stage, NetworkStage) else getattr(stage, "tokenizer", None)
    return tokenizer if isinstance(tokenizer, WindowTokenizer | SentencePieceTokenizer) else None


def describe(name: str, stage: Stage) -> stage_service_pb2.DescribeResponse:
    """A stage as a caller needs it that cuts the texts itself."""
    tokenizer, calibration = tokenizer_of(stage), stage.calibration
    return stage_service_pb2.DescribeResponse(
        model=to_model(name, stage.info),
        scripts=stage.info.scripts,
        judges=stage.info.judges,
        tokenizer=None if tokenizer is None else _to_tokenizer(tokenizer),
        calibration=_to_calibration(calibration),
        adapter_calibrations={name: _to_calibration(own) for name, own in calibration.adapters.items()},
    )


def to_model(stage: str, info: ModelInfo) -> Model:
    """A loaded model as the contract describes it; ``stage`` is the part that it plays."""
    return Model(
        stage=stage,
        name=info.name,
        kind=info.kind,
        revision=info.revision,
        files=info.files,
        taxonomy=info.taxonomy,
        labels=info.labels,
        device=info.device,
        runtime=info.runtime,
        licence=info.licence,
        window_tokens=info.window_tokens,
        adapters=info.adapters,
    )


def to_info(described: stage_service_pb2.DescribeResponse) -> ModelInfo:
    """What a described model is."""
    model = described.model
    return ModelInfo(
        name=model.name,
        kind=model.kind,
        revision=model.revision,
        files=dict(model.files),
        taxonomy=model.taxonomy,
        labels=tuple(model.labels),
        device=model.device,
        runtime=model.runtime,
        licence=model.licence,
        window_tokens=model.window_tokens,
        scripts=tuple(described.scripts),
        judges=described.judges,
        adapters=tuple(model.adapters),
    )


def to_calibration(described: stage_service_pb2.DescribeResponse) -> Calibration:
    """How a described model's logits become probabilities."""
    adapters = {name: _from_calibration(message) for name, message in described.adapter_calibrations.items()}
    return replace(_from_calibration(described.calibration), adapters=adapters)


def to_request(stage: str, windows: Sequence[Window]) -> stage_service_pb2.ScoreRequest:
    """Asks for the scores of windows."""
    tokens = [stage_service_pb2.TokenWindow(ids=window.ids, adapter=window.adapter) for window in windows]
    return stage_service_pb2.ScoreRequest(stage=stage, windows=tokens)


def to_scores(info: ModelInfo, count: int, response: stage_service_pb2.ScoreResponse) -> list[WindowScores]:
    """The scores of so many windows.

    Raises:
        StageError: another model answers than was described, or the scores are not as many.
    """
    if response.model.revision != info.revision:  # another server may have taken its place
        raise StageError(f"{info.name}: {response.model.name}@{response.model.revision} answers in its place")
    if len(response.windows) != count:
        raise StageError(f"{info.name}: {len(response.windows)} scores for {count} windows")
    return [WindowScores(found.unsafe_logit, np.array(found.label_logits)) for found in response.windows]


def tokenizer_in(described: stage_service_pb2.DescribeResponse) -> Tokenizer:
    """The tokenizer of a described model.

    Raises:
        ModelError: there is none in it.
    """
    if not described.HasField("tokenizer"):
        raise ModelError(f"{described.model.name}: its tokenizer is not one that another process can have")
    return to_tokenizer(described.tokenizer)


def to_tokenizer(message: stage_service_pb2.Tokenizer) -> Tokenizer:
    """The tokenizer of a message that has one.

    Raises:
        ModelError: its file is no tokenizer.
    """
    with tempfile.TemporaryDirectory(prefix="cascade-") as folder:  # both kinds read one
        path = Path(folder) / "tokenizer"
        path.write_bytes(message.sentencepiece or message.json)
        window, overlap = message.window_tokens, message.overlap
        if message.WhichOneof("file") == "sentencepiece":
            return SentencePieceTokenizer(path, window_tokens=window, overlap=overlap)
        filler = message.filler if message.HasField("filler") else None
        return WindowTokenizer(path, window_tokens=window, overlap=overlap, filler=filler)


def _to_tokenizer(tokenizer: Tokenizer) -> stage_service_pb2.Tokenizer:
    message = stage_service_pb2.Tokenizer(window_tokens=tokenizer.window_tokens, overlap=tokenizer.overlap)
    if isinstance(tokenizer, SentencePieceTokenizer):
        message.sentencepiece = tokenizer.data
    else:
        message.json = tokenizer.data
        if tokenizer.filler is not None:
            message.filler = tokenizer.filler
    return message


def _to_calibration(calibration: Calibration) -> stage_service_pb2.Calibration:
    return stage_service_pb2.Calibration(
        unsafe=_to_calibrator(calibration.unsafe),
        labels=map(_to_calibrator, calibration.labels),
        length_penalty=calibration.length_penalty,
        label_length_penalties=calibration.label_length_penalties,
    )


def _to_calibrator(calibrator: Calibrator) -> stage_service_pb2.Calibrator:
    if isinstance(calibrator, Isotonic):
        message = _to_calibrator(calibrator.base)
        message.knots.extend(stage_service_pb2.Knot(x=x, y=y) for x, y in calibrator.knots)
        return message
    assert isinstance(calibrator, Platt), f"{type(calibrator).__name__} has no form on the wire. This is a bug."
    return stage_service_pb2.Calibrator(slope=calibrator.slope, bias=calibrator.bias)


def _from_calibration(message: stage_service_pb2.Calibration) -> Calibration:
    labels = tuple(_from_calibrator(label) for label in message.labels)
    penalties = tuple(message.label_length_penalties)
    return Calibration(_from_calibrator(message.unsafe), labels, message.length_penalty, penalties)


def _from_calibrator(message: stage_service_pb2.Calibrator) -> Calibrator:
    platt = Platt(message.slope, message.bias)
    return Isotonic(platt, tuple((knot.x, knot.y) for knot in message.knots)) if message.knots else platt
