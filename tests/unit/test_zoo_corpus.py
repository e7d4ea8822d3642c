"""The zoo's text: generators are functions of their seed, answers are right, and held-out documents stay held out."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys

import pytest

from hedgespec.zoo import DOMAINS
from hedgespec.zoo.corpus import documents, split_of
from hedgespec.zoo.generators import arithmetic, json_api, sql

_SPLITS = ("train", "validation", "test")


@pytest.mark.parametrize("make", [sql.document, arithmetic.document, json_api.document])
def test_generated_documents_are_a_function_of_their_seed(make) -> None:  # type: ignore[no-untyped-def]
    assert [make(seed) for seed in range(20)] == [make(seed) for seed in range(20)]
    assert len({repr(make(seed)) for seed in range(200)}) == 200


def test_every_equation_of_the_written_reasoning_is_true() -> None:
    """Every equation holds, and the last result is the answer given."""
    for seed in range(300):
        for problem in arithmetic.document(seed):
            equations = re.findall(r"(\d+(?: [*/+-] \d+)+) = (\d+)", problem.answer)
            assert equations, problem.answer
            for expression, result in equations:
                assert eval(expression) == int(result), problem.answer
            stated = re.search(r"The answer is (\d+)", problem.answer)
            assert stated is not None
            assert stated[1] == equations[-1][1]


def test_every_generated_query_runs_on_its_schema() -> None:
    for seed in range(150):
        schema, pairs = sql.document(seed)
        database = sqlite3.connect(":memory:")
        database.executescript(schema)
        for pair in pairs:
            database.execute(pair.answer)
        database.close()


def test_every_generated_response_is_json() -> None:
    for seed in range(150):
        for exchange in json_api.document(seed):
            status, body = exchange.answer.split("\n", 1)
            assert re.fullmatch(r"HTTP \d{3}", status)
            assert isinstance(json.loads(body), dict)


@pytest.mark.parametrize("domain", DOMAINS)
def test_splits_share_no_document_and_no_text(domain: str) -> None:
    size = 60_000
    found = {split: documents(domain, split, seed=0, max_bytes=size) for split in _SPLITS}  # type: ignore[arg-type]
    texts = {split: {d.text for d in docs} for split, docs in found.items()}
    assert all(found.values())
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    for split, docs in found.items():
        assert {split_of(d.name) for d in docs} == {split}


@pytest.mark.parametrize("domain", DOMAINS)
def test_one_seed_gives_the_same_documents_again(domain: str) -> None:
    first = documents(domain, "test", seed=3, max_bytes=20_000)
    assert first == documents(domain, "test", seed=3, max_bytes=20_000)


def test_importing_the_zoo_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, hedgespec.zoo; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
