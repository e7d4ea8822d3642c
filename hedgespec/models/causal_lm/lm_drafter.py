"""A smaller causal LM with the target's vocabulary drafts from token ids alone; it needs no features of the target."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hedgespec.config import Device
from hedgespec.errors import ModelFolderError
from hedgespec.models.causal_lm.block import Block
from hedgespec.models.causal_lm.branches import LmBranches
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.drafting.chain_draft import ChainDraft
from hedgespec.models.drafting.draft_network import DraftSession, Owner
from hedgespec.models.drafting.network_drafter import NetworkDrafter
from hedgespec.models.drafting.score_columns import ScoreColumns
from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.models.memory.kv_memory import KvSlot
from hedgespec.models.session_text import SessionText
from hedgespec.types import Observation, SessionSpec

CATCH_UP_TOKENS = 512
MAX_KEPT_LOGITS = 64
"""Most rows of logits that a session keeps for scores to come; older ones are computed again."""


class LmSession(DraftSession):
    """One session's text, KV slot and logits.

    logits: position -> [1, vocab] after the id there, kept for the newest id and for ids that are scored next. Logits are
    too large to keep more of them: for later scores they are computed again.
    """

    def __init__(self, owner: Owner, text: SessionText, slot: KvSlot) -> None:
        super().__init__(owner, text, slot)
        self.logits: dict[int, Tensor] = {}

    @property
    def first_needed(self) -> int:
        """Return the first position whose logits are kept for a score to come."""
        return max(self.text.num_prompt + self.wanted_from - 1, len(self.text) - MAX_KEPT_LOGITS)


LmDrafter = NetworkDrafter[LmSession, LmBranches]


def lm_drafter(drafter_id: str, model: PackedCausalLM, max_sessions: int, max_cached_tokens: int) -> LmDrafter:
    """Make a drafter of a loaded LM."""
    owner = Owner(drafter_id, DraftVocabulary(model.vocab_size))
    return NetworkDrafter(owner, LmNetwork(model), model.digest, max_sessions, max_cached_tokens)


class LmNetwork:
    """A causal LM as a `DraftNetwork`; a proposal does not depend on where its round started, so scores have depth 1."""

    def __init__(self, model: PackedCausalLM) -> None:
        self._model = model

    def new_session(self, owner: Owner, text: SessionText, slot: KvSlot) -> LmSession:
        return LmSession(owner, text, slot)

    def num_draft_rows(self, spec: SessionSpec) -> int:
        return spec.max_draft_tokens * max(spec.draft_form.branching, 1)

    def num_behind(self, session: LmSession) -> int:
        return max(0, self._end(session) - session.slot.length)

    def catch_up(self, sessions: Sequence[LmSession]) -> None:
        self._run(sessions)
        for session in sessions:
            kept = min(session.first_needed, len(session.text) - 1)
            session.logits = {p: row for p, row in session.logits.items() if p >= kept}

    def complete_chains(self, drafts: Sequence[tuple[LmSession, ChainDraft]]) -> None:
        """Leave all chains to the loop."""

    def first_logits(self, sessions: Sequence[LmSession]) -> list[Tensor | None]:
        return [session.logits.get(len(session.text) - 1) for session in sessions]

    def advance(self, sessions: Sequence[LmSession], token_ids: Sequence[int]) -> Tensor:
        blocks = [Block(s.slot, np.array([t], np.int32)) for s, t in zip(sessions, token_ids, strict=True)]
        return torch.cat([output.logits for output in self._model.forward(blocks)])

    def drop_drafts(self, sessions: Sequence[LmSession]) -> None:
        for session in sessions:
            session.slot.length = min(session.slot.length, self._end(session))

    def root(self, session: LmSession, position: int) -> tuple[Tensor, LmBranches] | None:
        found, logits = self._positions_at(session, position, position + 1)
        return (logits, LmBranches(session.text, session.slot, position)) if found else None

    def extend(self, steps: Sequence[tuple[LmBranches, list[int], list[int]]]) -> Tensor:
        """Rows past a slot's length are overwritten later, and text rows before it are run again."""
        outputs = self._model.forward([branches.block(parents, tokens) for branches, parents, tokens in steps])
        for branches, _, _ in steps:
            branches.slot.length = branches.start
        return torch.cat([output.logits for output in outputs])

    def logits_at(self, spans: Sequence[tuple[LmSession, int, int]]) -> list[tuple[list[int], Tensor]]:
        return [self._positions_at(*span) for span in spans]

    def score_columns(self, session: LmSession, observation: Observation) -> ScoreColumns:
        return ScoreColumns(session.text, session.owner.vocabulary, observation, is_by_start=False)

    def add_deeper(self, columns: Sequence[tuple[LmSession, ScoreColumns]]) -> Generator[None]:
        """Scores do not depend on the start."""
        yield from ()

    def _positions_at(self, session: LmSession, first: int, end: int) -> tuple[list[int], Tensor]:
        positions = list(range(first, min(end, self._end(session) + 1)))
        missing = [p - 1 for p in positions if p - 1 not in session.logits]
        if missing:
            session.slot.length = min(session.slot.length, missing[0])
            self._run([session], missing[0], positions[-1])
        logits = [session.logits[p - 1] for p in positions]
        session.logits = {p: row for p, row in session.logits.items() if p >= session.first_needed}
        return positions, torch.cat(logits) if logits else torch.zeros((0, self._model.vocab_size))

    def _run(self, sessions: Sequence[LmSession], logits_from: int | None = None, end: int | None = None) -> None:
        """Run each session's text past its slot's rows, in chunks, to its end or to position `end`.

        logits_from: the first position whose logits are kept; by default the first needed one
        """

        def ends_at(session: LmSession) -> int:
            return self._end(session) if end is None else end

        pending = [s for s in sessions if s.slot.length < ends_at(s)]
        while pending:
            outputs = self._model.forward([self._block(s, ends_at(s), logits_from) for s in pending])
            for session, output in zip(pending, outputs, strict=True):
                first = session.slot.length - len(output.logits)
                for offset, row in enumerate(output.logits.split(1)):
                    session.logits[first + offset] = row
            pending = [s for s in pending if s.slot.length < ends_at(s)]

    def _end(self, session: LmSession) -> int:
        """Return the end of what fits this model's context; text beyond it, if the target's is longer, gets no drafts."""
        return min(len(session.text), self._model.max_positions)

    def _block(self, session: LmSession, end: int, logits_from: int | None) -> Block:
        start = session.slot.length
        end = min(end, start + CATCH_UP_TOKENS)
        wanted = min(session.first_needed, len(session.text) - 1) if logits_from is None else logits_from
        return Block(
            session.slot, session.text.ids[start:end].copy(), logits_from=min(max(wanted - start, 0), end - start)
        )


def load_causal_lm_drafter(
    drafter_id: str,
    folder: Path,
    device: Device,
    vocab_size: int,
    max_sessions: int,
    max_cached_tokens: int,
    open_doors: Callable[[PackedCausalLM], PackedCausalLM] = lambda model: model,
) -> LmDrafter:
    """Load a drafter for a target with vocab_size ids; open_doors makes its model faster, see `lean_network.accelerate`.

    Raises ModelFolderError when the vocabularies differ.
    """
    model = load_causal_lm(folder, device, f"drafter {drafter_id}")
    if model.vocab_size != vocab_size:
        raise ModelFolderError(f"drafter {drafter_id} incompatible: vocab {model.vocab_size} ≠ {vocab_size}")
    return lm_drafter(drafter_id, open_doors(model), max_sessions, max_cached_tokens)
