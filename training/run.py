"""One training run from recipe to model folder: data, network, loop, ONNX, int8, calibration, manifest, card."""

from __future__ import annotations

import copy
import ctypes
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from torch import nn
from transformers.utils import logging

from stages.errors import ModelError
from stages.hazard.adapted import load_adapted
from stages.manifest import Manifest
from training.adapter import merged, save_adapter, save_base
from training.bases import Base, find_base
from training.card import write_card
from training.data.mix import Splits, build_splits
from training.data.rows import DataError
from training.decoder import package_decoder
from training.draws import rows_to_train_on
from training.finished import load_best, recipe_of
from training.loftq import take_apart
from training.loop import ORIGIN, Trainer
from training.package import Precision, Provenance, package, trained
from training.publish import publish
from training.quantise import assert_parity
from training.recipe import Recipe
from training.soup import MEAN
from training.systems import System, build_system
from training.teachers import taught

PUBLISHED = "published"  # beside the model folder of an encoder: the same in its system's own layout
DECODERS = ("duoguard", "constitutional", "judge")
NON_COMMERCIAL, PERMISSIVE = "LicenseRef-Cascade-Weights (non-commercial data)", "Apache-2.0"


def run(
    recipe: Recipe,
    data: Path,
    out: Path,
    base: str | None = None,
    *,
    resume: bool = False,
    start: Path | None = None,
    teachers: Mapping[str, str] | None = None,
) -> Manifest | None:
    """Trains by a recipe; ``out/model`` is then a model folder that ``cascade serve`` takes.

    In several processes (``accelerate launch``) only the first one packages; the others return None.

    Args:
        recipe: what to train.
        data: a folder of sets in the uniform form.
        out: where checkpoints, the log, the model and its card go.
        base: a backbone folder, a name that ``cascade models fetch`` knows or a hub id; None takes the recipe's.
        resume: go on from the checkpoint in ``out``.
        start: a finished run, or a soup of some, of the same network: the weights to start from.
        teachers: which models the recipe's teachers are, see :func:`training.teachers.taught`.

    Raises:
        DataError: a set is missing or malformed.
        ModelError: the base, the start or a teacher is of no use, or a parity gate failed.
    """
    keep_freed_memory()
    quiet()
    process = this_process()
    splits = build_splits(data, recipe.data, recipe.system)
    if process.is_main_process:
        _show_left_out(recipe, splits)
    with process.main_process_first():  # one process fetches, the others find
        found = find_base(base or recipe.base, out)
    system = build_system(recipe, found.folder)
    if start is not None:
        if recipe.data.licences == "permissive" and recipe_of(start).data.licences != "permissive":
            raise DataError(f"{start} was trained on sets that are not permissive, {recipe.name} is to be without them")
        load_best(system.network, start)
    with process.main_process_first():  # one process asks the teachers, the others read what they said
        train = rows_to_train_on(splits.train, recipe)
        splits, named = taught(splits, train, recipe, system.tokenizer, teachers or {}, out)
    out.mkdir(parents=True, exist_ok=True)
    origin = [] if start is None else [f"started from {described_run(start)}"]
    origin += [f"taught by {named}"] if named else []
    if origin and process.is_main_process:
        (out / ORIGIN).write_text(", ".join(origin), encoding="utf-8")
    trainer = Trainer(recipe, system.network, system.tokenizer, system.pad_id, splits, out)
    trainer.run(resume=resume)
    if not trainer.accelerator.is_main_process:
        return None
    system.network.cpu()
    return finish(recipe, system, with_origin(found, out), splits, out / "model", out / "CARD.md")


def export(trained: Path, data: Path, out: Path, base: str | None = None, precision: Precision = "int8") -> Manifest:
    """Packages the best weights of a finished run again, for the machine that this is; ``out`` is the model folder.

    The float32 form of a network is a model of its own, with its calibration and golden scores, and a card beside it.

    Raises:
        DataError: ``trained`` is no finished run, or the data are not those of its recipe.
        ModelError: the base is of no use for the system, a parity gate failed, or a decoder is to be float32.
    """
    quiet()
    recipe = recipe_of(trained)
    if precision != "int8" and recipe.system in DECODERS:
        raise ModelError(f"{trained}: a {recipe.system} model is kept as it was trained, there is no --precision")
    splits = build_splits(data, recipe.data, recipe.system)
    found = with_origin(find_base(base or recipe.base, trained), trained)
    system = build_system(recipe, found.folder)
    load_best(system.network, trained)
    card = trained / "CARD.md" if precision == "int8" else out / "README.md"
    return finish(recipe, system, found, splits, out, card, precision)


