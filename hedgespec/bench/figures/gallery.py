"""Draw what `hedgespec bench policies` and `hedgespec simulate study` have measured, from their JSON files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hedgespec.bench.figures.picture import Picture
from hedgespec.bench.figures.policy_pictures import accepted_tokens, rewrite
from hedgespec.bench.figures.question_pictures import question_weights, questions
from hedgespec.bench.figures.source import Source
from hedgespec.bench.figures.study_pictures import OF_STUDIES
from hedgespec.errors import ConfigError


def draw_figures(
    policies: Path | None, rewritten: Path | None, studies: Path | None, out: Path, on_questions: Path | None = None
) -> list[Path]:
    """Write the pictures, each with its numbers, into the folder `out`, and return the files.

    policies, rewritten: JSON of `bench policies` and of `bench policies --rewrite`. studies: JSON of `simulate study`.
    on_questions: JSON of `simulate questions` or of `bench policies --prompts`.
    Raises ConfigError when there is nothing to draw, when a file is not what it should be, and without matplotlib.
    """
    if policies is None and studies is None and on_questions is None:
        raise ConfigError(
            "Nothing to draw: give --policies, --studies or --questions; --rewrite is drawn against --policies."
        )
    # all are built before any is written: a broken file leaves the old pictures as they were
    pictures = [*_of_policies(policies, rewritten), *_of_studies(studies), *_of_questions(on_questions)]
    return [path for picture, source in pictures for path in picture.write(out, source)]


def _of_policies(policies: Path | None, rewritten: Path | None) -> Iterator[tuple[Picture, Source]]:
    if policies is None:
        if rewritten is not None:
            raise ConfigError(f"{rewritten} is drawn against usual prompts: give --policies as well.")
        return
    usual = Source.read(policies)
    yield accepted_tokens(usual), usual
    if rewritten is not None:
        other = Source.read(rewritten)
        yield rewrite(usual, other), other


def _of_studies(studies: Path | None) -> Iterator[tuple[Picture, Source]]:
    if studies is None:
        return
    source = Source.read(studies)
    found = [name for name in OF_STUDIES if source.has("report", name)]
    if not found:
        raise ConfigError(f"{studies} has none of the studies {list(OF_STUDIES)}; run `hedgespec simulate study all`.")
    for name in found:
        yield OF_STUDIES[name](source), source


def _of_questions(report: Path | None) -> Iterator[tuple[Picture, Source]]:
    if report is None:
        return
    source = Source.read(report)
    yield questions(source), source
    if source.has("report", "weights"):
        yield question_weights(source), source
