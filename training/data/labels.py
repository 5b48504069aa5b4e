"""What each set's own labels mean: cells of TinySafe's 7 categories and of the 14 hazards, 1, 0 or unknown.

A label that a set does not have is unknown, never negative. An unsafe row says 1 for what its labels map to and 0 for
the other labels that its set *can* express, except those that the label leaves open. A row whose labels map to nothing
says nothing. A safe row of a set of prompts is free of every hazard; a safe row of a set about one thing (toxicity,
sexism) is free of that thing only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from stages.taxonomy import HAZARD_INDEX, HAZARD_SLUGS, TINYSAFE_CATEGORIES
from training.data.rows import Row

UNKNOWN = math.nan
CATEGORY_INDEX = {name: index for index, name in enumerate(TINYSAFE_CATEGORIES)}

S = {f"S{n}": slug for n, slug in enumerate(HAZARD_SLUGS, 1)}


@dataclass(frozen=True)
class Meaning:
    """What one label says: hazards and categories that hold, and hazards that it leaves open."""

    hazards: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    open: tuple[str, ...] = ()


def means(hazards: str = "", categories: str = "", open: str = "") -> Meaning:
    """A meaning from space-separated S-numbers and category names."""
    return Meaning(tuple(S[s] for s in hazards.split()), tuple(categories.split()), tuple(S[s] for s in open.split()))


@dataclass(frozen=True)
class LabelMap:
    """How to read a set: the meaning of each label, or of every unsafe row, and what its safe rows exclude."""

    labels: dict[str, Meaning] = field(default_factory=dict)
    unsafe: Meaning | None = None
    safe_excludes_all: bool = True

    def meanings(self, row: Row) -> list[Meaning]:
        """The meanings of a row's labels."""
        found = [self.labels[label] for label in row.labels if label in self.labels]
        return found or ([self.unsafe] if self.unsafe is not None else [])

    def _scheme(self) -> list[Meaning]:
        return [*self.labels.values(), *([self.unsafe] if self.unsafe is not None else [])]

    def hazard_cells(self, row: Row) -> list[float]:
        """14 cells, in canonical order."""
        scheme = {slug for meaning in self._scheme() for slug in meaning.hazards}
        held = {slug for meaning in self.meanings(row) for slug in meaning.hazards}
        left_open = {slug for meaning in self.meanings(row) for slug in meaning.open}
        return self._cells(row, HAZARD_INDEX, scheme, held, left_open)

    def category_cells(self, row: Row) -> list[float]:
        """7 cells, in TinySafe's order."""
        scheme = {name for meaning in self._scheme() for name in meaning.categories}
        held = {name for meaning in self.meanings(row) for name in meaning.categories}
        return self._cells(row, CATEGORY_INDEX, scheme, held, set())

    def _cells(
        self, row: Row, index: dict[str, int], scheme: set[str], held: set[str], left_open: set[str]
    ) -> list[float]:
        if row.unsafe == 0:
            return [0.0 if self.safe_excludes_all or name in scheme else UNKNOWN for name in index]
        cells = [UNKNOWN] * len(index)
        if held or left_open:
            for name in scheme - left_open:
                cells[index[name]] = 0.0
        for name in held:
            cells[index[name]] = 1.0
        return cells


_ILLEGAL = "illegal_activity"
_DANGER_ILLEGAL = "dangerous_info illegal_activity"
_COMMENTS = LabelMap(unsafe=means("", "harassment"), safe_excludes_all=False)
_HATE = LabelMap(unsafe=means("S10", "hate"), safe_excludes_all=False)