def described_run(run: Path) -> str:
    """A finished run in words, for what was made from it."""
    whole = f"a run of {recipe_of(run).name}"
    if not (run / ORIGIN).is_file():
        return whole
    origin = (run / ORIGIN).read_text(encoding="utf-8")
    return origin if origin.startswith(MEAN) else f"{whole}, {origin}"


def with_origin(base: Base, run: Path) -> Base:
    """The base of a run, described with where its weights have been since."""
    origin = (run / ORIGIN).read_text(encoding="utf-8") if (run / ORIGIN).is_file() else ""
    return replace(base, described=f"{base.described}, {origin}") if origin else base


def finish(
    recipe: Recipe,
    system: System,
    base: Base,
    splits: Splits,
    model: Path,
    card: Path,
    precision: Precision = "int8",
) -> Manifest:
    """Packages a trained system into the folder ``model`` and writes its card."""
    model.mkdir(parents=True, exist_ok=True)
    system.network.eval()
    open_terms = all(terms[1] == "permissive" for terms in splits.sets.values())
    provenance = Provenance(
        name=recipe.name,
        base=f"{base.described}, all weights tuned" if recipe.lora and recipe.lora.tune == "all" else base.described,
        licence=PERMISSIVE if open_terms else NON_COMMERCIAL,
        scripts=base.scripts,
    )
    splits = replace(splits, train=rows_to_train_on(splits.train, recipe))
    if recipe.system in DECODERS:
        manifest = package_decoder(recipe, system, base, splits, provenance, model)
    else:
        network = _plain(recipe, system, base, model)
        manifest = package(network, recipe, base.folder, system, splits, provenance, model, precision)
        if precision == "int8" and publish(recipe, system, base, card.parent / PUBLISHED):
            trained(provenance, splits).save(card.parent / PUBLISHED)
    write_card(card, recipe, manifest, splits)
    return manifest


def _plain(recipe: Recipe, system: System, base: Base, model: Path) -> nn.Module:
    """The network without adapters, to be exported; the hazard system's parts are saved beside it."""
    network = system.network
    if not recipe.lora:
        return network
    if recipe.system == "legacy9":
        from training.classifiers import network_of

        adapted: Any = copy.deepcopy(system.saved)
        whole = network_of(recipe.system, adapted.merge_and_unload()).eval()
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folder = base.folder
            if recipe.lora.tune == "all":
                folder = Path(scratch)
                network = take_apart(network, recipe.lora, system.model_type, base.folder, folder)
            save_base(folder, model)
        save_adapter(network, model)
        # What the files say, put together again, must be what was trained; and the merge must equal the two parts.
        assert_parity(network, load_adapted(model, len(system.labels)), what="the saved base and adapter")
        whole = merged(network)
    assert_parity(network, whole, what="the merged network")
    return whole


def _show_left_out(recipe: Recipe, splits: Splits) -> None:
    """Tells which sets the licence filter took away, and which sources are empty without them."""
    if not splits.left_out:
        return
    emptied = [source.name for source in recipe.data.sources if not splits.sets.keys() & set(source.sets)]
    lines = [f"  {name}: {licence} ({kind})" for name, (licence, kind) in sorted(splits.left_out.items())]
    print(f"licences = {recipe.data.licences}: {len(lines)} left out", *lines, sep="\n", file=sys.stderr)
    if emptied:
        print(f"  sources without a set: {', '.join(emptied)}", file=sys.stderr)


def this_process() -> PartialState:
    """This process among those that ``accelerate launch`` or ``torchrun`` started.

    Where there is no GPU they have to be told: else each of them would train alone, over the files of the others.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return PartialState(cpu=several and not torch.cuda.is_available())


def quiet() -> None:
    """Keeps the progress bars and reports of transformers off the screen: ours stand there, and heads start random."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def keep_freed_memory() -> None:
    """Has glibc keep freed memory instead of giving it back: a training step allocates the same blocks again and again.

    Measured on a 2-core machine: 1.6 times the tokens a second. On another C library it does nothing.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    m_trim_threshold, m_mmap_threshold, huge = -1, -3, 2**31 - 1
    libc.mallopt(m_trim_threshold, huge)
    libc.mallopt(m_mmap_threshold, huge)
