"""Every exception HedgeSpec raises on purpose.

HedgeSpecError
|- ConfigError              a configuration value or a command-line option is wrong
|- ModelFolderError         a model folder cannot be loaded
|- RequestError             a client's request is wrong; carries the HTTP status and OpenAI error fields
|- UnknownDrafter           a drafter id that is not configured
|- InvalidDraft             a drafter's answer cannot be verified (wrong shape, ids out of range, ...)
|- InvalidObservation       a position, score or feature block that does not fit the session
|- UnknownSession           a session id that is not open on this replica
|- ReplicaBusy              a replica has no free session slot or no free KV memory
|- ReplicaLost              a replica died, hung or closed its stream
|- TargetUnavailable        no target replica could serve the request
|- PeerUnavailable          another engine, which a benchmark compares with, cannot be had or cannot go on
|- StoreError               the preference store cannot be reached or its content cannot be trusted
   |- StoreUnavailable
   |- CorruptRecord
   |- RecordFolded          a record to be saved is already part of the folded sum
"""

from __future__ import annotations


class HedgeSpecError(Exception):
    """Base of all of our exceptions; the message says what was wrong and what to do."""


class ConfigError(HedgeSpecError):
    """A configuration value or a command-line option is wrong."""


class ModelFolderError(HedgeSpecError):
    """A model folder is missing a file, holds an unsupported variant, or holds unsafe content."""


class RequestError(HedgeSpecError):
    """A client's request is wrong. `status`, `code`, `param` and `type` become OpenAI's error object."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        type: str = "invalid_request_error",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.type = type
        self.headers = headers or {}


class UnknownDrafter(HedgeSpecError):
    """A drafter id that is not configured."""


class InvalidDraft(HedgeSpecError):
    """A draft that cannot be verified: the round goes on without speculation."""


class InvalidObservation(HedgeSpecError):
    """Verified tokens, scores or features that do not fit the session they name."""


class UnknownSession(HedgeSpecError):
    """A session id that is not open on this replica."""


class ReplicaBusy(HedgeSpecError):
    """A replica has no free session slot or no free KV memory."""


class ReplicaLost(HedgeSpecError):
    """A replica died, hung past its deadline or closed its stream."""


class PeerUnavailable(HedgeSpecError):
    """Another engine cannot be had on this machine or cannot go on; the message is one line that says why."""


class TargetUnavailable(HedgeSpecError):
    """No target replica could serve the request."""


class StoreError(HedgeSpecError):
    """The preference store failed; serving goes on with local statistics."""


class StoreUnavailable(StoreError):
    """The preference store cannot be reached in time."""


class CorruptRecord(StoreError):
    """A stored record fails its checks; it is ignored and the last good copy is kept."""


class RecordFolded(StoreError):
    """The record to be saved is part of the folded sum already: what is new goes under another name."""
