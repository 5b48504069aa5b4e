"""The MLCommons hazard classifier in its published layouts scores as its card's snippet does."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stages.errors import ModelError
from stages.registry import load_stage
from stages.stage import sigmoid
from tests.stages.publishing import (
    TEXTS,
    cut_off,
    gemma_tokenizer,
    into_hub_cache,
    modernbert,
    rewrite,
    shake,
    trained_part,
)

# PEFT asks transformers for what it renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

# The card's list, in the order of the outputs.
CLASSES = [
    "S1_violent_crimes",
    "S2_nonviolent_crimes",
    "S3_sex_crimes",
    "S5_weapons_cbrne",
    "S6_self_harm",
    "S7_hate",
    "S8_specialized_advice",
    "S9_privacy",
    "S13_misinformation",
]
SLUGS = (
    "violent_crimes",
    "nonviolent_crimes",
    "sex_crimes",
    "indiscriminate_weapons",
    "self_harm",
    "hate",
    "specialized_advice",
    "privacy",
    "misinformation",
)


def mapping(names=CLASSES, shape="label_to_id"):
    """A label_mapping.json in one of its three shapes."""
    ids = {name: number for number, name in enumerate(names)}
    names_by_id = {str(number): name for number, name in enumerate(names)}
    return {
        "label_to_id": {"label_to_id": ids, "id_to_label": names_by_id, "mlcommons_taxonomy": {"S1": "Violent"}},
        "label2id": {"label2id": ids, "id2label": names_by_id, "taxonomy_version": "1"},
        "flat": ids,
    }[shape]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The base, the adapter for it, and both merged."""
    root = tmp_path_factory.mktemp("legacy9")
    size = gemma_tokenizer(root / "adapter", "PreTrainedTokenizerFast", end=True)
    modernbert(root / "base", size)
    shutil.copy(root / "adapter" / "tokenizer.json", root / "base")
    network = AutoModelForSequenceClassification.from_pretrained(root / "base", num_labels=9)
    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=4,
        lora_alpha=8,
        lora_dropout=0.1,
        bias="none",
        target_modules=["attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"],
        modules_to_save=["classifier"],
    )
    adapted = get_peft_model(network, lora)
    shake(trained_part(adapted))
    adapted.save_pretrained(root / "adapter")
    rewrite(root / "adapter" / "adapter_config.json", base_model_name_or_path="../base")
    merged = PeftModel.from_pretrained(
        AutoModelForSequenceClassification.from_pretrained(root / "base", num_labels=9), root / "adapter"
    ).merge_and_unload()
    merged.save_pretrained(root / "merged")
    shutil.copy(root / "adapter" / "tokenizer.json", root / "merged")
    for folder in ("adapter", "merged"):
        (root / folder / "label_mapping.json").write_text(json.dumps(mapping()))
    return root


def snippet(root, text, folder="adapter"):
    """The card's code; ``folder`` stands for the hub id."""
    tokenizer = AutoTokenizer.from_pretrained(root / folder)
    model = AutoModelForSequenceClassification.from_pretrained(root / "base", num_labels=9)
    model = PeftModel.from_pretrained(model, root / folder)
    inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        outputs = model(**inputs)
    prediction = outputs.logits.argmax(-1).item()
    return outputs.logits[0].double().softmax(-1).numpy(), CLASSES[prediction]


@pytest.mark.parametrize("folder", ["adapter", "merged"])
def test_scores_match_the_card(published, folder):
    stage = load_stage(published / folder)
    assert stage.info.name == "hazard-legacy9"
    assert stage.info.labels == SLUGS
    assert not stage.info.judges
    seen = set()
    for text in TEXTS:
        (scores,) = stage.score(stage.encode(text).windows)
        probabilities, name = snippet(published, text)
        np.testing.assert_allclose(scores.labels, np.log(probabilities / (1 - probabilities)), atol=1e-4)
        np.testing.assert_allclose([sigmoid(logit) for logit in scores.labels], probabilities, atol=1e-4)
        assert stage.info.labels[int(scores.labels.argmax())] == SLUGS[CLASSES.index(name)]
        assert scores.unsafe == scores.labels.max()
        seen.add(name)
    assert len(seen) > 1


@pytest.mark.parametrize("folder", ["adapter", "merged"])
def test_a_batch_scores_as_its_rows_do(published, folder):
    stage = load_stage(published / folder)
    windows = [stage.encode(text).windows[0] for text in [*TEXTS, ""]]
    for window, together in zip(windows, stage.score(windows), strict=True):
        np.testing.assert_allclose(together.labels, stage.score([window])[0].labels, atol=1e-4)


@pytest.mark.parametrize("shape", ["label_to_id", "label2id", "flat"])
def test_each_shape_of_the_mapping_is_read_in_its_own_order(copy, shape):
    before = load_stage(copy / "merged")
    order = [3, 1, 8, 0, 2, 7, 5, 4, 6]
    (copy / "merged" / "label_mapping.json").write_text(json.dumps(mapping([CLASSES[n] for n in order], shape)))
    after = load_stage(copy / "merged")
    assert after.info.labels == SLUGS
    window = before.encode(TEXTS[0]).windows
    first, second = before.score(window)[0].labels, after.score(window)[0].labels
    np.testing.assert_allclose(second[order], first, atol=1e-6)


