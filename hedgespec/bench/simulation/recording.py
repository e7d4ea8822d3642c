"""The recording of answers: with which probability every drafter's draft is accepted at every verified token.

Given the text, a round of drafter i that starts at t accepts its j-th token with probability a[i, t + j - 1, j - 1],
independently of everything else (design 5). A recording is therefore all that a replay of the same text needs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Recording:
    """Answers of one length, scored by every drafter.

    drafter_ids:     [num_drafters]
    domains, temperatures: [num_answers]
    acceptance:      [num_answers, num_drafters, num_tokens, max_draft_tokens] float32 by position and depth (`Scores`)
    acceptance_prob: the same shape, sum_x min(p(x), q(x))
    prompt_overlap:  [num_answers, num_drafters, num_prompt_scores], depth-1 sum_x min(p, q) on the last prompt tokens, the
                     last one last; NaN where there is no score
    token_ids:       [num_answers, num_tokens]; target_probs: the target's probability of each, the same shape
    """

    drafter_ids: NDArray[np.str_]
    domains: NDArray[np.str_]
    temperatures: NDArray[np.float64]
    acceptance: NDArray[np.float32]
    acceptance_prob: NDArray[np.float32]
    prompt_overlap: NDArray[np.float32]
    token_ids: NDArray[np.int32]
    target_probs: NDArray[np.float32]

    @property
    def num_answers(self) -> int:
        return len(self.domains)

    @property
    def num_drafters(self) -> int:
        return int(self.acceptance.shape[1])

    @property
    def num_tokens(self) -> int:
        return int(self.acceptance.shape[2])

    @property
    def max_draft_tokens(self) -> int:
        return int(self.acceptance.shape[3])

    @property
    def domain_names(self) -> list[str]:
        """The domains, in order of appearance."""
        return list(dict.fromkeys(self.domains.tolist()))

    def take(self, answers: Ints | NDArray[np.bool_]) -> Recording:
        """Return a recording of some answers: indices, or a mask [num_answers]."""
        own = {f.name: getattr(self, f.name)[answers] for f in fields(self) if f.name != "drafter_ids"}
        return Recording(drafter_ids=self.drafter_ids, **own)

    def with_drafters(
        self, drafter_ids: NDArray[np.str_], acceptance: NDArray[np.float32], acceptance_prob: NDArray[np.float32]
    ) -> Recording:
        """Return the same texts with other drafters; these have no prompt scores."""
        overlap = np.full((self.num_answers, len(drafter_ids), self.prompt_overlap.shape[2]), np.nan, np.float32)
        scored = replace(self, drafter_ids=drafter_ids, acceptance=acceptance, acceptance_prob=acceptance_prob)
        return replace(scored, prompt_overlap=overlap)

    def spliced(self, owners: Ints, domains: NDArray[np.str_]) -> Recording:
        """Return answers whose tokens come from several answers, each at the position where it was scored.

        owners: [num_new_answers, num_tokens], the answer of each position; domains: [num_new_answers]
        """
        positions = np.arange(self.num_tokens)
        return Recording(
            drafter_ids=self.drafter_ids,
            domains=domains,
            temperatures=self.temperatures[owners[:, 0]],
            acceptance=self.acceptance[owners, :, positions].swapaxes(1, 2),
            acceptance_prob=self.acceptance_prob[owners, :, positions].swapaxes(1, 2),
            prompt_overlap=self.prompt_overlap[owners[:, 0]],
            token_ids=self.token_ids[owners, positions],
            target_probs=self.target_probs[owners, positions],
        )

    def save(self, path: Path) -> None:
        """Write the recording to a NumPy .npz file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # a file handle, because NumPy would add .npz to another name
        with path.open("wb") as file:
            np.savez_compressed(file, format=np.int64(FORMAT), **{f.name: getattr(self, f.name) for f in fields(self)})

    @staticmethod
    def load(path: Path) -> Recording:
        """Read a recording. Raises ConfigError when the file is not one."""
        try:
            with np.load(path, allow_pickle=False) as content:
                if int(content["format"]) != FORMAT:
                    raise ConfigError(f"{path}: format {int(content['format'])}, expected {FORMAT}; record it again")
                return Recording(**{f.name: content[f.name] for f in fields(Recording)})
        except (OSError, KeyError, ValueError) as error:
            raise ConfigError(
                f"{path} is not a recording; make one with `hedgespec simulate record`: {error}"
            ) from error


def by_start(by_position: NDArray[np.float32]) -> NDArray[np.float32]:
    """Regroup by the round's start: entry [..., t, j - 1] belongs to the j-th token of the round starting at t.

    by_position: [..., num_tokens, depth]; the same shape is returned, with 0 after the end of the answer.
    """
    num_tokens, depth = by_position.shape[-2:]
    regrouped = np.zeros_like(by_position)
    for j in range(min(depth, num_tokens)):
        regrouped[..., : num_tokens - j, j] = by_position[..., j:, j]
    return regrouped
