"""The judge, an adapter for a small decoder: one row judges, the others are the hazards'; its base is pinned."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, LlamaForCausalLM, PreTrainedTokenizerFast

from stages.errors import ModelError
from stages.registry import load_stage
from stages.remote.wire import describe, to_tokenizer
from stages.taxonomy import HAZARD_SLUGS
from tests.stages.publishing import TEXTS, rewrite, shake, trained_part
from tests.training.backbones import decoder_backbone

# PEFT asks transformers for what it renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The base, and the adapter, which names it."""
    root = tmp_path_factory.mktemp("judge")
    base = decoder_backbone(root / "base")
    classifier = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1 + len(HAZARD_SLUGS))
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"])
    adapted = get_peft_model(classifier, lora)
    shake(trained_part(adapted))
    adapted.save_pretrained(root / "adapter")
    rewrite(root / "adapter" / "adapter_config.json", base_model_name_or_path="../base")
    return root


def by_peft(root, texts):
    """Logits [texts, 15] as transformers and PEFT compute them."""
    base = root / "base"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(base / "tokenizer.json"))
    classifier = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1 + len(HAZARD_SLUGS), dtype=torch.float32
    )
    model = PeftModel.from_pretrained(classifier, root / "adapter").eval()
    with torch.no_grad():
        return np.stack(
            [
                model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=256)).logits[0].numpy()
                for text in texts
            ]
        )


def test_it_scores_as_peft_does_one_by_one_and_in_a_batch(published):
    stage = load_stage(published / "adapter")
    assert (stage.info.name, stage.info.labels, stage.info.judges) == ("judge", HAZARD_SLUGS, True)
    expected = by_peft(published, TEXTS)
    windows = [stage.encode(text).windows[0] for text in TEXTS]
    alone = [stage.score([window])[0] for window in windows]
    for found in (alone, stage.score(windows)):
        np.testing.assert_allclose([one.unsafe for one in found], expected[:, 0], atol=1e-4)
        np.testing.assert_allclose([one.labels for one in found], expected[:, 1:], atol=1e-4)
    assert np.std(expected[:, 0]) > 0.1


def test_its_files_are_named_with_those_of_its_base(published):
    files = load_stage(published / "adapter").info.files
    assert {"adapter_model.safetensors", "base/model.safetensors", "base/tokenizer.json"} <= set(files)


def test_another_process_cuts_texts_alike_and_gives_an_empty_one_a_token(published):
    stage = load_stage(published / "adapter")
    tokenizer = to_tokenizer(describe("stage2", stage).tokenizer)
    for text in [*TEXTS, ""]:
        assert tokenizer.encode(text) == stage.encode(text)
    assert [len(window) for window in tokenizer.encode("").windows] == [1]


def test_another_base_of_the_same_shape_is_refused(copy):
    digest = load_stage(copy / "adapter").info.files["base/model.safetensors"]
    said = {"name": "judge", "base": "a small decoder", "licence": "none", "training_sets": []}
    (copy / "adapter" / "trained.json").write_text(
        json.dumps(said | {"base_files": {"base/model.safetensors": digest}})
    )
    assert load_stage(copy / "adapter").info.licence == "none"
    other = LlamaForCausalLM.from_pretrained(copy / "base")
    shake(other, seed=8)
    other.save_pretrained(copy / "base")
    with pytest.raises(ModelError, match=r"trained on another base, whose base/model\.safetensors is not the same"):
        load_stage(copy / "adapter")


def test_an_adapter_whose_head_has_other_rows_is_no_judge(copy):
    shutil.rmtree(copy / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(copy / "base", num_labels=3)
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["q_proj"])
    get_peft_model(base, lora).save_pretrained(copy / "adapter")
    with pytest.raises(ModelError, match=r"its score head has 3 rows, constitutional has 2"):
        load_stage(copy / "adapter")
