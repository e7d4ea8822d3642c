"""Drafters named `model: smollm2` are the heads shipped for it: those that exist, the generic one first."""

from __future__ import annotations

from pathlib import Path

import pytest

from hedgespec.assembly.model_args import model_args
from hedgespec.assembly.model_sources import check_sources, resolved_drafter
from hedgespec.config import AppArgs, DrafterConfig
from hedgespec.errors import ConfigError
from hedgespec.zoo.smollm2 import heads
from tests.model_folders import make_eagle3


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three heads of the nine, and a folder that is none of them."""
    monkeypatch.setattr(heads, "HEADS_DIR", tmp_path)
    for seed, name in enumerate(("sql", "generic", "code", "stranger")):
        make_eagle3(tmp_path / name, seed)
    (tmp_path / "json").mkdir()
    return tmp_path


def test_heads_that_exist_are_listed_with_the_generic_one_first(shipped: Path) -> None:
    assert list(heads.head_folders()) == ["generic", "code", "sql"]
    assert heads.head_folders()["sql"] == shipped / "sql"


def test_the_default_has_every_head_and_the_ngram_drafter_in_one_process(shipped: Path) -> None:
    args = model_args("smollm2")
    assert [d.id for d in args.drafters] == ["generic", "code", "sql", "ngram"]
    assert {d.group for d in args.drafters} == {"laptop"}
    assert args.target.model_name == "smollm2-135m-instruct"


def test_without_heads_the_ngram_drafter_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "HEADS_DIR", tmp_path / "none")
    assert [d.id for d in model_args("smollm2").drafters] == ["ngram"]


def test_a_drafter_finds_its_head_by_its_id(shipped: Path) -> None:
    assert resolved_drafter(DrafterConfig(id="code", kind="eagle3", model="smollm2")).model == str(shipped / "code")


def test_an_unknown_head_is_named_with_those_that_exist(shipped: Path) -> None:
    unknown = DrafterConfig(id="poetry", kind="eagle3", model="smollm2")
    message = "smollm2 has no head 'poetry', only ['generic', 'code', 'sql']"
    assert f"drafters.0.id: {message}" in check_sources(AppArgs(drafters=(unknown,)))
    with pytest.raises(ConfigError) as refused:
        resolved_drafter(unknown)
    assert message in str(refused.value)
