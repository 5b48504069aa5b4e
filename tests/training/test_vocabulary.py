"""A trimmed vocabulary keeps every character and reads the kept pieces as before."""

import json

import torch
from tokenizers import Tokenizer
from transformers import AutoModel

from tests.training.backbones import TEXTS, unigram_backbone
from training.vocabulary import inflation, kept_ids, trim_backbone


def test_trimming_keeps_special_pieces_single_characters_and_the_lowest_ids():
    pieces = ["<pad>", "<unk>", "▁the", "x", "▁lantern", "▁z", "▁rare", "<mask>"]
    tokenizer = {"model": {"type": "Unigram", "vocab": [[piece, 0.0] for piece in pieces]}, "added_tokens": [{"id": 7}]}
    assert kept_ids(tokenizer, lowest=3) == [0, 1, 2, 3, 5, 7]


def test_a_trimmed_backbone_embeds_kept_pieces_as_before(tmp_path):
    full = unigram_backbone(tmp_path / "full")
    content = json.loads((full / "tokenizer.json").read_text())
    # Added pieces stand for those that training adds: here they only fill up, and are left out.
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < 4]
    (full / "tokenizer.json").write_text(json.dumps(content))
    count = trim_backbone(full, tmp_path / "trimmed", lowest=30)
    before, after = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (full, tmp_path / "trimmed"))
    assert after.get_vocab_size() == count < before.get_vocab_size()
    old, new = (
        AutoModel.from_pretrained(f, add_pooling_layer=False).get_input_embeddings().weight
        for f in (full, tmp_path / "trimmed")
    )
    for piece in ("</s>", before.id_to_token(12), before.id_to_token(29)):
        assert torch.equal(old[before.token_to_id(piece)], new[after.token_to_id(piece)])
    ratio, unknown = inflation(full, tmp_path / "trimmed", {"en": TEXTS})["en"]
    assert ratio >= 1
    assert unknown == 0
    encoded = after.encode(TEXTS[0]).tokens
    assert encoded[0] == "<s>"
    assert encoded[-1] == "</s>"
