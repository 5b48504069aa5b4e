"""Small random checkpoints in the layouts in which Qwen2, Llama, Gemma, ModernBERT and their adapters are published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForSequenceClassification,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForSequenceClassification,
)

TEXTS = [
    "How to kill a python process?",
    "Wie backt man Brot ohne Hefe?",
    "gate",
    "The lighthouse keeper wrote every storm into a book, and the book into the storm. " * 12,
    "用一句话介绍灯塔。",
    "Please describe the wooden boat by the sea, slowly, for a school project, and draw the old clock.",
    "An old clock strikes " + "one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve. " * 2,
]
ROPES = {"global": "full_attention", "local": "sliding_attention"}
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level_tokenizer(folder: Path, tokenizer_class: str, special: list[str], *, begin: str = "") -> int:
    """Qwen's or, with a ``begin``, Llama 3's kind of tokenizer; returns its size."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, special.index(begin))]
        )
    end = special[-1]
    return _save_tokenizer(
        folder, tokenizer, {"tokenizer_class": tokenizer_class, "eos_token": end, "bos_token": begin}
    )


def gemma_tokenizer(folder: Path, tokenizer_class: str, *, end: bool) -> int:
    """Gemma's kind of tokenizer, as Gemma has it (begin) or as mmBERT has it (begin and end); returns its size."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>" if end else "<bos> $A", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return _save_tokenizer(folder, tokenizer, {"tokenizer_class": tokenizer_class, **names})


def _save_tokenizer(folder: Path, tokenizer: Tokenizer, config: dict[str, str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    given = {name: value for name, value in config.items() if value}
    (folder / "tokenizer_config.json").write_text(json.dumps(given))
    return tokenizer.get_vocab_size()


def modernbert(folder: Path, vocabulary: int, *, hidden: int = 32) -> Path:
    """A base like jhu-clsp/mmBERT-base: a masked language model with mean pooling and a narrow local attention."""
    config = ModernBertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        local_attention=16,
        classifier_pooling="mean",
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        cls_token_id=1,
        sep_token_id=1,
    )
    return _save(folder, ModernBertForMaskedLM(config))


def gemma(folder: Path, vocabulary: int, *, hidden: int = 32) -> Path:
    """A base like google/gemma-2b: one key-value head for all query heads, tied embeddings."""
    config = GemmaConfig(vocab_size=vocabulary, hidden_size=hidden, head_dim=16, num_key_value_heads=1, **_decoder())
    return _save(folder, GemmaForCausalLM(config))


def duoguard(folder: Path, kind: str, vocabulary: int, *, labels: int = 12, **changes: int | None) -> Path:
    """A classifier like DuoGuard-0.5B (``kind`` "qwen2") or DuoGuard-1B-Llama-3.2-transfer ("llama")."""
    config_class, model_class = {
        "qwen2": (Qwen2Config, Qwen2ForSequenceClassification),
        "llama": (LlamaConfig, LlamaForSequenceClassification),
    }[kind]
    end = {"qwen2": 0, "llama": 1}[kind]
    sizes = {"vocab_size": vocabulary, "hidden_size": 32, "num_key_value_heads": 2, **_decoder()}
    ids = {"pad_token_id": end, "eos_token_id": end, "bos_token_id": 0, **changes}
    return _save(folder, model_class(config_class(num_labels=labels, **sizes, **ids)))


def _decoder() -> dict[str, int]:
    return {
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 1024,
    }


def _save(folder: Path, model: PreTrainedModel) -> Path:
    shake(model)
    model.save_pretrained(folder)
    _as_version_4(folder / "config.json")
    return folder


def _as_version_4(path: Path) -> None:
    """Rewrites a configuration as transformers 4, with which all of these were published, wrote it."""
    config = json.loads(path.read_text())
    config["torch_dtype"] = config.pop("dtype")
    rope = config.pop("rope_parameters")
    if config["model_type"] == "modernbert":
        thetas = {f"{new}_rope_theta": rope[old]["rope_theta"] for new, old in ROPES.items()}
        config |= {**thetas, "global_attn_every_n_layers": 3, "reference_compile": False}
    else:
        config["rope_theta"] = rope["rope_theta"]
    config.pop("layer_types", None)
    config["transformers_version"] = "4.48.0"
    path.write_text(json.dumps(config))


def shake(model: nn.Module, seed: int = 7) -> None:
    """Random weights large enough that texts differ; PEFT's own start leaves B at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                scale = 1.0 if "embed" in name else 2.0 / parameter.shape[1] ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            elif "norm" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def trained_part(network: nn.Module) -> nn.Module:
    """The layers of a network whose own parameters train, as one module."""
    layers = [m for m in network.modules() if not list(m.children()) and any(p.requires_grad for p in m.parameters())]
    return nn.ModuleList(layers)


def into_hub_cache(cache: Path, repo: str, folder: Path) -> None:
    """Copies a folder to where huggingface_hub keeps a downloaded repository."""
    place, commit = cache / f"models--{repo.replace('/', '--')}", "0" * 40
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)


def rewrite(path: Path, **changes: object) -> None:
    """Changes keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut_off(path: Path) -> None:
    """Takes the last bytes off a file, as a broken download does."""
    path.write_bytes(path.read_bytes()[:-64])
