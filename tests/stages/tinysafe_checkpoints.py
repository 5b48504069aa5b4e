"""Small random TinySafe checkpoints in the published layout, and the code of the published README to compare with."""

from __future__ import annotations

import io
import json
import random
import warnings
from pathlib import Path

import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from torch import Tensor, nn
from transformers import DebertaV2Config, DebertaV2Model

_WORDS = """
    the a my our your this every garden river mountain kitchen letter teacher doctor engine violin market winter
    summer bread water paper window bridge station ticket friend neighbour question answer reads writes builds paints
    sells opens closes carries finds loses quickly slowly gladly never often today tomorrow under behind between with
    without green yellow quiet loud ancient modern careful curious
"""
WORDS = _WORDS.split()
TEXTS = (
    "The teacher writes a letter.",
    "My neighbour often paints the old bridge, and never sells the green one behind the station!",
    "ﬁne  ½ kitchen\n\twith ﬂour，ＷＩＤＥ letters and cafe\u0301",
    "question?",
    "",
)


def sentence_piece_model(cls: str = "[CLS]") -> bytes:
    """A SentencePiece model trained here, with DeBERTa-v3's normalisation and special pieces."""
    draw = random.Random(1)
    lines = [" ".join(draw.choices(WORDS, k=9)).capitalize() + draw.choice(".!?") for _ in range(400)]
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=180,
        model_type="unigram",
        normalization_rule_name="nmt_nfkc",
        pad_id=0, bos_id=1, eos_id=2, unk_id=3,
        pad_piece="[PAD]", bos_piece=cls, eos_piece="[SEP]", unk_piece="[UNK]",
        minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def normalisation(model: bytes) -> bytes:
    """The compiled character map that a SentencePiece model holds."""
    from sentencepiece import sentencepiece_model_pb2

    return sentencepiece_model_pb2.ModelProto.FromString(model).normalizer_spec.precompiled_charsmap


def config(version: int) -> DebertaV2Config:
    """DeBERTa-v3-xsmall or -small, narrower and shallower."""
    return DebertaV2Config(
        vocab_size=256,
        hidden_size=64 if version == 1 else 128,
        num_hidden_layers=3 if version == 1 else 2,
        num_attention_heads=1 if version == 1 else 2,
        intermediate_size=96,
        layer_norm_eps=1e-7,
        max_position_embeddings=512,
        max_relative_positions=-1,
        norm_rel_ebd="layer_norm",
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        position_buckets=32,
        relative_attention=True,
        share_att_key=True,
        type_vocab_size=0,
    )


class Published(nn.Module):
    """The network of jdleo1/tinysafe-1 or -2, with its key names."""

    def __init__(self, version: int, backbone: DebertaV2Config) -> None:
        super().__init__()
        self.backbone = DebertaV2Model(backbone)
        hidden = backbone.hidden_size
        if version == 1:
            self.dropouts = nn.ModuleList()
            self.binary_head = nn.Sequential(nn.Dropout(0.1), nn.Linear(hidden, 1))
            self.category_head = nn.Sequential(nn.Dropout(0.1), nn.Linear(hidden, 7))
        else:
            self.dropouts = nn.ModuleList(nn.Dropout(0.1) for _ in range(5))
            self.binary_head = nn.Linear(hidden, 1)
            self.category_head = nn.Linear(hidden, 7)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        return self.binary_head(states).squeeze(-1), self.category_head(states)


def network(version: int) -> Published:
    """Random weights, large enough that texts differ by much more than the tolerance of the tests."""
    torch.manual_seed(version)
    made = Published(version, config(version)).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.ndim == 2:
                weight.normal_(0, 0.5 if "embeddings" in name else 0.2)
    return made


def readme(made: Published, pieces: SentencePieceProcessor, texts: list[str]) -> tuple[Tensor, Tensor]:
    """The README's quickstart: ``tokenizer(text, max_length=512, truncation=True, padding=True)``, then the model.

    Its tokenizer is that of transformers 4: SentencePiece does everything, [CLS] and [SEP] go around.
    """
    rows = [[1, *pieces.encode(text)[:510], 2] for text in texts]
    width = max(map(len, rows))
    inputs = {
        "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
    }
    with torch.no_grad():
        binary_logits, category_logits = made(inputs["input_ids"], inputs["attention_mask"])
    return binary_logits, category_logits


def export(version: int, folder: Path) -> None:
    """``model.onnx`` of the network: v1's takes any length, v2's only the 512 tokens with which it was traced."""
    ids = torch.randint(4, 180, (2, 24 if version == 1 else 512))
    free = {0: "batch", 1: "seq"} if version == 1 else {0: "batch"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's
        torch.onnx.export(
            network(version),
            (ids, torch.ones_like(ids)),
            str(folder / "model.onnx"),
            input_names=["input_ids", "attention_mask"],
            output_names=["binary_logit", "category_logits"],
            dynamic_axes={
                "input_ids": free,
                "attention_mask": free,
                "binary_logit": {0: "batch"},
                "category_logits": {0: "batch"},
            },
            opset_version=17,
            dynamo=False,
        )


def write_tokenizer(folder: Path, model: bytes) -> None:
    """``spm.model`` with the configuration that DeBERTa-v3's repositories have beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spm.model").write_bytes(model)
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
