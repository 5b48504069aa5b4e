"""Networks of the systems that transformers can load as they are: legacy hazards, DuoGuard, constitutional, judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from stages.adapted import DECODERS
from stages.constitutional import published as constitutional
from stages.constitutional.network import ConstitutionalNetwork
from stages.duoguard.network import DuoGuardNetwork
from stages.errors import ModelError
from stages.hazard.legacy9_network import HazardSoftmax
from stages.judge import published as judge
from stages.judge.network import JudgeNetwork
from training.batches import training_tokenizer
from training.lora import with_lora
from training.pretrained import configuration, load
from training.recipe import Recipe
from training.systems import System
from training.targets import LABELS
from training.tokenizer import tokenizer_of

CLASSIFIER = "sequence classifier"
HEADS = {"legacy9": "classifier", "duoguard": "score", "constitutional": "score", "judge": "score"}
CLASSES = {"constitutional": constitutional.CLASSES, "judge": judge.CLASSES}  # where they are not the labels


def build_classifier(recipe: Recipe, base: Path) -> System:
    """The network of a recipe for one of these systems on the backbone in ``base``.

    Raises:
        ModelError: the folder is of no use for this system, or has no tokenizer.
    """
    labels = LABELS[recipe.system]
    classifier = _load(base, recipe, classes=CLASSES.get(recipe.system, len(labels)))
    config = classifier.config
    kind, head = str(config.model_type), HEADS[recipe.system]
    if (head == "score") != (kind in DECODERS):
        raise ModelError(
            f"{base}: a {kind} model; {recipe.system} needs {'a decoder' if head == 'score' else 'an encoder'}"
        )
    pad_id = pad_of(config.pad_token_id, config.eos_token_id, decoder=head == "score")
    config.pad_token_id = pad_id  # transformers refuses batches of a decoder without one
    saved: nn.Module = classifier
    if recipe.lora:
        heads = [head, *(["pooler"] if kind == "bert" else [])]  # BERT's pooler is often new, as the classifier is
        saved = with_lora(classifier, recipe.lora, kind, heads=heads, task="SEQ_CLS")
    tokenizer = training_tokenizer(tokenizer_of(base, rows=config.vocab_size), recipe.data.max_tokens)
    return System(network_of(recipe.system, classifier), tokenizer, pad_id, labels, kind, saved)


def network_of(system: str, classifier: PreTrainedModel) -> nn.Module:
    """What the stage of a system makes of a classifier's logits."""
    if system == "duoguard":
        return DuoGuardNetwork(classifier)
    if system == "constitutional":
        return ConstitutionalNetwork(classifier)
    if system == "judge":
        return JudgeNetwork(classifier)
    return HazardSoftmax(classifier, range(len(LABELS["legacy9"])))


def pad_of(pad: int | None, end: int | list[int] | None, *, decoder: bool) -> int:
    """The padding id: the end of a text for a decoder, as DuoGuard has it; the mask hides it in any case."""
    first = end[0] if isinstance(end, list) else end
    return (first if decoder and first is not None else pad) or 0


def _load(base: Path, recipe: Recipe, *, classes: int) -> PreTrainedModel:
    regularise = recipe.regularise
    config: Any = configuration(base, CLASSIFIER, num_labels=classes)
    for name, value in (
        ("hidden_dropout_prob", regularise.hidden_dropout),
        ("attention_probs_dropout_prob", regularise.attention_dropout),
        ("attention_dropout", regularise.attention_dropout),
        ("classifier_dropout", regularise.dropout),
    ):
        if hasattr(config, name):
            setattr(config, name, value)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return load(AutoModelForSequenceClassification, base, config, CLASSIFIER, heads=True)
