"""`RemoteTarget` and `RemoteDrafter` implement the protocols over a connection to a replica.

Requests leave in the order in which the methods are *called*, not awaited, and each method returns a future: a caller may
keep that of `observe` and await `draft`, and the drafter still observes the tokens first.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from hedgespec.rpc.connection import ReplicaConnection, Reply
from hedgespec.rpc.convert import rounds, sessions
from hedgespec.rpc.convert.arrays import write_rows
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import DraftRequest, DraftTree, Observation, Opened, Scores, SessionSpec, SparseRows, Verdict


class RemoteTarget:
    """A `protocols.Target` on a replica. lease_id: of the Serve lease that its sessions use; empty outside of Serve."""

    def __init__(self, connection: ReplicaConnection, lease_id: str = "") -> None:
        self.replica = connection.address
        self._connection = connection
        self._lease_id = lease_id

    def open(self, spec: SessionSpec) -> Reply[Opened]:
        fill = partial(sessions.write_open, spec=spec, lease_id=self._lease_id)
        return self._connection.request(spec.session_id, 0, "", "open", fill, sessions.read_opened)

    def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Reply[Verdict]:
        def fill(message: pb.Verify) -> None:
            rounds.write_tree(message.tree, tree)

        return self._connection.request(session_id, round_index, "", "verify", fill, rounds.read_verdict)

    async def close(self, session_id: str) -> None:
        self._connection.send_close(session_id, "")


class RemoteDrafter:
    """A `protocols.Drafter` on a replica.

    feature_sink: address that the target pushes features to; empty when this drafter uses none
    digest: of the weights on that replica, from its lease
    """

    def __init__(
        self, connection: ReplicaConnection, drafter_id: str, feature_sink: str = "", digest: str = ""
    ) -> None:
        self.drafter_id = drafter_id
        self.feature_sink = feature_sink
        self.digest = digest
        self.replica = connection.address
        self._connection = connection

    def open(self, spec: SessionSpec) -> Reply[Opened]:
        fill = partial(sessions.write_open, spec=spec)
        return self._connection.request(spec.session_id, 0, self.drafter_id, "open", fill, sessions.read_opened)

    def draft(self, request: DraftRequest) -> Reply[DraftTree]:
        fill = partial(rounds.write_draft_request, request=request)
        read = partial(rounds.read_drafted, drafter_id=self.drafter_id)
        session_id, call_index = request.session_id, request.round_index
        return self._connection.request(session_id, call_index, self.drafter_id, "draft", fill, read)

    def observe(self, session_id: str, call_index: int, observation: Observation) -> Reply[Scores | None]:
        fill, read = partial(rounds.write_observation, observation=observation), rounds.read_scores
        return self._connection.request(session_id, call_index, self.drafter_id, "observe", fill, read, observation)

    def score_prompt(self, session_id: str, prompt_top: SparseRows) -> Reply[NDArray[np.float32]]:
        def fill(message: pb.ScorePrompt) -> None:
            write_rows(message.prompt_top, prompt_top)

        read = sessions.read_prompt_scores
        return self._connection.request(session_id, 0, self.drafter_id, "score_prompt", fill, read)

    async def close(self, session_id: str) -> None:
        self._connection.send_close(session_id, self.drafter_id)
