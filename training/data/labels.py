"""What each set's own labels mean, set by set; :mod:`training.data.meaning` says how they are read.

Here are the sets of the project's own collection; those that ``cascade data import`` makes are in
:mod:`training.data.imported_labels`.
"""

from __future__ import annotations

from stages.taxonomy import SLUG_OF_CODE
from training.data.imported_labels import AEGIS2, DANGER_ILLEGAL, ILLEGAL, IMPORTED_MAPS, MLCOMMONS
from training.data.meaning import CATEGORY_INDEX, UNKNOWN, LabelMap, Meaning, means

__all__ = ["CATEGORY_INDEX", "LABEL_MAPS", "NO_LABELS", "UNKNOWN", "LabelMap", "Meaning", "label_map", "means"]

_COMMENTS = LabelMap(unsafe=means("", "harassment"), safe_excludes_all=False)
_HATE = LabelMap(unsafe=means("S10", "hate"), safe_excludes_all=False)

_CATQA_SUB = {
    # CatQA's coarse label stands beside the fine one in every row: only what is certain is mapped.
    "Illegal Activity": means("", ILLEGAL, "S1 S2 S3 S9"),
    "Economic Harm": means("S2", ILLEGAL, "S8"),
    "Fraud/Deception": means("S2", ILLEGAL),
    "Malware Viruses": means("S2", DANGER_ILLEGAL, "S14"),
    "Child Abuse": means("", "", "S1 S4"),
    "Hate/Harass/Violence": means("", "hate harassment", "S10 S1 S7"),
    "Physical Harm": means("", "violence", "S1 S6 S9 S11"),
    "Adult Content": means("S12", "sexual"),
    "Political Campaigning": means("S13", ""),
    "Privacy Violation Activity": means("S7", ILLEGAL),
    "Tailored Financial Advice": means("S6", "dangerous_info"),
    "Content Sexual exploitation": means("S4", "sexual"),
    "Online predation": means("S4", "sexual"),
    "Physical abuse": means("S1", "violence", "S4"),
    "Self-harm": means("S11", "self_harm"),
    "Racial or ethnic hate": means("S10", "hate"),
    "Religious intolerance": means("S10", "hate"),
    "Assault and battery": means("S1", "violence"),
    "Terrorism and extremism": means("S1", "violence", "S9"),
    "Intellectual property theft": means("S8", ILLEGAL, "S2"),
    "Drug:": means("S2", DANGER_ILLEGAL),
    "Cybercrime:": means("S2", ILLEGAL, "S14"),
    "Theft and Robbery:": means("S2", ILLEGAL),
}
_SEVAL = LabelMap(
    {
        "Crimes_and_Illegal_Activities": means("", ILLEGAL, "S1 S2 S3 S4 S9 S14"),
        "Cybersecurity": means("S2", ILLEGAL, "S14 S7"),
        "Data_Privacy": means("S7", ILLEGAL, "S8"),
        "Hate_Speech": means("S10", "hate"),
        "Extremism": means("S1", "violence", "S9 S10"),
    }
)
_DO_NOT_ANSWER = LabelMap(
    {
        "S009personal": means("S7", ILLEGAL),
        "S009private": means("S7", ILLEGAL, "S8"),
        "S006instructions": means("", "dangerous_info", "S1 S2 S9"),
        "S003instructions": means("S2", ILLEGAL),
        "S003goods": means("S2", ILLEGAL),
        "S008code": means("S2", ILLEGAL, "S14"),
        "S008phish": means("S2", ILLEGAL),
        "S008spam": means("S2", ILLEGAL),
        "S008mal": means("S2", ILLEGAL, "S14"),
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
        "Illegal Activity": means("S2", ILLEGAL, "S1"),
        "Malware": means("S2", DANGER_ILLEGAL, "S14"),
        "cyberattack": means("S2", DANGER_ILLEGAL, "S14"),
        "phishing": means("S2", ILLEGAL),
        "Economic Harm": means("S2", ILLEGAL, "S6"),
        "Fraud": means("S2", ILLEGAL),
        "Physical Harm": means("S1", "violence", "S9 S11"),
        "terrorism": means("S1", "violence", "S9"),
        "Hate Speech": means("S10", "hate"),
        "Pornography": means("S12", "sexual"),
        "Privacy Violence": means("S7", ILLEGAL),
        "Legal Opinion": means("S6", "dangerous_info"),
        "Financial Advice": means("S6", "dangerous_info"),
        "Health Consultation": means("S6", "dangerous_info"),
        "Political Lobbying": means("", "", "S13"),
    }
)

_WRITTEN = LabelMap({SLUG_OF_CODE[label]: meaning for label, meaning in MLCOMMONS.labels.items()})

LABEL_MAPS: dict[str, LabelMap] = {
    **IMPORTED_MAPS,
    "written.hazards": _WRITTEN,
    "written.languages": _WRITTEN,
    "written.exchanges": _WRITTEN,
    "jailjudge_id": MLCOMMONS,
    "aegis2_unsafe_900": AEGIS2,
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
    "cyberseceval_interpreter": LabelMap(unsafe=means("S14", ILLEGAL, "S2")),
    "directharm4": LabelMap(
        {
            "malware": means("S2", DANGER_ILLEGAL, "S14"),
            "drug": means("S2", DANGER_ILLEGAL),
            "phishing": means("S2", ILLEGAL),
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
    """The map of a set; one that says nothing about unsafe rows for a set without labels of its own.

    An imported set goes by the source that its name begins with: ``wildguardmix.train`` is a ``wildguardmix``.
    """
    return LABEL_MAPS.get(dataset) or IMPORTED_MAPS.get(dataset.partition(".")[0], NO_LABELS)
