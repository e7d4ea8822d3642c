"""Ask about a given text: summaries, key points, titles and questions over generated news and Python's documentation."""

from __future__ import annotations

from functools import cache
from random import Random

from hedgespec.zoo.corpus import documents
from hedgespec.zoo.smollm2.questions.news import KINDS, passage

_TASKS = (
    "Summarize the following text:\n\n{text}", "Summarize this article in two sentences.\n\n{text}",
    "{text}\n\nList the key points of the text above.",
    "Give me a short summary of this: {text}", "{text}\n\nTL;DR:", "What is this text about?\n\n{text}",
    "Write a headline for this text:\n\n{text}",
    "Extract the most important facts as bullet points:\n\n{text}", "Rewrite this text in simpler words:\n\n{text}",
    "Write three questions that this text answers, with the answers:\n\n{text}",
    "Summarize the text below for a busy reader.\n\nText: {text}",
    "{text}\n\nWhich names and numbers are mentioned in the text?", "Shorten this text to one paragraph:\n\n{text}",
    "Explain this text to a child:\n\n{text}",
)  # fmt: skip
_ASKS = (
    "Answer the question using the context.\n\nContext: {text}\n\nQuestion: {ask}",
    "{text}\n\nBased on the text above: {ask}",
    "Read this passage and answer the question.\n\n{text}\n\n{ask}",
    "Use only the following text to answer. {text}\n\nQuestion: {ask}\nAnswer:",
    "I found this text:\n\n\"{text}\"\n\n{ask}",
)  # fmt: skip
_QUESTIONS: dict[str, tuple[str, ...]] = {
    "project": ("How much does the project cost?", "What do people worry about?", "Which town is it about?",
        "When will the works start or end?", "What are the expected benefits?"),
    "company": ("What does the company make?", "How many people work there?", "What is the name of the company?",
        "What are its plans?", "How did business go?"),
    "study": ("How many people took part?", "What did the researchers find?", "What did the groups do differently?",
        "What are the limits of the study?", "Who led the study?"),
    "animal": ("What does the animal eat?", "What threatens the animal?", "Where does it live?",
        "How is it protected?", "How many are left?"),
    "building": ("Who built it, and when?", "What is the building made of?", "What is it used for today?",
        "What happened to it?", "How high is it?"),
    "sport": ("Who is named in the text, and why?", "Which sport is it about?", "What was achieved?",
        "How many people watched or support the club?"),
    "weather": ("What happened, and where?", "How large is the damage?", "Was anybody hurt?",
        "What were people asked to do?", "Who is helping?"),
}  # fmt: skip
_GENERAL = (
    "Who is quoted, and what do they say?",
    "What is the main point of the text?",
    "Which numbers are mentioned?",
    "What happens next?",
    "Which places are mentioned?",
)
_MANUAL = (
    "What is this text about?",
    "What is the most important rule in this text?",
    "What should a beginner remember?",
    "When does this matter?",
    "Give an example of this.",
)


def draw(rng: Random, split: str) -> str:
    """Make one message; a quarter of them are about Python's documentation, of the split's texts."""
    asks: tuple[str, ...]
    if rng.random() < 0.25 and (found := _manuals(split)):
        text, asks = rng.choice(found), _MANUAL
    else:
        kind = rng.choice(KINDS)
        text, asks = passage(rng, kind), (*_QUESTIONS[kind], *_QUESTIONS[kind], *_GENERAL)
    if rng.random() < 0.5:
        return rng.choice(_TASKS).replace("{text}", text)
    return rng.choice(_ASKS).replace("{ask}", rng.choice(asks)).replace("{text}", text)


@cache
def _manuals(split: str) -> list[str]:
    """Cut passages of 90 to 200 words, made of whole paragraphs, out of Python's topics and docstrings."""
    found: list[str] = []
    for document in documents(
        "prose", "train" if split == "train" else "test", seed=0, max_bytes=300_000 if split == "train" else 40_000
    ):
        kept: list[str] = []
        for paragraph in document.text.split("\n\n"):
            if paragraph.startswith((" ", "#", "*", "=", "-", "|")) or not paragraph.rstrip().endswith("."):
                continue
            kept.append(" ".join(paragraph.split()))
            size = sum(len(p.split()) for p in kept)
            if size >= 90:
                if size <= 200:
                    found.append("\n\n".join(kept))
                kept = []
    return found
