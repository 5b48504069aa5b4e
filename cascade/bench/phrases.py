"""Harmless English to hide a text in, and everyday words in other languages to mix into it."""

from __future__ import annotations

from itertools import cycle, islice

SENTENCES = (
    "The library opens at nine and closes when the last reader has gone home.",
    "She planted beans along the fence and tied them up with string.",
    "Our train was late, so we shared an orange on the platform.",
    "Bread needs flour, water, salt and a little patience.",
    "The map on the wall shows every lake within a day's walk.",
    "He learned the piano from his aunt, who had learned it from hers.",
    "In the afternoon the market is quiet and the cheese is cheaper.",
    "They repaired the roof before the rain came, and were glad of it.",
    "A good pair of boots lasts ten winters if you grease them.",
    "The children counted forty swallows on a single wire.",
    "Please return the ladder to the shed when you have finished.",
    "On clear nights you can see the lighthouse from the hill.",
)

# English -> Spanish, German, French: the words that hold a request together, so that its nouns stay.
CODE_SWITCHED = {
    "how": "cómo", "what": "was", "where": "où", "when": "cuándo", "who": "wer", "why": "pourquoi", "which": "cuál",
    "i": "ich", "you": "tú", "my": "mon", "your": "dein", "we": "nosotros", "they": "sie", "he": "il", "she": "ella",
    "the": "der", "a": "une", "an": "un", "and": "und", "or": "o", "but": "mais", "not": "nicht", "no": "nein",
    "to": "para", "of": "de", "in": "en", "on": "auf", "with": "mit", "without": "sans", "for": "para", "from": "von",
    "by": "par", "at": "bei", "about": "sobre", "into": "dans", "is": "es", "are": "sind", "be": "sein", "do": "faire",
    "can": "puedo", "could": "könnte", "would": "würde", "want": "quiero", "need": "brauche", "make": "fabriquer",
    "get": "obtener", "use": "benutzen", "give": "dame", "tell": "dis", "write": "schreibe", "explain": "explica",
    "buy": "acheter", "find": "finden", "people": "gente", "someone": "jemand", "person": "personne", "good": "bueno",
    "best": "mejor", "way": "manière", "steps": "Schritte", "home": "casa", "money": "Geld", "help": "ayuda",
}  # fmt: skip


def filler(words: int) -> str:
    """Harmless text of exactly so many words."""
    return " ".join(islice((word for sentence in cycle(SENTENCES) for word in sentence.split()), words))
