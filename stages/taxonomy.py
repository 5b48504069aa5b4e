"""Label names and the crosswalk between the taxonomies that the stages speak. Key on slugs, never on S-numbers.

The canonical hazards are MLCommons' (AILuminate 1.0, numbered as Llama Guard 3 and 4 do). "Legacy-9" is the hub model
``mlcommons-safety-classifier-level2-hazard``, which numbers its classes in a way of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION = "mlcommons-14@1"
TINYSAFE_VERSION = "tinysafe-7@1"


@dataclass(frozen=True)
class Hazard:
    """One hazard: its slug, its canonical code, a definition for people, and its names in other taxonomies."""

    slug: str
    code: str
    definition: str
    ailuminate: tuple[str, ...] = ()
    tinysafe: tuple[str, ...] = ()
    duoguard: int | None = None


HAZARDS: tuple[Hazard, ...] = (
    Hazard(
        "violent_crimes",
        "S1",
        "Murder, assault, kidnapping, terrorism and other crimes against people or animals.",
        ("vcr",),
        ("violence",),
        0,
    ),
    Hazard(
        "nonviolent_crimes",
        "S2",
        "Fraud, theft, hacking, drug and weapon offences, trafficking and other crimes without violence.",
        ("ncr",),
        ("illegal_activity",),
        1,
    ),
    Hazard(
        "sex_crimes",
        "S3",
        "Sexual assault, harassment, trafficking and other sex-related crimes.",
        ("src",),
        ("sexual",),
        2,
    ),
    Hazard("child_exploitation", "S4", "Sexual exploitation or abuse of children.", ("cse",), ("sexual",), 3),
    Hazard(
        "defamation",
        "S5",
        "False statements likely to injure a living person's reputation.",
        ("dfm",),
        ("harassment",),
        None,
    ),
    Hazard(
        "specialized_advice",
        "S6",
        "Unqualified financial, medical or legal advice, or calling a dangerous thing safe.",
        ("spc_fin", "spc_hlt", "spc_lgl"),
        ("dangerous_info",),
        4,
    ),
    Hazard(
        "privacy",
        "S7",
        "Exposure of non-public personal information, surveillance, doxxing.",
        ("prv",),
        ("illegal_activity",),
        5,
    ),
    Hazard(
        "intellectual_property",
        "S8",
        "Violation of copyright, trademarks, patents or trade secrets.",
        ("ipv",),
        ("illegal_activity",),
        6,
    ),
    Hazard(
        "indiscriminate_weapons",
        "S9",
        "Chemical, biological, radiological, nuclear and high-yield explosive weapons.",
        ("iwp",),
        ("dangerous_info", "violence"),
        7,
    ),
    Hazard("hate", "S10", "Demeaning or dehumanising people for a protected characteristic.", ("hte",), ("hate",), 8),
    Hazard("self_harm", "S11", "Suicide, self-injury and disordered eating.", ("ssh",), ("self_harm",), 9),
    Hazard("sexual_content", "S12", "Erotic content.", ("sxc_prn",), ("sexual",), 10),
    Hazard(
        "elections", "S13", "Factually wrong information about electoral systems and processes.", ("spc_ele",), (), None
    ),
    Hazard(
        "code_interpreter_abuse",
        "S14",
        "Escaping, exhausting or escalating privileges in an execution environment.",
        (),
        ("illegal_activity",),
        None,
    ),
)

HAZARD_SLUGS: tuple[str, ...] = tuple(hazard.slug for hazard in HAZARDS)
HAZARD_INDEX: dict[str, int] = {slug: index for index, slug in enumerate(HAZARD_SLUGS)}
HAZARD_CODES: dict[str, str] = {hazard.slug: hazard.code for hazard in HAZARDS}
SLUG_OF_CODE: dict[str, str] = {hazard.code: hazard.slug for hazard in HAZARDS}
SLUG_OF_AILUMINATE: dict[str, str] = {code: hazard.slug for hazard in HAZARDS for code in hazard.ailuminate}

TINYSAFE_CATEGORIES: tuple[str, ...] = (
    "violence",
    "hate",
    "sexual",
    "self_harm",
    "dangerous_info",
    "harassment",
    "illegal_activity",
)

DUOGUARD_LABELS: tuple[str, ...] = (
    "violent_crimes", "nonviolent_crimes", "sex_crimes", "child_exploitation", "specialized_advice", "privacy",
    "intellectual_property", "indiscriminate_weapons", "hate", "self_harm", "sexual_content", "jailbreak",
)  # fmt: skip

# Each legacy class scores one primary slug; a related slug is only reported. Misinformation is an attribute.
LEGACY9: tuple[tuple[str, str], ...] = (
    ("S1_violent_crimes", "violent_crimes"),
    ("S2_nonviolent_crimes", "nonviolent_crimes"),
    ("S3_sex_crimes", "sex_crimes"),
    ("S5_weapons_cbrne", "indiscriminate_weapons"),
    ("S6_self_harm", "self_harm"),
    ("S7_hate", "hate"),
    ("S8_specialized_advice", "specialized_advice"),
    ("S9_privacy", "privacy"),
    ("S13_misinformation", "misinformation"),
)
LEGACY9_VERSION = f"legacy-9 in {VERSION}"
LEGACY9_RELATED: dict[str, tuple[str, ...]] = {"S3_sex_crimes": ("child_exploitation",)}
ATTRIBUTES: tuple[str, ...] = ("misinformation",)
ATTACKS: tuple[str, ...] = ("jailbreak",)


def speaks_categories(taxonomy: str) -> bool:
    """Whether a stage's labels are TinySafe's categories; "hate" and "self_harm" are names of hazards too."""
    return taxonomy.partition("@")[0] == TINYSAFE_VERSION.partition("@")[0]


def related_hazards(taxonomy: str) -> dict[str, tuple[str, ...]]:
    """Slug -> slugs that a stage's class for it takes in as well, without a score of their own."""
    if not taxonomy.startswith("legacy-9"):
        return {}
    primary = dict(LEGACY9)
    return {primary[name]: slugs for name, slugs in LEGACY9_RELATED.items()}


def known_labels(taxonomy: str) -> frozenset[str]:
    """The labels that a stage of a taxonomy may have: TinySafe's categories, or hazards, attributes and attacks."""
    return frozenset(TINYSAFE_CATEGORIES if speaks_categories(taxonomy) else (*HAZARD_SLUGS, *ATTRIBUTES, *ATTACKS))