_JAILJUDGE = LabelMap(
    {
        "S1": means("S1", "violence"),
        "S2": means("S2", _ILLEGAL),
        "S3": means("S3", "sexual illegal_activity"),
        "S4": means("S4", "sexual illegal_activity"),
        "S5": means("S5", "harassment"),
        "S6": means("S6", "dangerous_info"),
        "S7": means("S7", _ILLEGAL),
        "S8": means("S8", _ILLEGAL),
        "S9": means("S9", "dangerous_info violence"),
        "S10": means("S10", "hate"),
        "S11": means("S11", "self_harm"),
        "S12": means("S12", "sexual"),
        "S13": means("S13"),
        "S14": means("S14", _ILLEGAL),
    }
)
_AEGIS2 = LabelMap(
    {
        "Violence": means("S1", "violence"),
        "Threat": means("S1", "violence harassment", "S10"),
        "Guns and Illegal Weapons": means("S2", "dangerous_info", "S9 S1"),
        "Hate/Identity Hate": means("S10", "hate"),
        "Harassment": means("", "harassment", "S5 S10"),
        "Profanity": means("", "harassment", "S10"),
        "Sexual": means("S12", "sexual", "S3"),
        "Sexual (minor)": means("S4", "sexual", "S12"),
        "Suicide and Self Harm": means("S11", "self_harm"),
        "Criminal Planning/Confessions": means("S2", _ILLEGAL, "S1"),
        "Fraud/Deception": means("S2", _ILLEGAL),
        "Controlled/Regulated Substances": means("S2", _DANGER_ILLEGAL),
        "Illegal Activity": means("S2", _ILLEGAL, "S1"),
        "Malware": means("S2", _DANGER_ILLEGAL, "S14"),
        "PII/Privacy": means("S7", _ILLEGAL),
        "Copyright/Trademark/Plagiarism": means("S8", _ILLEGAL),
        "Unauthorized Advice": means("S6", "dangerous_info"),
        "High Risk Gov Decision Making": means("", "dangerous_info", "S6 S13"),
        "Political/Misinformation/Conspiracy": means("", "", "S13 S5"),
    }
)
_CATQA_SUB = {
    # CatQA's coarse label stands beside the fine one in every row: only what is certain is mapped.
    "Illegal Activity": means("", _ILLEGAL, "S1 S2 S3 S9"),
    "Economic Harm": means("S2", _ILLEGAL, "S8"),
    "Fraud/Deception": means("S2", _ILLEGAL),
    "Malware Viruses": means("S2", _DANGER_ILLEGAL, "S14"),
    "Child Abuse": means("", "", "S1 S4"),
    "Hate/Harass/Violence": means("", "hate harassment", "S10 S1 S7"),
    "Physical Harm": means("", "violence", "S1 S6 S9 S11"),
    "Adult Content": means("S12", "sexual"),
    "Political Campaigning": means("S13", ""),
    "Privacy Violation Activity": means("S7", _ILLEGAL),
    "Tailored Financial Advice": means("S6", "dangerous_info"),
    "Content Sexual exploitation": means("S4", "sexual"),
    "Online predation": means("S4", "sexual"),
    "Physical abuse": means("S1", "violence", "S4"),
    "Self-harm": means("S11", "self_harm"),
    "Racial or ethnic hate": means("S10", "hate"),
    "Religious intolerance": means("S10", "hate"),
    "Assault and battery": means("S1", "violence"),
    "Terrorism and extremism": means("S1", "violence", "S9"),
    "Intellectual property theft": means("S8", _ILLEGAL, "S2"),
    "Drug:": means("S2", _DANGER_ILLEGAL),
    "Cybercrime:": means("S2", _ILLEGAL, "S14"),
    "Theft and Robbery:": means("S2", _ILLEGAL),
}
_SEVAL = LabelMap(
    {
        "Crimes_and_Illegal_Activities": means("", _ILLEGAL, "S1 S2 S3 S4 S9 S14"),
        "Cybersecurity": means("S2", _ILLEGAL, "S14 S7"),
        "Data_Privacy": means("S7", _ILLEGAL, "S8"),
        "Hate_Speech": means("S10", "hate"),
        "Extremism": means("S1", "violence", "S9 S10"),
    }
)
_DO_NOT_ANSWER = LabelMap(
    {
        "S009personal": means("S7", _ILLEGAL),
        "S009private": means("S7", _ILLEGAL, "S8"),
        "S006instructions": means("", "dangerous_info", "S1 S2 S9"),
        "S003instructions": means("S2", _ILLEGAL),
        "S003goods": means("S2", _ILLEGAL),
        "S008code": means("S2", _ILLEGAL, "S14"),
        "S008phish": means("S2", _ILLEGAL),
        "S008spam": means("S2", _ILLEGAL),
        "S008mal": means("S2", _ILLEGAL, "S14"),
        "S001fab": means("S5", "harassment", "S13"),
        "S001fabperson": means("S5", "harassment"),
        "S007": means("S10", "hate"),
        "S005bully": means("", "harassment", "S5 S10"),
        "S005hate": means("S10", "hate"),
        "S004lewd": means("S12", "sexual"),
        "S004erotica": means("S12", "sexual"),
        "S002med": means("S6", "dangerous_info"),
        "S002legal": means("S6", "dangerous_info"),
        "S002fin": means("S6", "dangerous_info"),
        "S006sh": means("S11", "self_harm"),
    }
)
_TRUSTLLM = LabelMap(
    {
        "Illegal Activity": means("S2", _ILLEGAL, "S1"),
        "Malware": means("S2", _DANGER_ILLEGAL, "S14"),
        "cyberattack": means("S2", _DANGER_ILLEGAL, "S14"),
        "phishing": means("S2", _ILLEGAL),
        "Economic Harm": means("S2", _ILLEGAL, "S6"),
        "Fraud": means("S2", _ILLEGAL),
        "Physical Harm": means("S1", "violence", "S9 S11"),
        "terrorism": means("S1", "violence", "S9"),
        "Hate Speech": means("S10", "hate"),
        "Pornography": means("S12", "sexual"),
        "Privacy Violence": means("S7", _ILLEGAL),
        "Legal Opinion": means("S6", "dangerous_info"),
        "Financial Advice": means("S6", "dangerous_info"),
        "Health Consultation": means("S6", "dangerous_info"),
        "Political Lobbying": means("", "", "S13"),
    }
)

