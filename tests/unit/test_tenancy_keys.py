"""Tenant keys are made, kept in a keys file and checked at authentication."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hedgespec.errors import ConfigError, RequestError
from hedgespec.tenancy.keys import hash_key, is_well_formed, mint_key, mode_problem, read_keys_file
from hedgespec.tenancy.tenants import RELOAD_INTERVAL_S, Tenants

SECRET_A, HASH_A = mint_key()
SECRET_B, HASH_B = mint_key()


def write(path: Path, content: Any, mode: int = 0o600) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    path.chmod(mode)
    return path


def tenants_file(path: Path, **hashes: list[str]) -> Path:
    return write(path, {"tenants": [{"id": tenant, "keys": keys} for tenant, keys in hashes.items()]})


def test_a_minted_key_is_random_well_formed_and_only_its_hash_is_kept() -> None:
    assert SECRET_A != SECRET_B
    assert is_well_formed(SECRET_A)
    assert hash_key(SECRET_A) == HASH_A
    assert SECRET_A[6:20] not in HASH_A


@given(position=st.integers(6, len(SECRET_A) - 1), other=st.sampled_from("AZaz09-_"))
def test_a_mistyped_key_is_malformed(position: int, other: str) -> None:
    """CRC-32 finds every change of a single character."""
    changed = SECRET_A[:position] + other + SECRET_A[position + 1 :]
    assert is_well_formed(changed) == (changed == SECRET_A)


def test_keys_lead_to_their_tenant_and_a_tenant_may_have_two(tmp_path: Path) -> None:
    secret, digest = mint_key()
    tenants = Tenants.from_file(tenants_file(tmp_path / "keys.yaml", acme=[HASH_A, digest], globex=[HASH_B]))
    assert tenants.authenticate(f"Bearer {SECRET_A}", client_is_loopback=False) == "acme"
    assert tenants.authenticate(f"bearer  {secret}", client_is_loopback=False) == "acme"
    assert tenants.authenticate(f"Bearer {SECRET_B}", client_is_loopback=True) == "globex"


def test_every_kind_of_wrong_key_gets_the_same_401(tmp_path: Path) -> None:
    """No client is let in without a key when there is a keys file, not even from loopback."""
    tenants = Tenants.from_file(tenants_file(tmp_path / "keys.json", acme=[HASH_A]))
    wrong = [None, "", "Bearer", "Bearer ", f"Basic {SECRET_A}", SECRET_A, f"Bearer {SECRET_B}", "Bearer \ud800x"]
    texts = set()
    for header in [*wrong, f"Bearer {SECRET_A[:-1]}", f"Bearer {SECRET_A} x", f"Bearer {HASH_A}"]:
        with pytest.raises(RequestError) as caught:
            tenants.authenticate(header, client_is_loopback=True)
        assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
        texts.add(str(caught.value))
    assert len(texts) == 1


def test_without_a_keys_file_only_this_machine_is_served() -> None:
    tenants = Tenants.from_file(None)
    assert tenants.authenticate("Bearer whatever", client_is_loopback=True) == "default"
    with pytest.raises(RequestError, match="no keys file") as caught:
        tenants.authenticate(None, client_is_loopback=False)
    assert caught.value.status == 401


def test_everything_wrong_with_a_file_is_listed_at_once_without_its_secrets(tmp_path: Path) -> None:
    content = {
        "extra": 1,
        "tenants": [
            {"id": "Acme/1", "keys": [HASH_A]},
            {"id": "other", "keys": [HASH_A, "sha256:12"]},
            {"id": "b", "keys": [SECRET_B], "name": "x"},
            {"id": "c", "keys": []},
            {"id": "b", "keys": [HASH_B]},
            "d",
        ],
    }
    with pytest.raises(ConfigError) as caught:
        read_keys_file(write(tmp_path / "keys.json", content))
    text = str(caught.value)
    for expected in [
        "'extra': unknown key",
        "tenants[0].id: expected 1 to 64",
        "tenants[1].id: 'other' is reserved",
        "tenants[1].keys[0]: the same key",
        "tenants[1].keys[1]: expected sha256:",
        "tenants[2].'name': unknown key",
        "tenants[2].keys[0]: this is a key itself",
        "tenants[3].keys: expected a list",
        "tenants[4].id: 'b' is there twice",
        "tenants[5]: expected a mapping",
    ]:
        assert expected in text
    assert len(text.splitlines()) == 10
    assert SECRET_B not in text
    assert HASH_A not in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("keys.yaml", "tenants: [\n", r"keys.yaml:2:1: invalid YAML"),
        ("keys.yaml", "a: &x [1]\ntenants: *x\n", "aliases are refused"),
        ("keys.yaml", "tenants: []\ntenants: []\n", "duplicate key 'tenants'"),
        ("keys.yaml", "tenants: []\n", "the list is empty"),
        ("keys.yaml", "- 1\n", "expected a list of"),
        ("keys.yaml", "!!python/object/apply:os.getcwd []\n", "invalid YAML"),
        ("keys.json", '{"tenants": [], "tenants": []}', "duplicate key 'tenants'"),
        ("keys.json", "{", "not valid JSON"),
        ("keys.json", "[" * 100_000, "not valid JSON"),
        ("keys.yaml", "#" * (1 << 20) + "\n", "larger than"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_keys_file(write(tmp_path / name, content))


def test_a_missing_file_a_folder_and_loose_permissions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_keys_file(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="directory"):
        read_keys_file(tmp_path)
    loose = tenants_file(tmp_path / "keys.yaml", acme=[HASH_A])
    for mode in (0o644, 0o640, 0o622, 0o700):
        loose.chmod(mode)
        with pytest.raises(ConfigError, match="chmod 600"):
            read_keys_file(loose)
    loose.chmod(0o400)
    assert read_keys_file(loose) == {HASH_A: "acme"}


def test_a_mounted_secret_that_belongs_to_root_may_be_readable_by_our_group() -> None:
    assert mode_problem(0o440, owner_uid=0, our_uid=10_000) is None
    assert mode_problem(0o440, owner_uid=10_000, our_uid=10_000) is not None
    assert mode_problem(0o444, owner_uid=0, our_uid=10_000) is not None


def test_a_key_is_revoked_by_changing_the_file_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    now = [0.0]
    path = tenants_file(tmp_path / "keys.yaml", acme=[HASH_A])
    tenants = Tenants.from_file(path, clock=lambda: now[0])
    write(path, "tenants: [")
    now[0] += RELOAD_INTERVAL_S
    assert tenants.authenticate(f"Bearer {SECRET_A}", client_is_loopback=False) == "acme"
    tenants_file(path, globex=[HASH_B])
    assert tenants.authenticate(f"Bearer {SECRET_A}", client_is_loopback=False) == "acme"
    now[0] += RELOAD_INTERVAL_S
    assert tenants.authenticate(f"Bearer {SECRET_B}", client_is_loopback=False) == "globex"
    with pytest.raises(RequestError):
        tenants.authenticate(f"Bearer {SECRET_A}", client_is_loopback=False)
