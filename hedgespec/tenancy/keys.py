"""API keys are random secrets with a checksum; the keys file holds their hashes and says which tenant each belongs to.

    tenants:
      - id: acme
        keys: ["sha256:<64 hex digits>"]      # two while a key is being replaced

YAML, or JSON when the name ends in .json. Everything wrong with it is reported at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from hedgespec.errors import ConfigError

PREFIX = "sk-hs-"
_HASH_FORM = re.compile(r"sha256:[0-9a-f]{64}")
MAX_FILE_BYTES = 1 << 20
RESERVED_IDS = frozenset({"other"})

_NUM_SECRET_BYTES = 32
_KEY = re.compile(re.escape(PREFIX) + r"([A-Za-z0-9_-]{43})([0-9a-f]{8})")
_TENANT_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

FileStamp = tuple[int, int, int]


def mint_key() -> tuple[str, str]:
    """Return a new secret, to be shown once, and the hash that goes into the keys file."""
    body = secrets.token_urlsafe(_NUM_SECRET_BYTES)
    secret = PREFIX + body + _checksum(body)
    return secret, hash_key(secret)


def hash_key(secret: str) -> str:
    # A plain hash is enough: the secret is 256 random bits, so there is no dictionary to try.
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def is_well_formed(secret: str) -> bool:
    """Return whether this could be one of our keys; the checksum catches cut-off and mistyped ones."""
    match = _KEY.fullmatch(secret)
    return match is not None and _checksum(match.group(1)) == match.group(2)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def read_keys_file(path: Path) -> dict[str, str]:
    """Return the tenant id of every key hash. Raises ConfigError that lists every problem, never a key or a hash."""
    text = _read(path)
    try:
        content = (
            json.loads(text, object_pairs_hook=_unique) if path.suffix == ".json" else yaml.load(text, _StrictLoader)
        )
    except _Duplicate as error:
        raise ConfigError(f"{path}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{where}: invalid YAML: {error.problem}") from None
    except (ValueError, RecursionError, yaml.YAMLError):
        raise ConfigError(f"{path}: not valid {'JSON' if path.suffix == '.json' else 'YAML'}.") from None
    tenant_by_hash: dict[str, str] = {}
    problems = list(_collect(content, tenant_by_hash))
    if problems:
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems))
    return tenant_by_hash


def stamp_of(path: Path) -> FileStamp | None:
    """Return what changes whenever the file does, also when a link to it is turned elsewhere (as Kubernetes does)."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def mode_problem(mode: int, owner_uid: int, our_uid: int) -> str | None:
    """Say what is wrong with the permissions of a file with secrets in it; None when nothing is.

    A Secret volume in a pod that does not run as root is owned by root and readable by the pod's group (0440): there is
    no stricter form, so group reading is allowed where the file is not ours to change.
    """
    allowed = 0o600 if owner_uid == our_uid else 0o640
    if mode & 0o777 & ~allowed:
        return f"mode must be 0400 or 0600 (is {mode & 0o777:04o}): chmod 600 FILE"
    return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"cannot read {path}: not a regular file")
            problem = mode_problem(status.st_mode, status.st_uid, os.geteuid())
            if problem:
                raise ConfigError(f"{path}: {problem}")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {(error.strerror or 'unknown error').lower()}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"cannot read {path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None


def _collect(content: Any, tenant_by_hash: dict[str, str]) -> Iterator[str]:
    """Yield problems; fill tenant_by_hash on the way."""
    if not isinstance(content, dict) or not isinstance(content.get("tenants"), list):
        yield "tenants: expected a list of {id, keys}"
        return
    for key in content.keys() - {"tenants"}:
        yield f"{_shown(key)}: unknown key, expected only tenants"
    if not content["tenants"]:
        yield "tenants: the list is empty, so nobody could use this server"
    seen_ids: set[str] = set()
    for index, tenant in enumerate(content["tenants"]):
        yield from _collect_tenant(f"tenants[{index}]", tenant, seen_ids, tenant_by_hash)


def _collect_tenant(where: str, tenant: Any, seen_ids: set[str], tenant_by_hash: dict[str, str]) -> Iterator[str]:
    if not isinstance(tenant, dict):
        yield f"{where}: expected a mapping with id and keys"
        return
    for key in tenant.keys() - {"id", "keys"}:
        yield f"{where}.{_shown(key)}: unknown key, expected id and keys"
    tenant_id = tenant.get("id")
    if not isinstance(tenant_id, str) or not _TENANT_ID.fullmatch(tenant_id):
        yield f"{where}.id: expected 1 to 64 of a-z 0-9 . _ - and a letter or digit first"
    elif tenant_id in RESERVED_IDS:
        yield f"{where}.id: {tenant_id!r} is reserved"
    elif tenant_id in seen_ids:
        yield f"{where}.id: {tenant_id!r} is there twice; put all of its keys into one entry"
    else:
        seen_ids.add(tenant_id)
    keys = tenant.get("keys")
    if not isinstance(keys, list) or not keys:
        yield f"{where}.keys: expected a list of at least one hash"
        return
    for number, key in enumerate(keys):
        problem = _key_problem(key, tenant_by_hash)
        if problem:
            yield f"{where}.keys[{number}]: {problem}"
        else:
            tenant_by_hash[key] = str(tenant_id)


def _key_problem(key: Any, tenant_by_hash: dict[str, str]) -> str | None:
    if isinstance(key, str) and key.startswith(PREFIX):
        return "this is a key itself; keep only its hash here, and replace the key, since it has been written down"
    if not isinstance(key, str) or not _HASH_FORM.fullmatch(key):
        return "expected sha256: and 64 lower-case hex digits"
    if key in tenant_by_hash:
        return "the same key is already in this file"
    return None


class _Duplicate(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_repeated([name for name, _ in pairs])
    return dict(pairs)


def _refuse_repeated(names: list[str]) -> None:
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise _Duplicate(f"duplicate key {_shown(name)}")


class _StrictLoader(yaml.SafeLoader):
    """Refuses duplicate keys (the later one would win silently) and aliases (a few lines can expand to gigabytes)."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are refused", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        _refuse_repeated([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        return super().construct_mapping(node, deep)


def _shown(name: Any) -> str:
    return repr(str(name)[:40])