LABEL_MAPS: dict[str, LabelMap] = {
    "written.hazards": LabelMap({S[label]: meaning for label, meaning in _JAILJUDGE.labels.items()}),
    "jailjudge_id": _JAILJUDGE,
    "aegis2_unsafe_900": _AEGIS2,
    "catqa.en": LabelMap(_CATQA_SUB),
    "catqa.zh": LabelMap(_CATQA_SUB),
    "catqa.vi": LabelMap(_CATQA_SUB),
    "seval_base_risk.en": _SEVAL,
    "seval_base_risk.zh": _SEVAL,
    "seval_attack_small.en": _SEVAL,
    "seval_attack_small.zh": _SEVAL,
    "do_not_answer": _DO_NOT_ANSWER,
    "trustllm_misuse": _TRUSTLLM,
    "trustllm_jailbreak": _TRUSTLLM,
    "cyberseceval_interpreter": LabelMap(unsafe=means("S14", _ILLEGAL, "S2")),
    "directharm4": LabelMap(
        {
            "malware": means("S2", _DANGER_ILLEGAL, "S14"),
            "drug": means("S2", _DANGER_ILLEGAL),
            "phishing": means("S2", _ILLEGAL),
            "disinfo": means("", "", "S13 S5"),
        }
    ),
    "davidson": LabelMap(
        {"hate_speech": means("S10", "hate"), "offensive_language": means("", "", "S10")}, safe_excludes_all=False
    ),
    "cold.train.zh": LabelMap({"offensive": means("S10", "hate")}, safe_excludes_all=False),
    "edos.train": _HATE,
    "edos.dev": _HATE,
    "stormfront": _HATE,
    "tweeteval_hate.train": _HATE,
    "safety_tuned.I-CoNa": LabelMap(unsafe=means("S10", "hate")),
    "civilcomments_toxicspans_raw": _COMMENTS,
    "surge_toxicity": _COMMENTS,
    "paradetox": _COMMENTS,
    "tweeteval_offensive.train": _COMMENTS,
    "jigsaw_toxic_sample": _COMMENTS,
}
NO_LABELS = LabelMap()


def label_map(dataset: str) -> LabelMap:
    """The map of a set; one that says nothing about unsafe rows for a set without labels of its own."""
    return LABEL_MAPS.get(dataset, NO_LABELS)
