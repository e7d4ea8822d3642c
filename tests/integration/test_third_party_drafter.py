"""A drafter kind of an installed package is served by its name in a configuration; nothing of HedgeSpec is edited."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.commands.inputs import read_args
from hedgespec.assembly.local_service import local_service
from hedgespec.config import DrafterConfig
from hedgespec.errors import ConfigError
from hedgespec.types import GenerationRequest, SamplingParams
from tests.toy_package import toy_package

SOURCE = '''
import numpy as np

from hedgespec.engine.kinds.drafter_kind import DrafterKind
from hedgespec.errors import ConfigError
from hedgespec.models.drafter_model import Usage
from hedgespec.types import DraftTree, Scores


class RepeatingDrafter:
    """A `DrafterModel` that proposes the last token again and again."""

    digest, uses_features = "", False

    def __init__(self, drafter_id):
        self.drafter_id = self.batched_by = drafter_id
        self.sessions, self.depths = {}, {}

    def open(self, spec):
        self.sessions[spec.session_id] = [*spec.prompt_ids.tolist(), *spec.emitted_ids.tolist()]
        self.depths[spec.session_id] = spec.max_draft_tokens

    def observe(self, session_id, observation):
        self.sessions[session_id].extend(observation.token_ids.tolist())
        return observation

    def push(self, block):
        pass

    def has_newest_features(self, session_id):
        return True

    def draft(self, requests):
        chains = [[self.sessions[r.session_id][-1]] * r.num_draft_tokens for r in requests]
        return [DraftTree.chain(chain, drafter_id=self.drafter_id) for chain in chains]

    def score_passes(self, requests):
        yield
        return [self.score(r) for r in requests]

    def score(self, request):
        start, observed = request.observation.start, request.observation.token_ids
        return Scores(start, np.zeros((len(observed), self.depths[request.session_id]), np.float32))

    def score_prompt(self, requests):
        return [np.zeros(r.prompt_top.num_rows, np.float32) for r in requests]

    def close(self, session_id):
        self.sessions.pop(session_id, None)

    def usage(self):
        return Usage(len(self.sessions))


class RepeatingKind(DrafterKind):
    takes_model = False

    def check(self, config):
        super().check(config)
        if config.device != "cpu":
            raise ConfigError(f"drafter {config.id!r}: kind {config.kind} runs on device cpu")

    def load(self, configs, target):
        return {config.id: RepeatingDrafter(config.id) for config in configs}


KIND = RepeatingKind()
'''
CONFIG = """
target: {model: "tabular:3"}
drafters: [{id: again, kind: repeat}, {id: ngram, kind: ngram}]
store: {url: "memory://"}
"""


async def test_a_package_adds_a_drafter_kind(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    entry_points = {"hedgespec.drafters": {"repeat": "KIND"}}
    with toy_package(tmp_path, "toy_drafter", SOURCE, entry_points):
        async with local_service(read_args(config)) as local:

            async def generate(drafter: str) -> tuple[list[int], dict[str, int]]:
                prompt, sampling = local.tokenizer.encode("hello "), SamplingParams(temperature=0.0, max_tokens=40)
                request = GenerationRequest("0" * 32, "default", prompt, sampling, drafter=drafter)
                chunks = [chunk async for chunk in local.service.generate(request)]
                stats = chunks[-1].stats
                assert stats is not None
                return [token for chunk in chunks for token in chunk.token_ids], stats.drafted_by_drafter

            alone, _ = await generate("none")
            text, drafted = await generate("again")
        assert text == alone
        assert drafted["again"] > 0
        with pytest.raises(ValidationError, match="kind repeat runs on device cpu"):
            DrafterConfig(id="again", kind="repeat", device="cuda")


def test_an_unknown_kind_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("ngram, kind: ngram", "tri, kind: ngrams"))
    with pytest.raises(ConfigError) as caught:
        read_args(config)
    assert "drafters.0.kind: " in str(caught.value)
    assert "No drafter kind named 'ngrams'. Known: causal_lm, eagle3, ngram, tabular. Did you mean 'ngram'?" in str(
        caught.value
    )
