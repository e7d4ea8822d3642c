"""The question generators: enough different messages in every domain, reproducible, with the test split kept apart."""

from __future__ import annotations

import pytest

from hedgespec.errors import ConfigError
from hedgespec.zoo.smollm2 import DOMAINS
from hedgespec.zoo.smollm2.questions import questions, split_of

_MAX_CHARACTERS = 3000


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_gives_600_different_train_and_40_test_messages(domain: str) -> None:
    """No message is in both splits, none repeats, and each is where the hash of its text puts it."""
    train, test = questions(domain, "train", 600), questions(domain, "test", 40)
    assert (len(set(train)), len(set(test))) == (600, 40)
    assert not set(train) & set(test)
    assert {split_of(m) for m in train} == {"train"}
    assert {split_of(m) for m in test} == {"test"}


@pytest.mark.parametrize("domain", DOMAINS)
def test_messages_are_a_function_of_domain_split_and_seed(domain: str) -> None:
    """The same seed gives the same list, a shorter list is its beginning, and another seed gives other messages."""
    messages = questions(domain, "train", 30, seed=1)
    assert messages == questions(domain, "train", 30, seed=1)
    assert messages[:10] == questions(domain, "train", 10, seed=1)
    assert messages != questions(domain, "train", 30, seed=2)


@pytest.mark.parametrize("domain", DOMAINS)
def test_messages_are_filled_in_and_of_a_users_length(domain: str) -> None:
    """None is empty or longer than 3000 characters, and no template's slot is left open."""
    for message in questions(domain, "train", 200, seed=3):
        assert 8 <= len(message) <= _MAX_CHARACTERS, message
        assert message == message.strip()
        if domain in ("prose", "qa", "translation", "arithmetic"):
            assert "{" not in message, message


def test_documents_quote_a_passage() -> None:
    """Each message about a text brings one of at least 60 words."""
    assert all(len(m.split()) >= 60 for m in questions("documents", "train", 100))


def test_unknown_domain_and_split_are_named_in_the_error() -> None:
    with pytest.raises(ConfigError, match=r"'cooking'.*code, sql"):
        questions("cooking", "train", 1)
    with pytest.raises(ConfigError, match="'validation'"):
        questions("code", "validation", 1)  # type: ignore[arg-type]
