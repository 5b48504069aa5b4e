"""A stage that runs elsewhere, by what it says of itself: what it is, its calibration, the tokenizer that cuts here."""

from __future__ import annotations

from cascade.v1.stage_service_pb2 import DescribeResponse
from stages.remote import wire
from stages.stage import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS, Calibration, Encoding, ModelInfo


def batch_tokens_of(device: str) -> int:
    """The work of a batch that suits a device, in tokens with padding: a GPU wants many at once."""
    return GPU_BATCH_TOKENS if device.startswith("cuda") else CPU_BATCH_TOKENS


class DescribedStage:
    """All of a stage but its scores.

    Args:
        info: what the model is.
        described: what the stage says of itself.
        batch_tokens: the tokens that one call had best have; None takes what suits its device.

    Raises:
        ModelError: its tokenizer has no form that can be used here.
    """

    def __init__(self, info: ModelInfo, described: DescribeResponse, batch_tokens: int | None) -> None:
        self._info, self._calibration = info, wire.to_calibration(described)
        self.batch_tokens = batch_tokens or batch_tokens_of(described.model.device)
        self._tokenizer = wire.tokenizer_in(described)

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._info

    @property
    def calibration(self) -> Calibration:
        """How its logits become probabilities."""
        return self._calibration

    @property
    def tokenizer(self) -> wire.Tokenizer:
        """What makes the windows."""
        return self._tokenizer

    def encode(self, text: str) -> Encoding:
        """See :meth:`stages.stage.Stage.encode`."""
        return self._tokenizer.encode(text)
