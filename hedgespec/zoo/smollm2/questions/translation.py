"""Ask for translations between English, German, French and Spanish, of sentences that a small grammar makes."""

from __future__ import annotations

from random import Random

from hedgespec.zoo.smollm2.questions.lexicon import ACTIONS, CLAUSES, ENDS, LANGUAGES, NOUNS, QUESTIONS, SUBJECTS

_FORMS = (
    "Translate {a} to {b}: {text}", "Translate this sentence from {a} to {b}: {text}", "Translate to {b}: {text}",
    "{text}\n\nTranslate this into {b}.",
    "How do you say this in {b}? \"{text}\"", "Please translate the following {a} text into {b}.\n\n{text}",
    "What does this {a} text mean in {b}? {text}",
    "{a}: {text}\n{b}:", "Give me the {b} translation of: {text}", "Write this in {b}: {text}",
    "Translate from {a} into {b}:\n{text}",
)  # fmt: skip
_LIST_FORMS = (
    "Translate this list of {a} phrases to {b}:\n{text}", "Give the {b} for each of these {a} phrases:\n{text}",
    "Make a table of {a} and {b} for these phrases:\n{text}",
)  # fmt: skip
_OTHER_FORMS = (
    "Translate into German, French and Spanish: {text}",
    "Translate word by word from {a} to {b} and explain the grammar: {text}",
    "Correct the {a} of this text, then translate it to {b}: {text}",
    "Which language is this, and what does it mean in English? {text}",
)  # fmt: skip


def draw(rng: Random, split: str) -> str:
    """Make one message; English is one of the two languages in nine of ten. The split plays no part."""
    other = rng.choice((1, 2, 3))
    source, target = rng.choice(((0, other), (other, 0)))
    if rng.random() < 0.1:
        source, target = rng.sample((1, 2, 3), 2)
    roll = rng.random()
    if roll < 0.12:
        rows = rng.sample((*QUESTIONS, *NOUNS), rng.randint(3, 6))
        form, text = rng.choice(_LIST_FORMS), "\n".join(f"- {row[source]}" for row in rows)
    else:
        form = rng.choice(_FORMS if roll < 0.9 else _OTHER_FORMS)
        text = " ".join(_sentence(rng, source) for _ in range(rng.choice((1, 1, 2, 2, 3, 4))))
    if "Which language" in form or "into German, French" in form:
        source = 0 if "into German" in form else source
    return form.format(a=LANGUAGES[source], b=LANGUAGES[target], text=text)


def _sentence(rng: Random, language: int) -> str:
    """Write one sentence: subject, action and circumstance, two actions joined, or a fixed one."""
    roll = rng.random()
    if roll < 0.25:
        return rng.choice(CLAUSES)[language]
    if roll < 0.35:
        return rng.choice(QUESTIONS)[language]
    subject, (first, second), end = rng.choice(SUBJECTS), rng.sample(ACTIONS, 2), rng.choice(ENDS)
    joined = ("and", "und", "et", "y")[language]
    action = first[language] if roll < 0.75 else f"{first[language]} {joined} {second[language]}"
    if language == 1 and roll < 0.75:  # German puts the circumstance after the verb
        verb, rest = first[1].split(" ", 1)
        return f"{subject[1]} {verb} {end[1]} {rest}."
    return f"{subject[language]} {action} {end[language]}."
