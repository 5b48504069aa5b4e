"""What each system learns to name: its labels, and the cells of a row among them (1, 0 or unknown)."""

from __future__ import annotations

from stages.taxonomy import (
    DUOGUARD_LABELS,
    HAZARD_INDEX,
    HAZARD_SLUGS,
    LEGACY9,
    LEGACY9_RELATED,
    TINYSAFE_CATEGORIES,
)
from training.data.labels import UNKNOWN, LabelMap
from training.data.rows import Row

LABELS: dict[str, tuple[str, ...]] = {
    "tinysafe": TINYSAFE_CATEGORIES,
    "hazard": HAZARD_SLUGS,
    "legacy9": tuple(slug for _, slug in LEGACY9),
    "duoguard": DUOGUARD_LABELS,
    "constitutional": (),  # safe or toxic, no more
    "judge": HAZARD_SLUGS,
}
# Sets whose unsafe rows are attacks on a model, and labels of sets that say misinformation: no hazard says either.
JAILBREAKS = (
    "jailbreak_classification.train",
    "trustllm_jailbreak",
    "inthewild_jailbreak_garak",
    "vulcan_jailbreak_llms",
)
MISINFORMATION = {
    "aegis2_unsafe_900": {"Political/Misinformation/Conspiracy"},
    "directharm4": {"disinfo"},
    "do_not_answer": {"S001mis", "S001dis"},
}


def cells(system: str, row: Row, meaning: LabelMap) -> list[float]:
    """A row's cells in the order of the system's labels; ``meaning`` is the label map of its set."""
    if system == "tinysafe":
        return meaning.category_cells(row)
    hazards = meaning.hazard_cells(row)
    if LABELS[system] is HAZARD_SLUGS:
        return hazards
    named = {slug: hazards[index] for slug, index in HAZARD_INDEX.items()}
    if system == "duoguard":
        named["jailbreak"] = _attribute(row, row.dataset in JAILBREAKS)
    if system == "legacy9":
        said = MISINFORMATION.get(row.dataset, set())
        named["misinformation"] = _attribute(row, bool(said & set(row.labels)))
        for name, slug in LEGACY9:
            related = [named[other] for other in LEGACY9_RELATED.get(name, ())]
            if 1.0 in related:
                named[slug] = 1.0
    return [named[label] for label in LABELS[system]]


def _attribute(row: Row, said: bool) -> float:
    """What holds beside the hazards: 1 where it is said, 0 on safe rows, else unknown."""
    if row.unsafe == 0:
        return 0.0
    return 1.0 if said else UNKNOWN
