"""Trims the vocabulary of a multilingual Unigram backbone without favour to any language.

Kept are the special pieces, every piece of one character (so that no text becomes unknown that was not), and the
lowest ids: XLM-R's pieces run from the most probable down, over all its languages at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.errors import ModelError

LOWEST = 40_000


def kept_ids(tokenizer: Mapping[str, Any], lowest: int = LOWEST) -> list[int]:
    """The ids that stay, in their order. ``tokenizer`` is the content of a tokenizer.json."""
    if tokenizer["model"]["type"] != "Unigram":
        raise ModelError(f"only Unigram vocabularies can be trimmed, this one is {tokenizer['model']['type']}")
    special = {token["id"] for token in tokenizer["added_tokens"]}
    pieces = [piece for piece, _ in tokenizer["model"]["vocab"]]
    return [
        id_
        for id_, piece in enumerate(pieces)
        if id_ < lowest or id_ in special or len(piece) == 1 or (len(piece) == 2 and piece[0] == "▁")
    ]


def trim_tokenizer(tokenizer: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    """The tokenizer with only the kept ids, renumbered."""
    new_id = {old: new for new, old in enumerate(kept)}
    model = dict(tokenizer["model"])
    model["vocab"] = [model["vocab"][old] for old in kept]
    model["unk_id"] = new_id[model["unk_id"]]
    trimmed = {**tokenizer, "model": model, "truncation": None, "padding": None}
    trimmed["added_tokens"] = [{**token, "id": new_id[token["id"]]} for token in tokenizer["added_tokens"]]
    special = tokenizer["post_processor"]["special_tokens"]
    trimmed["post_processor"] = {
        **tokenizer["post_processor"],
        "special_tokens": {
            name: {**token, "ids": [new_id[old] for old in token["ids"]]} for name, token in special.items()
        },
    }
    return trimmed


def trim_backbone(folder: Path, out: Path, lowest: int = LOWEST) -> int:
    """Writes a backbone with a trimmed vocabulary to ``out``; returns the number of pieces.

    Raises:
        ModelError: the folder's vocabulary is no Unigram.
    """
    import torch
    from transformers import AutoModel

    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    kept = kept_ids(tokenizer, lowest)
    model = AutoModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False)
    rows = model.get_input_embeddings().weight.data[torch.tensor(kept)]
    model.resize_token_embeddings(len(kept), mean_resizing=False)
    model.get_input_embeddings().weight.data.copy_(rows)
    model.config.pad_token_id = kept.index(model.config.pad_token_id)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    trimmed = trim_tokenizer(tokenizer, kept)
    (out / "tokenizer.json").write_text(json.dumps(trimmed, ensure_ascii=False), encoding="utf-8")
    return len(kept)


def inflation(full: Path, trimmed: Path, texts: Mapping[str, Iterable[str]]) -> dict[str, tuple[float, float]]:
    """Language -> (tokens against the full vocabulary, share of unknown tokens) of sample texts."""
    from tokenizers import Tokenizer

    before, after = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (full, trimmed))
    unknown = after.token_to_id("<unk>")
    if unknown is None:
        raise ModelError(f"{trimmed}: no piece <unk>")
    figures = {}
    for language, samples in texts.items():
        samples = list(samples)
        old = sum(len(e.ids) for e in before.encode_batch(samples, add_special_tokens=False))
        ids = [id_ for e in after.encode_batch(samples, add_special_tokens=False) for id_ in e.ids]
        figures[language] = (len(ids) / max(1, old), ids.count(unknown) / max(1, len(ids)))
    return figures


def main() -> None:
    """Prints what trimming costs each language: ``python -m training.vocabulary FULL TRIMMED``."""
    import sys

    from training.sentences import SENTENCES

    full, trimmed = map(Path, sys.argv[1:3])
    for language, (ratio, unknown) in inflation(full, trimmed, SENTENCES).items():
        print(f"{language}  tokens x {ratio:.2f}  unknown {unknown:.2%}")


if __name__ == "__main__":
    main()
