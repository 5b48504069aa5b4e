"""DuoGuard folders in the published layout score as their card's snippet does, alone and in any batch."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stages.errors import ModelError
from stages.registry import load_stage
from stages.taxonomy import DUOGUARD_LABELS
from tests.stages.publishing import TEXTS, byte_level_tokenizer, cut_off, duoguard, into_hub_cache, rewrite

TOKENIZERS = {
    "qwen2": ("Qwen2Tokenizer", ["<|endoftext|>"], ""),
    "llama": ("PreTrainedTokenizerFast", ["<|begin_of_text|>", "<|end_of_text|>"], "<|begin_of_text|>"),
}
REPOSITORIES = {"qwen2": "Qwen/Qwen2.5-0.5B", "llama": "meta-llama/Llama-3.2-1B"}


def publish(root, kind, **changes):
    """The base repository, of which only the tokenizer matters, and the classifier's folder without one."""
    name, special, begin = TOKENIZERS[kind]
    size = byte_level_tokenizer(root / "base", name, special, begin=begin)
    duoguard(root / "duoguard", kind, size + 8, **changes)
    return root


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def published(request, tmp_path_factory):
    return request.param, publish(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("qwen"), "qwen2")


@pytest.fixture
def folder(qwen, tmp_path):
    """A copy of the classifier with the tokenizer beside it."""
    shutil.copytree(qwen / "duoguard", tmp_path / "model")
    shutil.copy(qwen / "base" / "tokenizer.json", tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def snippet(base, model, prompt):
    """The card's code, on a CPU in float32."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
    inputs = tokenizer(prompt, return_tensors="pt", truncation=True, max_length=512)
    with torch.no_grad():
        outputs = model(**inputs)
    return outputs.logits, torch.sigmoid(outputs.logits)


def test_scores_match_the_card(published, cache):
    kind, root = published
    into_hub_cache(cache, REPOSITORIES[kind], root / "base")
    stage = load_stage(root / "duoguard")
    assert stage.info.name == "duoguard"
    assert stage.info.labels == DUOGUARD_LABELS
    assert stage.info.judges
    assert {"model.safetensors", "base/tokenizer.json"} <= set(stage.info.files)
    spread = []
    for text in TEXTS:
        (scores,) = stage.score(stage.encode(text).windows)
        logits, probabilities = snippet(root / "base", root / "duoguard", text)
        np.testing.assert_allclose(scores.labels, logits[0].numpy(), atol=1e-4)
        assert (stage.calibration.unsafe(scores.unsafe) > 0.5) == (max(probabilities[0].tolist()) > 0.5)
        assert stage.calibration.unsafe(scores.unsafe) == pytest.approx(max(probabilities[0].tolist()), abs=1e-4)
        spread.append(logits[0].numpy())
    assert np.std(spread, axis=0).max() > 0.1  # the texts do differ


def test_a_batch_scores_as_its_rows_do(published, cache):
    kind, root = published
    into_hub_cache(cache, REPOSITORIES[kind], root / "base")
    stage = load_stage(root / "duoguard")
    windows = [stage.encode(text).windows[0] for text in [*TEXTS, ""]]
    assert len({len(window) // 64 for window in windows}) > 1
    for window, together in zip(windows, stage.score(windows), strict=True):
        (alone,) = stage.score([window])
        np.testing.assert_allclose(together.labels, alone.labels, atol=1e-4)


def test_a_text_that_ends_with_the_padding_token_is_pooled_at_its_own_end(folder):
    stage = load_stage(folder)
    end = AutoModelForSequenceClassification.from_pretrained(folder).config.pad_token_id
    (window,) = stage.encode("Draw the old clock.<|endoftext|>").windows
    assert window.ids[-1] == end
    longer = stage.encode("Draw the old clock by the sea, slowly, and the boat.").windows[0]
    in_batch, _ = stage.score([window, longer])
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        states = model.model(torch.tensor([window.ids])).last_hidden_state
        expected, before = model.score(states[0, -1]).numpy(), model.score(states[0, -2]).numpy()
    np.testing.assert_allclose(in_batch.labels, expected, atol=1e-4)
    assert np.abs(expected - before).max() > 0.01


def test_a_batch_needs_no_padding_id_in_the_configuration(folder):
    rewrite(folder / "config.json", pad_token_id=None)
    stage = load_stage(folder)
    windows = [stage.encode(text).windows[0] for text in TEXTS[:3]]
    for window, together in zip(windows, stage.score(windows), strict=True):
        np.testing.assert_allclose(together.labels, stage.score([window])[0].labels, atol=1e-4)


def test_an_empty_text_is_scored(folder):
    stage = load_stage(folder)
    encoding = stage.encode("")
    assert (encoding.tokens, len(encoding.windows[0])) == (0, 1)
    assert np.isfinite(stage.score(encoding.windows)[0].labels).all()


def test_the_folders_own_tokenizer_comes_first(folder, cache):
    assert "base/tokenizer.json" not in load_stage(folder).info.files


def test_shards_are_read(folder):
    AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(folder / "cut", max_shard_size="20KB")
    shutil.copy(folder / "tokenizer.json", folder / "cut")
    assert len(list((folder / "cut").glob("*.safetensors"))) > 1
    one, cut = load_stage(folder), load_stage(folder / "cut")
    window = one.encode(TEXTS[0]).windows
    np.testing.assert_allclose(one.score(window)[0].labels, cut.score(window)[0].labels, atol=1e-5)
    next((folder / "cut").glob("*.safetensors")).unlink()
    with pytest.raises(ModelError, match=r"model-0000.*is missing"):
        load_stage(folder / "cut")


def test_bfloat16_keeps_the_rotary_angles_exact(folder):
    stage = load_stage(folder, dtype="bfloat16")
    assert stage.info.runtime == "torch-bfloat16"
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16)
    window = stage.encode(TEXTS[3]).windows
    with torch.no_grad():
        expected = model(torch.tensor([window[0].ids])).logits[0].float().numpy()
    np.testing.assert_allclose(stage.score(window)[0].labels, expected, atol=0.02)


def test_a_missing_tokenizer_names_the_repository(qwen, cache):
    with pytest.raises(ModelError, match=r"no tokenizer\.json.*Qwen/Qwen2\.5-0\.5B"):
        load_stage(qwen / "duoguard")


def test_a_truncated_file_is_named(folder):
    cut_off(folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors: .*cut off"):
        load_stage(folder)


def test_a_tokenizer_with_ids_beyond_the_table_is_refused(folder):
    byte_level_tokenizer(folder, "Qwen2Tokenizer", [*(f"<|{n}|>" for n in range(300)), "<|endoftext|>"])
    with pytest.raises(ModelError, match=r"tokenizer\.json: gives ids up to \d+, the embedding table has"):
        load_stage(folder)


def test_another_number_of_labels_is_refused(qwen, tmp_path):
    duoguard(tmp_path / "model", "qwen2", 300, labels=3)
    with pytest.raises(ModelError, match=r"score\.weight has 3 rows, DuoGuard has 12"):
        load_stage(tmp_path / "model")


def test_weights_that_do_not_fit_the_configuration_are_refused(folder):
    rewrite(folder / "config.json", hidden_size=64, head_dim=16)
    with pytest.raises(ModelError, match=r"do not fit config\.json"):
        load_stage(folder)


def test_missing_weights_are_named(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"the weights lack model\.layers\.1\.mlp\.up_proj\.weight"):
        load_stage(folder)


@pytest.mark.parametrize("rows", [None, "many", 0])
def test_a_configuration_without_a_size_is_refused(folder, rows):
    rewrite(folder / "config.json", vocab_size=rows)
    with pytest.raises(ModelError, match=r"config\.json: vocab_size is"):
        load_stage(folder)


def test_a_pickle_is_not_opened(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch run'\ntR.")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: a pickle can run code; only model\.safetensors"):
        load_stage(folder)
    assert not list(tmp_path.rglob("run"))
