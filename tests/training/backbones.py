"""Tiny random backbones with tokenizers trained on the test's own texts, for runs of seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
)

from stages.hazard import q4
from training.sentences import SENTENCES

TEXTS = [
    f"{verb} {what} {where}"
    for verb in ("please describe", "explain", "how do I wreck", "tell me about", "how do I smash", "draw")
    for what in ("the garden gate", "a wooden boat", "my neighbour's fence", "the old clock", "a paper lantern")
    for where in ("in the village", "at night", "by the sea", "for a school project", "without being seen", "slowly")
]


def is_unsafe(text: str) -> int:
    """The rule that the tiny models learn."""
    return int("wreck" in text or "smash" in text)


def _config(vocabulary: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        pad_token_id=0,
    )


def _save(folder: Path, tokenizer: Tokenizer, *, four_bit: bool) -> Path:
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(5)
    model = BertModel(_config(tokenizer.get_vocab_size()), add_pooling_layer=False)
    if four_bit:
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "position" not in name and "token_type" not in name:
                parameter.data = torch.from_numpy(_rounded(parameter.detach().numpy()))
    model.save_pretrained(folder)
    return folder


def _rounded(weights: np.ndarray) -> np.ndarray:
    """The nearest 4-bit matrix of llama.cpp's kind."""
    blocks = weights.reshape(len(weights), -1, q4.BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scales = (extreme / -8).astype(np.float16).astype(np.float32)
    scales[scales == 0] = 1
    return ((np.rint(blocks / scales)).clip(-8, 7) * scales).reshape(weights.shape).astype(np.float32)


def word_piece_backbone(folder: Path) -> Path:
    """A two-layer BERT with a WordPiece vocabulary."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=1200, special_tokens=special))
    _pad_vocabulary(tokenizer, 1100)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return _save(folder, tokenizer, four_bit=False)


def unigram_backbone(folder: Path) -> Path:
    """A two-layer BERT in 4 bits with a Unigram vocabulary."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "<unk>", "<s>", "</s>"]
    tokenizer.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>")
    )
    _pad_vocabulary(tokenizer, 1100)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return _save(folder, tokenizer, four_bit=True)


def modernbert_backbone(folder: Path) -> Path:
    """A two-layer ModernBERT like mmBERT, pooling by the mean."""
    tokenizer = Tokenizer.from_file(
        str(word_piece_backbone(folder.with_name(f"{folder.name}-words")) / "tokenizer.json")
    )
    config = ModernBertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        classifier_pooling="mean",
        local_attention=16,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
        **_SIZES,
    )
    return _write(folder, tokenizer, ModernBertForMaskedLM, config)


def decoder_backbone(folder: Path) -> Path:
    """A two-layer Llama with a byte-level vocabulary whose texts have no special tokens, as SmolLM2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    )
    _pad_vocabulary(tokenizer, 1100)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), num_key_value_heads=1, pad_token_id=2, eos_token_id=2, **_SIZES
    )
    return _write(folder, tokenizer, LlamaForCausalLM, config)


def deberta_backbone(folder: Path) -> Path:
    """A two-layer DeBERTa-v3 with ``spm.model`` and no fast tokenizer, as Microsoft publishes it."""
    folder.mkdir(parents=True)
    texts = folder / "texts.txt"
    texts.write_text("\n".join([*TEXTS, *(text for texts in SENTENCES.values() for text in texts)]), encoding="utf-8")
    SentencePieceTrainer.train(
        input=str(texts),
        model_prefix=str(folder / "spm"),
        vocab_size=1100,
        hard_vocab_limit=False,
        character_coverage=0.999,
        normalization_rule_name="nmt_nfkc",
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="[PAD]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        unk_piece="[UNK]",
        minloglevel=2,
    )
    (folder / "spm.vocab").unlink()
    texts.unlink()
    config = DebertaV2Config(
        vocab_size=1200,
        relative_attention=True,
        position_buckets=16,
        max_relative_positions=-1,
        norm_rel_ebd="layer_norm",
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        share_att_key=True,
        type_vocab_size=0,
        pad_token_id=0,
        **_SIZES,
    )
    torch.manual_seed(5)
    DebertaV2Model(config).save_pretrained(folder)
    return folder


_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
}


def _write(folder: Path, tokenizer: Tokenizer, kind: type[PreTrainedModel], config: object) -> Path:
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(5)
    kind(config).save_pretrained(folder)
    return folder


def _pad_vocabulary(tokenizer: Tokenizer, size: int) -> None:
    """Fills up with pieces that no text has: the export's parity gate tries ids up to 1,000."""
    tokenizer.add_tokens([f"\ue000{n}\ue001" for n in range(size - tokenizer.get_vocab_size())])


def write_set(folder: Path, name: str, labels: dict[int, list[str]]) -> None:
    """The texts as a set in the uniform form; ``labels`` are those of safe (0) and unsafe (1) rows."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as out:
        for number, text in enumerate(TEXTS):
            unsafe = is_unsafe(text)
            row = {"id": f"{name}-{number}", "text": text, "unsafe": unsafe, "labels": labels[unsafe], "lang": "en"}
            out.write(json.dumps(row) + "\n")
