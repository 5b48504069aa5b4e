"""Writes the model card: what the model is, how it was trained, on what, under which terms, and what was measured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from stages.manifest import Manifest
from training.calibration_report import NOTE, markdown, methods_of, rows_of
from training.data.mix import Splits
from training.draws import effective_shares
from training.recipe import Loss, Recipe

TEMPLATE = """# {name}

{kind} model, revision `{revision}`, {quantisation}, made by `cascade train {recipe}`.

- Base: {base}
- Labels: {labels}
- Window: {window} tokens, overlap {overlap}; longer texts are covered by several windows
- Licence of the weights: {licence} (apart from the code's; see `stages/weights/LICENSE`)
- Calibrated on: {calibrated_on}

## Recipe

| | |
| --- | --- |
{hyperparameters}

## Training data

Rows are drawn source by source; a source's share is of all draws. Labels that a set does not have are unknown and
masked. Near-copies stay on one side of the split.

| source | share | rows trained on | of them unsafe | sets (licence) |
| --- | --- | --- | --- | --- |
{sources}

Validation: {validation} rows. Calibration: {calibration} rows, never trained on.

## Figures on held-out parts of the training data

| figure | value |
| --- | --- |
{metrics}

{of_heads}
Figures on evaluation sets stand in the README with the command that makes them.

## Limits

Trained mostly on English prompts and comments. Scores are probabilities for the mix of sources above, not for your
traffic: fit a policy to your own. A classifier of this size misses what is only implied.
"""


def write_card(path: Path, recipe: Recipe, manifest: Manifest, splits: Splits) -> None:
    """Writes the card of a packaged model to ``path``."""
    shares = effective_shares(splits.train, recipe.data)
    total = sum(share for name, share in shares.items() if splits.train.get(name))
    sources = []
    for source in recipe.data.sources:
        rows = splits.train.get(source.name, [])
        unsafe = Counter(example.unsafe for example in rows)[1.0]
        sets = ", ".join(f"{name} ({splits.sets[name][0]})" for name in source.sets if name in splits.sets)
        share = shares[source.name] / total if rows else 0.0
        sources.append(f"| {source.name} | {share:.2f} | {len(rows)} | {unsafe} | {sets} |")
    given = {
        "sampling": recipe.data.sampling,
        "max_rows": recipe.data.max_rows,
        "licences": recipe.data.licences,
        "left_out_by_licence": ", ".join(splits.left_out) or None,
        **recipe.train.model_dump(),
        **_losses(recipe.loss),
        **recipe.regularise.model_dump(),
        **({f"distil_{key}": value for key, value in recipe.distil.model_dump().items()} if recipe.distil else {}),
        **({f"lora_{key}": value for key, value in recipe.lora.model_dump().items()} if recipe.lora else {}),
    }
    parameters = {key: value for key, value in given.items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        TEMPLATE.format(
            name=manifest.name,
            kind=manifest.kind,
            revision=manifest.revision,
            quantisation=manifest.quantisation,
            recipe=recipe.name,
            base=manifest.base,
            labels=", ".join(manifest.labels) or "none beside safe and unsafe",
            window=manifest.window_tokens,
            overlap=manifest.overlap,
            licence=manifest.licence,
            calibrated_on=manifest.calibrated_on,
            hyperparameters="\n".join(f"| {key} | {value} |" for key, value in parameters.items()),
            sources="\n".join(sources),
            validation=len(splits.validation),
            calibration=len(splits.calibration),
            metrics="\n".join(f"| {key} | {value} |" for key, value in manifest.metrics.items() if "." not in key),
            of_heads=_calibration(manifest),
        ),
        encoding="utf-8",
    )


def _calibration(manifest: Manifest) -> str:
    """What calibration did for each head, as a section; nothing where a manifest does not tell."""
    table = markdown(rows_of(manifest.metrics, methods_of(manifest.labels, manifest.calibration)))
    page = "The reliability diagrams lie beside the model folder, in `FOLDER-calibration.html`."
    return f"## Calibration\n\n{NOTE} {page}\n\n{table}\n" if table else ""


def _losses(loss: Loss) -> dict[str, object]:
    """The losses of a recipe, and of their numbers those that they use."""
    used = {
        "focal": ("binary_weight", "focal_gamma", "label_smoothing"),
        "cross_entropy": ("binary_weight",),
        "asymmetric": ("label_weight", "gamma_positive", "gamma_negative", "clip", "class_balance_beta"),
        "bce": ("label_weight",),
        "multilabel": ("label_weight",),
        "softmax": ("label_weight",),
        "none": (),
    }
    names = (*used[loss.binary], *used[loss.labels])
    return {"binary_loss": loss.binary, "label_loss": loss.labels, **{name: getattr(loss, name) for name in names}}
