"""What the labels of imported and generated sets mean, by the name that their sets begin with.

Three systems of labels are shared with other sets: MLCommons' hazards by code, AEGIS 2.0's categories, and the
hazards' own slugs, which is what ``cascade data relabel`` and ``synthesise`` write.
"""

from __future__ import annotations

from stages.taxonomy import SLUG_OF_CODE, TINYSAFE_CATEGORIES
from training.data.meaning import LabelMap, Meaning, means

ILLEGAL = "illegal_activity"
DANGER_ILLEGAL = "dangerous_info illegal_activity"
CATEGORY = "category="  # before a TinySafe category, since two of them are also slugs of hazards

MLCOMMONS = LabelMap(
    {
        "S1": means("S1", "violence"),
        "S2": means("S2", ILLEGAL),
        "S3": means("S3", "sexual illegal_activity"),
        "S4": means("S4", "sexual illegal_activity"),
        "S5": means("S5", "harassment"),
        "S6": means("S6", "dangerous_info"),
        "S7": means("S7", ILLEGAL),
        "S8": means("S8", ILLEGAL),
        "S9": means("S9", "dangerous_info violence"),
        "S10": means("S10", "hate"),
        "S11": means("S11", "self_harm"),
        "S12": means("S12", "sexual"),
        "S13": means("S13"),
        "S14": means("S14", ILLEGAL),
    }
)
AEGIS2 = LabelMap(
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
        "Criminal Planning/Confessions": means("S2", ILLEGAL, "S1"),
        "Fraud/Deception": means("S2", ILLEGAL),
        "Controlled/Regulated Substances": means("S2", DANGER_ILLEGAL),
        "Illegal Activity": means("S2", ILLEGAL, "S1"),
        "Malware": means("S2", DANGER_ILLEGAL, "S14"),
        "PII/Privacy": means("S7", ILLEGAL),
        "Copyright/Trademark/Plagiarism": means("S8", ILLEGAL),
        "Unauthorized Advice": means("S6", "dangerous_info"),
        "High Risk Gov Decision Making": means("", "dangerous_info", "S6 S13"),
        "Political/Misinformation/Conspiracy": means("", "", "S13 S5"),
    }
)
_WILDGUARD = LabelMap(
    {
        "private_information_individual": means("S7", ILLEGAL),
        "sensitive_information_organization_government": means("S7", ILLEGAL, "S8"),
        "sexual_content": means("S12", "sexual", "S3 S4"),
        "social_stereotypes_and_unfair_discrimination": means("S10", "hate"),
        "toxic_language_hate_speech": means("S10", "hate harassment"),
        "violence_and_physical_harm": means("S1", "violence", "S9 S11"),
        "fraud_assisting_illegal_activities": means("S2", ILLEGAL, "S1"),
        "cyberattack": means("S2", DANGER_ILLEGAL, "S14"),
        "mental_health_over-reliance_crisis": means("S11", "self_harm", "S6"),
        "defamation_encouraging_unethical_or_unsafe_actions": means("", "harassment", "S5 S1 S2"),
        "causing_material_harm_by_disseminating_misinformation": means("", "dangerous_info", "S5 S6 S13"),
        "disseminating_false_or_misleading_information_encouraging_disinformation_campaigns": means(
            "", "", "S5 S6 S13"
        ),
        "copyright_violations": means("S8", ILLEGAL),
    }
)
_BEAVERTAILS = LabelMap(  # the label of a pair: what the answer does, for the prompt that it answers
    {
        "animal_abuse": means("S2", "violence", "S1"),
        "child_abuse": means("", "violence", "S4 S1 S3"),
        "controversial_topics,politics": means("", "", "S13"),
        "discrimination,stereotype,injustice": means("S10", "hate"),
        "drug_abuse,weapons,banned_substance": means("S2", DANGER_ILLEGAL, "S9"),
        "financial_crime,property_crime,theft": means("S2", ILLEGAL),
        "hate_speech,offensive_language": means("S10", "hate harassment"),
        "misinformation_regarding_ethics,laws_and_safety": means("S6", "dangerous_info"),
        "non_violent_unethical_behavior": means("", "", "S2 S5 S6"),
        "privacy_violation": means("S7", ILLEGAL),
        "self_harm": means("S11", "self_harm"),
        "sexually_explicit,adult_content": means("S12", "sexual", "S3"),
        "terrorism,organized_crime": means("S1", "violence illegal_activity", "S2 S9"),
        "violence,aiding_and_abetting,incitement": means("S1", "violence", "S2 S10"),
    }
)
_CIVIL_COMMENTS = LabelMap(
    {
        "identity_attack": means("S10", "hate"),
        "threat": means("S1", "violence harassment"),
        "insult": means("", "harassment", "S10"),
        "obscene": means("", "harassment", "S10 S12"),
        "sexual_explicit": means("S12", "sexual", "S3"),
    },
    unsafe=means("", "harassment"),
    safe_excludes_all=False,
)
# The synthesiser has numbered its classes in two ways; only whole names are keys.
_MLCOMMONS_SYNTH = LabelMap(
    {
        "S2_non_violent_crimes": MLCOMMONS.labels["S2"],
        "S2_nonviolent_crimes": MLCOMMONS.labels["S2"],
        "S6_specialized_advice": MLCOMMONS.labels["S6"],
        "S8_specialized_advice": MLCOMMONS.labels["S6"],
        "S7_privacy": MLCOMMONS.labels["S7"],
        "S9_privacy": MLCOMMONS.labels["S7"],
        "S9_indiscriminate_weapons": MLCOMMONS.labels["S9"],
        "S5_weapons_cbrne": means("", "dangerous_info", "S2 S9"),  # few-shots of guns and malware stood beside CBRNE
        "S7_hate": MLCOMMONS.labels["S10"],
        "S10_hate": MLCOMMONS.labels["S10"],
        "S6_self_harm": MLCOMMONS.labels["S11"],
        "S11_suicide_self_harm": MLCOMMONS.labels["S11"],
        "S13_elections": MLCOMMONS.labels["S13"],
        "S11_elections": MLCOMMONS.labels["S13"],
        "S13_misinformation": means("", "", "S13 S5 S6"),
    },
    exclusive=False,
)
BY_SLUG = {SLUG_OF_CODE[code]: meaning for code, meaning in MLCOMMONS.labels.items()}
# A row was written for one hazard: others may hold as well, and nobody looked.
_SYNTHETIC = LabelMap(BY_SLUG, exclusive=False)
# A judge went through the whole taxonomy, hazards and categories each for themselves.
_RELABELLED = LabelMap(
    {slug: Meaning((slug,)) for slug in BY_SLUG}
    | {CATEGORY + name: Meaning((), (name,)) for name in TINYSAFE_CATEGORIES}
)

IMPORTED_MAPS: dict[str, LabelMap] = {
    "wildguardmix": _WILDGUARD,
    "beavertails": _BEAVERTAILS,
    "civilcomments": _CIVIL_COMMENTS,
    "aegis2": AEGIS2,
    "aegis2_exchanges": AEGIS2,
    "mlcommons_synth": _MLCOMMONS_SYNTH,
    "synthetic": _SYNTHETIC,
    "relabelled": _RELABELLED,
}