def test_the_base_is_found_in_the_hubs_cache(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    rewrite(copy / "adapter" / "adapter_config.json", base_model_name_or_path="jhu-clsp/mmBERT-base")
    with pytest.raises(ModelError, match=r"adapter_config\.json: base jhu-clsp/mmBERT-base is not at hand"):
        load_stage(copy / "adapter")
    into_hub_cache(tmp_path / "hub", "jhu-clsp/mmBERT-base", copy / "base")
    info = load_stage(copy / "adapter").info
    assert {"adapter_model.safetensors", "base/model.safetensors", "base/config.json"} <= set(info.files)


def test_the_revision_depends_on_the_base(copy):
    before = load_stage(copy / "adapter").info.revision
    size = json.loads((copy / "base" / "config.json").read_text())["vocab_size"]
    other = modernbert(copy / "other", size)
    rewrite(other / "config.json", local_attention=32)
    rewrite(copy / "adapter" / "adapter_config.json", base_model_name_or_path="../other")
    assert load_stage(copy / "adapter").info.revision != before


def test_an_adapter_for_a_wider_base_is_refused(copy):
    size = json.loads((copy / "base" / "config.json").read_text())["vocab_size"]
    modernbert(copy / "wide", size, hidden=48)
    rewrite(copy / "adapter" / "adapter_config.json", base_model_name_or_path="../wide")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: made for another base than .*wide: .* is \["):
        load_stage(copy / "adapter")


def test_an_adapter_with_more_layers_than_its_base_is_refused(copy):
    rewrite(copy / "base" / "config.json", num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"made for another base than .*, which has no model\.layers\.3"):
        load_stage(copy / "adapter")


def test_an_adapter_that_lacks_matrices_is_refused(copy):
    config = copy / "adapter" / "adapter_config.json"
    rewrite(config, target_modules=[*json.loads(config.read_text())["target_modules"], "head.dense"])
    with pytest.raises(ModelError, match=r"asks for other tensors: .*head\.dense"):
        load_stage(copy / "adapter")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("peft_type", "IA3", "not a LoRA adapter"),
        ("init_lora_weights", "pissa", "pissa"),
        ("megatron_config", {"tensor_parallel": 2}, "megatron_config"),
        ("layer_replication", [[0, 2]], "layer_replication"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(copy, key, value, message):
    rewrite(copy / "adapter" / "adapter_config.json", **{key: value})
    with pytest.raises(ModelError, match=f"adapter_config.json: .*{message}"):
        load_stage(copy / "adapter")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (mapping(["safe", *CLASSES[1:]]), "unknown labels safe; known are S1_violent_crimes"),
        (mapping(CLASSES[:8]), "not 0 to 8"),
        (dict.fromkeys(CLASSES, 0), "not 0 to 8"),
        ({name: str(n) for n, name in enumerate(CLASSES)}, "not 0 to 8"),
        ({**mapping(), "id_to_label": {str(n): name for n, name in enumerate(reversed(CLASSES))}}, "do not agree"),
        ({"label2id": CLASSES}, "do not agree"),
    ],
)
def test_a_bad_mapping_is_refused(copy, content, message):
    (copy / "merged" / "label_mapping.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=rf"label_mapping\.json: .*{message}"):
        load_stage(copy / "merged")


def test_a_missing_mapping_is_named(copy):
    (copy / "adapter" / "label_mapping.json").unlink()
    with pytest.raises(ModelError, match=r"label_mapping\.json is missing"):
        load_stage(copy / "adapter")


def test_a_folder_with_both_layouts_is_refused(copy):
    shutil.copy(copy / "merged" / "model.safetensors", copy / "adapter")
    with pytest.raises(ModelError, match="both an adapter and merged weights"):
        load_stage(copy / "adapter")


@pytest.mark.parametrize(
    "name", ["adapter/adapter_model.safetensors", "base/model.safetensors", "merged/model.safetensors"]
)
def test_a_truncated_file_is_named(copy, name):
    cut_off(copy / name)
    with pytest.raises(ModelError, match=rf"{name.rpartition('/')[2]}: .*cut off"):
        load_stage(copy / ("merged" if name.startswith("merged") else "adapter"))


def test_a_tokenizer_with_ids_beyond_the_table_is_refused(copy):
    rewrite(copy / "base" / "config.json", vocab_size=64)
    with pytest.raises(ModelError, match=r"tokenizer\.json: gives ids up to \d+, the embedding table has 64 rows"):
        load_stage(copy / "adapter")


def test_a_pickled_adapter_is_not_opened(copy):
    (copy / "adapter" / "adapter_model.safetensors").unlink()
    (copy / "adapter" / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch run'\ntR.")
    with pytest.raises(ModelError, match=r"adapter_model\.bin: a pickle can run code; only adapter_model\.safetensors"):
        load_stage(copy / "adapter")
    assert not list(copy.rglob("run"))
