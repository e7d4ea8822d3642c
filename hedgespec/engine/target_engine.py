"""The target's runner computes prefill chunks and verify blocks of all sessions in one packed pass, then accepts drafts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hedgespec.engine.prefix_reuse import PrefixReuse
from hedgespec.engine.scheduler import Prefill, TargetScheduler
from hedgespec.engine.target_session import TargetSession
from hedgespec.engine.work import CloseSession, OpenSession, Ticket, Verify, as_own_error
from hedgespec.errors import InvalidDraft, ReplicaBusy, ReplicaLost, RequestError, UnknownSession
from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.drafter_model import Usage
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.models.memory.prefix_cache import PrefixCache
from hedgespec.models.session_text import SessionText
from hedgespec.protocols import FeatureTransport
from hedgespec.speculative.acceptance import accept
from hedgespec.speculative.validation import MAX_NODES, validate_tree
from hedgespec.speculative.verification import VerifyContext
from hedgespec.types import DraftTree, SessionSpec, Verdict

PREFILL_CHUNK_TOKENS = 256


@dataclass(frozen=True, slots=True)
class _PrefillPart:
    session: TargetSession
    block: Block
    prefill: Prefill


@dataclass(frozen=True, slots=True)
class _VerifyPart:
    session: TargetSession
    block: Block
    ticket: Ticket
    work: Verify


Accept = Callable[[Sequence[DraftTree], Tensor, Sequence[VerifyContext]], list[Verdict]]
"""The signature of `acceptance.accept`."""


class TargetRunner:
    """A `Runner` that owns the sessions of one target.

    prefix_cache_tokens: see `config.TargetConfig`. decide: another acceptance rule, for measurements of speed
    """

    def __init__(
        self,
        model: PackedCausalLM,
        transport: FeatureTransport,
        max_sessions: int,
        max_cached_tokens: int,
        prefix_cache_tokens: int = 0,
        decide: Accept = accept,
    ) -> None:
        self._model = model
        self._decide = decide
        self._transport = transport
        self._max_sessions = max_sessions
        self._memory = KvMemory(max_cached_tokens)
        self._prefixes = PrefixCache(self._memory, prefix_cache_tokens)
        self._scheduler = TargetScheduler(PREFILL_CHUNK_TOKENS)
        self._sessions: dict[str, TargetSession] = {}

    def add(self, ticket: Ticket) -> None:
        self._scheduler.add(ticket)

    def drain(self) -> list[Ticket]:
        return self._scheduler.drain()

    def usage(self) -> Usage:
        """Return recent memory use; may be called from any thread."""
        memory = self._memory
        return Usage(
            len(self._sessions), memory.num_cached_tokens, memory.num_reserved_tokens, self._prefixes.num_tokens
        )

    @torch.inference_mode()
    def step(self, now_s: float) -> float | None:
        """Run one packed pass over a chunk of every prompt that is being read and every block to verify."""
        plan = self._scheduler.plan()
        for ticket in plan.closes:
            self._close(ticket)
        parts: list[_PrefillPart | _VerifyPart] = []
        for prefill, num_rows in plan.chunks:
            parts += self._prefill_part(prefill, num_rows)
        for ticket in plan.verifies:
            parts += self._verify_part(ticket)
        verified: list[tuple[_VerifyPart, BlockOutput]] = []
        for part, output in self._forward(parts):
            if isinstance(part, _PrefillPart):
                self._finish_prefill(part, output)
            else:
                verified.append((part, output))
        self._finish_verifies(verified)
        return 0.0 if self._scheduler.has_work() else None

    # -------------------------------------------------------------------------------------------------- before the pass

    def _close(self, ticket: Ticket) -> None:
        assert isinstance(ticket.work, CloseSession)
        self._free(ticket.work.session_id)
        if ticket.start():
            ticket.resolve(None)

    def _prefill_part(self, prefill: Prefill, num_rows: int) -> list[_PrefillPart]:
        """Return the chunk to compute for an opening session; none if it failed, has a single token or is cached in full."""
        work = prefill.ticket.work
        assert isinstance(work, OpenSession)
        try:
            if prefill.num_done == 0:
                session = self._open(work.spec)
                self._scheduler.advance(prefill, session.reuse())
                num_rows = min(num_rows, prefill.num_tokens - prefill.num_done)
            else:
                session = self._sessions[work.session_id]
        except Exception as error:  # one session's failure is its own
            self._free(work.session_id)
            self._scheduler.drop(prefill)
            prefill.ticket.fail(as_own_error(error, "target"))
            return []
        if num_rows == 0:
            self._scheduler.advance(prefill, 0)
            prefill.ticket.resolve(session.opened())
            return []
        return [_PrefillPart(session, session.prefill_block(prefill.num_done, num_rows), prefill)]

    def _open(self, spec: SessionSpec) -> TargetSession:
        if len(self._sessions) >= self._max_sessions:
            raise ReplicaBusy(f"All {self._max_sessions} sessions of this target are in use; try another replica.")
        if spec.num_tokens > self._model.max_positions:
            raise RequestError(
                f"{spec.num_tokens} tokens do not fit the context of {self._model.max_positions}; shorten the prompt.",
                param="prompt",
            )
        text = SessionText(spec, self._model.vocab_size)
        sinks = [self._transport.sink(address) for address in spec.feature_sinks]
        final = spec.num_tokens + max(0, spec.sampling.max_tokens - len(spec.emitted_ids))
        # rejected rows of a tree stand behind those of the accepted path until they are dropped
        spare = 0 if spec.draft_form.kind == "chain" else MAX_NODES
        slot = self._memory.open(min(final, self._model.max_positions) + spare)
        prefix = PrefixReuse(self._prefixes, spec.cache_salt, wants_features=bool(sinks))
        session = self._sessions[spec.session_id] = TargetSession(text, slot, sinks, prefix)
        return session

    def _verify_part(self, ticket: Ticket) -> list[_VerifyPart]:
        work = ticket.work
        assert isinstance(work, Verify)
        try:
            session = self._sessions.get(work.session_id)
            if session is None:
                raise UnknownSession(f"Session {work.session_id!r} is not open on this target; open it.")
            self._check(session, work.tree)
        except Exception as error:  # one session's failure is its own
            ticket.fail(as_own_error(error, "target"))
            return []
        return [_VerifyPart(session, session.verify_block(work), ticket, work)]

    def _check(self, session: TargetSession, tree: DraftTree) -> None:
        spec = session.spec
        validate_tree(tree, spec.sampling.method, self._model.vocab_size, spec.max_draft_tokens, spec.draft_form)
        room = self._model.max_positions - len(session.text)
        if room < 0:
            raise RequestError(f"The context of {self._model.max_positions} tokens is full.", param="max_tokens")
        if tree.depth > room:
            raise InvalidDraft(f"{tree.depth} draft tokens in a row, but the context has room for {room}")
        if not tree.num_nodes:
            return
        try:  # `open` reserves by position along one path, and a tree may need more
            session.slot.require(len(session.text) + tree.num_nodes)
        except ReplicaBusy as error:  # the draft fails and not the answer
            raise InvalidDraft(f"{tree.num_nodes} draft tokens, but there is no KV memory for them: {error}") from error

    # -------------------------------------------------------------------------------------------- the pass and after it

    def _forward(
        self, parts: Sequence[_PrefillPart | _VerifyPart]
    ) -> list[tuple[_PrefillPart | _VerifyPart, BlockOutput]]:
        """Run all parts in one pass; if it fails, run each alone, so that only the broken one fails."""
        if not parts:
            return []
        try:
            outputs = self._model.forward([part.block for part in parts])
        except Exception as error:  # whatever torch raises
            if len(parts) > 1:
                return [output for part in parts for output in self._forward([part])]
            self._fail(parts[0], error)
            return []
        return list(zip(parts, outputs, strict=True))

    def _finish_prefill(self, part: _PrefillPart, output: BlockOutput) -> None:
        try:
            part.session.add_prefilled(part.prefill.num_done, part.block, output)
        except Exception as error:  # whatever torch raises; the other sessions of this pass go on
            self._fail(part, error)
            return
        if self._scheduler.advance(part.prefill, part.block.num_rows):
            part.prefill.ticket.resolve(part.session.opened())

    def _finish_verifies(self, outputs: Sequence[tuple[_VerifyPart, BlockOutput]]) -> None:
        """Accept all drafts together; if that fails, each alone."""
        if not outputs:
            return
        try:
            verdicts = self._accept(outputs)
        except Exception as error:  # whatever torch raises
            if len(outputs) > 1:
                for one in outputs:
                    self._finish_verifies([one])
                return
            self._fail(outputs[0][0], error)
            return
        for (part, output), verdict in zip(outputs, verdicts, strict=True):
            part.session.emit(verdict, output.features)
            part.ticket.resolve(verdict)

    def _accept(self, outputs: Sequence[tuple[_VerifyPart, BlockOutput]]) -> list[Verdict]:
        trees = [part.work.tree for part, _ in outputs]
        logits = [output.logits for _, output in outputs]
        contexts = [part.session.context(part.work) for part, _ in outputs]
        verdicts = self._decide(trees, torch.cat(logits) if len(logits) > 1 else logits[0], contexts)
        for verdict in verdicts:
            if verdict.token_ids.min() < 0 or verdict.token_ids.max() >= self._model.vocab_size:
                raise ReplicaLost(f"The target chose token ids {verdict.token_ids.tolist()} outside its vocabulary.")
        return verdicts

    def _fail(self, part: _PrefillPart | _VerifyPart, error: Exception) -> None:
        """Answer a failed part: a verify leaves its session as it was, a prefill ends it."""
        failure = as_own_error(error, "target")
        if isinstance(part, _VerifyPart):
            part.session.slot.length = len(part.session.text) - 1
            part.ticket.fail(failure)
        else:
            self._scheduler.drop(part.prefill)
            self._free(part.session.spec.session_id)
            part.prefill.ticket.fail(failure)

    def _free(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._memory.free(session.slot)
