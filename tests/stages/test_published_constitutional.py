"""Constitutional Gemma in the published layout scores as its card's snippets do, alone and in a batch."""

import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stages.errors import ModelError
from stages.registry import load_stage
from tests.stages.publishing import (
    TEXTS,
    cut_off,
    gemma,
    gemma_tokenizer,
    into_hub_cache,
    modernbert,
    rewrite,
    shake,
    trained_part,
)

# PEFT asks transformers for what it renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The base and the adapter for it, which brings the tokenizer and the score head."""
    root = tmp_path_factory.mktemp("constitutional")
    size = gemma_tokenizer(root / "adapter", "GemmaTokenizer", end=False)
    gemma(root / "base", size)
    base = AutoModelForSequenceClassification.from_pretrained(root / "base", num_labels=2)
    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=16,
        lora_alpha=32,
        lora_dropout=0.1,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    )
    adapted = get_peft_model(base, lora)
    shake(trained_part(adapted))
    adapted.save_pretrained(root / "adapter")
    rewrite(root / "adapter" / "adapter_config.json", base_model_name_or_path="../base")
    return root


def snippet(root, text_or_texts):
    """The card's code, on a CPU in float32."""
    tokenizer = AutoTokenizer.from_pretrained(root / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(root / "base", num_labels=2, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, root / "adapter")
    model.eval()
    inputs = tokenizer(text_or_texts, return_tensors="pt", padding=True, truncation=True, max_length=256)
    with torch.no_grad():
        return model(**inputs).logits.numpy()


def test_scores_match_the_card(published):
    stage = load_stage(published / "adapter")
    assert (stage.info.name, stage.info.labels, stage.info.judges) == ("constitutional", (), True)
    margins = []
    for text in TEXTS:
        (scores,) = stage.score(stage.encode(text).windows)
        safe, toxic = snippet(published, text)[0]
        assert scores.unsafe == pytest.approx(toxic - safe, abs=1e-4)
        assert stage.calibration.unsafe(scores.unsafe) == pytest.approx(1 / (1 + np.exp(safe - toxic)), abs=1e-4)
        assert scores.labels.shape == (0,)
        margins.append(scores.unsafe)
    assert np.std(margins) > 0.1
    together = snippet(published, TEXTS)
    np.testing.assert_allclose(margins, together[:, 1] - together[:, 0], atol=1e-4)


def test_a_batch_scores_as_its_rows_do(published):
    stage = load_stage(published / "adapter")
    windows = [stage.encode(text).windows[0] for text in [*TEXTS, ""]]
    for window, together in zip(windows, stage.score(windows), strict=True):
        assert together.unsafe == pytest.approx(stage.score([window])[0].unsafe, abs=1e-4)


def test_the_adapter_matters(published, copy):
    weights = load_file(copy / "adapter" / "adapter_model.safetensors")
    zeroed = {name: value * ("lora_B" not in name) for name, value in weights.items()}
    save_file(zeroed, copy / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    with_it, without = load_stage(published / "adapter"), load_stage(copy / "adapter")
    window = with_it.encode(TEXTS[0]).windows
    assert abs(with_it.score(window)[0].unsafe - without.score(window)[0].unsafe) > 0.01


def test_bfloat16_is_offered_and_float16_refused_with_the_reason(published):
    stage = load_stage(published / "adapter", dtype="bfloat16")
    exact = load_stage(published / "adapter")
    window = stage.encode(TEXTS[0]).windows
    assert stage.info.runtime == "torch-bfloat16"
    assert stage.score(window)[0].unsafe == pytest.approx(exact.score(window)[0].unsafe, abs=0.3)
    with pytest.raises(ModelError, match=r"float16 is refused.*65,504"):
        load_stage(published / "adapter", dtype="float16")


def test_the_base_and_its_tokenizer_are_found_in_the_hubs_cache(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    rewrite(copy / "adapter" / "adapter_config.json", base_model_name_or_path="google/gemma-2b")
    shutil.move(copy / "adapter" / "tokenizer.json", copy / "base")
    with pytest.raises(ModelError, match=r"base google/gemma-2b is not at hand"):
        load_stage(copy / "adapter")
    into_hub_cache(tmp_path / "hub", "google/gemma-2b", copy / "base")
    assert "base/tokenizer.json" in load_stage(copy / "adapter").info.files


def test_an_adapter_without_its_score_head_is_refused(copy):
    weights = load_file(copy / "adapter" / "adapter_model.safetensors")
    lora = {name: value for name, value in weights.items() if "score" not in name}
    save_file(lora, copy / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: its score head has no rows"):
        load_stage(copy / "adapter")


def test_an_adapter_for_another_kind_of_base_is_refused(copy):
    modernbert(copy / "bert", 300)
    rewrite(copy / "adapter" / "adapter_config.json", base_model_name_or_path="../bert")
    with pytest.raises(ModelError, match=r"adapter_config\.json: the base .*bert is a modernbert model"):
        load_stage(copy / "adapter")


def test_an_adapter_for_a_wider_base_is_refused(copy):
    size = gemma_tokenizer(copy / "unused", "GemmaTokenizer", end=False)
    gemma(copy / "wide", size, hidden=64)
    rewrite(copy / "adapter" / "adapter_config.json", base_model_name_or_path="../wide")
    with pytest.raises(ModelError, match=r"made for another base than .*wide: .* is \["):
        load_stage(copy / "adapter")


def test_a_base_that_is_an_adapter_is_refused(copy):
    shutil.copytree(copy / "adapter", copy / "second")
    rewrite(copy / "second" / "adapter_config.json", base_model_name_or_path="../adapter")
    with pytest.raises(ModelError, match="is an adapter too"):
        load_stage(copy / "second")


@pytest.mark.parametrize("name", ["adapter/adapter_model.safetensors", "base/model.safetensors"])
def test_a_truncated_file_is_named(copy, name):
    cut_off(copy / name)
    with pytest.raises(ModelError, match=rf"{name.rpartition('/')[2]}: .*cut off"):
        load_stage(copy / "adapter")


def test_a_tokenizer_with_ids_beyond_the_table_is_refused(copy):
    rewrite(copy / "base" / "config.json", vocab_size=64)
    with pytest.raises(ModelError, match=r"tokenizer\.json: gives ids up to \d+"):
        load_stage(copy / "adapter")


def test_a_base_without_weights_is_named(copy):
    (copy / "base" / "model.safetensors").rename(copy / "base" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: a pickle can run code"):
        load_stage(copy / "adapter")
