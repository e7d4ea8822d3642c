"""Losslessness of `rejection`, exactly: the output distribution is enumerated, nothing is sampled.

`accept` itself runs. Its only randomness is the accept noise, compared with `acceptance_probs`, and the recovery noise,
which picks from the distribution given to `inverse_cdf`. The harness scripts how many draft tokens survive, records both and
so obtains every outcome of a round with its exact probability. Summed over all drafts (from the drafter's own truncated
distribution) and all rounds, the distribution of the first tokens must equal the target's. No false alarms: the tolerance
is 1e-9, far above the error of float64.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pytest
import torch

from hedgespec.models.tabular import TabularModel
from hedgespec.sampling.processing import process_logits
from hedgespec.sampling.token_counts import TokenCounts
from hedgespec.speculative import chain_rejection
from hedgespec.speculative.acceptance import accept
from hedgespec.speculative.noise import Purpose
from hedgespec.speculative.proposal import truncate
from hedgespec.speculative.sparse_rows import concatenate
from hedgespec.speculative.verification import VerifyContext
from hedgespec.types import EMPTY_DRAFT, DraftTree, SamplingParams, SparseRows

VOCAB = 3
PROMPT = [1, 0]
TOLERANCE = 1e-9

Text = tuple[int, ...]
TextDistribution = dict[Text, float]


@dataclass(frozen=True)
class Memory:
    """The state that a switching policy may read: how the last round went, rejected draft tokens included."""

    round_index: int = 0
    last_drafter: int = 0
    num_accepted: int = 0
    last_drafted: int = -1


@dataclass(frozen=True)
class Policy:
    """choose(text, memory) -> (drafter, length); stops_after(token) ends a draft early because of what was drafted."""

    name: str
    choose: Callable[[Text, Memory], tuple[int, int]]
    stops_after: Callable[[int], bool] = field(default=lambda token: False)


POLICIES = [
    *(Policy(f"drafter {i}, length {n}", lambda text, memory, i=i, n=n: (i, n)) for i, n in [(0, 0), (1, 1), (2, 3)]),
    Policy(
        "another drafter and length in every round", lambda text, memory: (memory.round_index, memory.round_index + 1)
    ),
    Policy(
        "stay after success, switch after rejection",
        lambda text, memory: (memory.last_drafter + (memory.num_accepted == 0), 1 + memory.num_accepted),
    ),
    Policy(
        "by the emitted text and the drafted tokens that were thrown away",
        lambda text, memory: (sum(text) + memory.last_drafted, 1 + (memory.last_drafted == 2)),
    ),
    Policy("stop drafting after token 1", lambda text, memory: (len(text), 3), lambda token: token == 1),
]

PARAMS = [
    SamplingParams(),
    SamplingParams(temperature=0.6, top_p=0.8),
    SamplingParams(temperature=1.7, top_k=2, logit_bias=((2, 0.7),)),
    SamplingParams(presence_penalty=0.6, frequency_penalty=0.3, repetition_penalty=1.4),
]


@pytest.mark.parametrize("params", PARAMS, ids=["plain", "top_p", "top_k and bias", "penalties"])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_output_distribution_equals_the_targets_for_every_policy(monkeypatch, policy, params):
    """Any drafter, any length, chosen by any history: the distribution of the first three tokens is the target's."""
    target, drafters = models(seed=11)
    distribution = output_distribution(monkeypatch, target, drafters, policy, params, num_tokens=3)
    assert distance(distribution, target_distribution(target, params, 3)) < TOLERANCE


@pytest.mark.parametrize("seed", range(6))
def test_output_distribution_equals_the_targets_for_random_distributions(monkeypatch, seed):
    """The equality holds for other random tables: drafters that are close, unrelated, and certain of a wrong token."""
    target, drafters = models(seed)
    distribution = output_distribution(monkeypatch, target, drafters, POLICIES[5], SamplingParams(), num_tokens=3)
    assert distance(distribution, target_distribution(target, SamplingParams(), 3)) < TOLERANCE


def test_four_tokens_with_long_drafts(monkeypatch):
    """Several rounds follow each other inside the window."""
    target, drafters = models(seed=5)
    distribution = output_distribution(monkeypatch, target, drafters, POLICIES[4], SamplingParams(), num_tokens=4)
    assert distance(distribution, target_distribution(target, SamplingParams(), 4)) < TOLERANCE


def accept_too_often(target_probs: torch.Tensor, draft_probs: torch.Tensor) -> torch.Tensor:
    return (1.05 * target_probs / draft_probs).clamp(max=1.0)


def recover_from_target(target_probs: torch.Tensor, ids: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    return target_probs.double() / target_probs.double().sum(dim=-1, keepdim=True)


def recover_from_absolute_difference(
    target_probs: torch.Tensor, ids: torch.Tensor, probs: torch.Tensor
) -> torch.Tensor:
    rest = target_probs.double().scatter_add(1, ids, -probs)
    return rest.abs() / rest.abs().sum(dim=-1, keepdim=True)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("acceptance_probs", accept_too_often),
        ("residual", recover_from_target),
        ("residual", recover_from_absolute_difference),
    ],
)
def test_a_wrong_rule_is_caught(monkeypatch, name, wrong):
    """The enumeration can fail: three classic mistakes move the distribution by far more than the tolerance."""
    target, drafters = models(seed=11)
    monkeypatch.setattr(chain_rejection, name, wrong)
    distribution = output_distribution(monkeypatch, target, drafters, POLICIES[5], SamplingParams(), num_tokens=3)
    assert distance(distribution, target_distribution(target, SamplingParams(), 3)) > 1e-3


def test_a_draft_distribution_that_is_not_the_sampled_one_is_caught(monkeypatch):
    """Reporting other probabilities than the tokens were drawn from is lossy; the wire must be exact."""
    target, drafters = models(seed=11)
    policy, params = POLICIES[5], SamplingParams()
    distribution = output_distribution(monkeypatch, target, drafters, policy, params, num_tokens=3, reported_power=1.2)
    assert distance(distribution, target_distribution(target, params, 3)) > 1e-3


# ------------------------------------------------------------------------------------------------------- the harness


def models(seed: int) -> tuple[TabularModel, list[TabularModel]]:
    target = TabularModel(VOCAB, order=2, seed=seed, sharpness=1.2)
    unrelated = TabularModel(VOCAB, order=2, seed=seed + 1, sharpness=1.2)
    certain = TabularModel(VOCAB, order=1, seed=seed + 2, sharpness=40.0)
    return target, [target.related(0.7, seed + 3), unrelated, certain, target]


def output_distribution(
    monkeypatch: pytest.MonkeyPatch,
    target: TabularModel,
    drafters: list[TabularModel],
    policy: Policy,
    params: SamplingParams,
    num_tokens: int,
    reported_power: float = 1.0,
) -> TextDistribution:
    """The exact distribution of the first `num_tokens` emitted tokens."""
    rounds = Rounds(monkeypatch, target, drafters, params, reported_power)
    pending: dict[tuple[Text, Memory], float] = {((), Memory()): 1.0}
    done: TextDistribution = defaultdict(float)
    while pending:
        arrived: dict[tuple[Text, Memory], float] = defaultdict(float)
        for (text, memory), mass in pending.items():
            drafter, length = policy.choose(text, memory)
            for drafted, emitted, prob in rounds.outcomes(text, drafter % len(drafters), min(length, 3), policy):
                longer = text + emitted
                if len(longer) >= num_tokens:
                    done[longer[:num_tokens]] += mass * prob
                    continue
                last_drafted = drafted[-1] if drafted else -1
                after = Memory(min(memory.round_index + 1, 2), drafter % len(drafters), len(emitted) - 1, last_drafted)
                arrived[longer, after] += mass * prob
        pending = arrived
    return done


class Rounds:
    """Every outcome of one round with its exact probability, obtained from `accept` with scripted noise."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        target: TabularModel,
        drafters: list[TabularModel],
        params: SamplingParams,
        reported_power: float,
    ) -> None:
        self.target, self.drafters, self.params, self.reported_power = target, drafters, params, reported_power
        self.script: list[float] = []
        self.keep_probs = np.zeros((0, 0))
        self.recovery_distributions = np.zeros((0, VOCAB))
        self.known: dict[tuple, list[tuple[Text, Text, float]]] = {}
        true_acceptance_probs = chain_rejection.acceptance_probs

        def scripted_uniform(seed: int, output_index: int, purpose: Purpose) -> float:
            """Keep or reject as scripted; the script has one entry per draft token, sessions in order."""
            return 0.5 if purpose is Purpose.RECOVER else self.script.pop(0)

        def recorded_acceptance_probs(target_probs: torch.Tensor, draft_probs: torch.Tensor) -> torch.Tensor:
            self.keep_probs = true_acceptance_probs(target_probs, draft_probs).numpy()
            return torch.full_like(target_probs, 0.5)  # so that 0.0 keeps and 1.0 rejects, whatever the probability

        def recorded_inverse_cdf(distributions: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
            self.recovery_distributions = distributions.numpy()
            return torch.zeros(len(points), dtype=torch.int64)

        monkeypatch.setattr(chain_rejection, "uniform", scripted_uniform)
        monkeypatch.setattr(chain_rejection, "acceptance_probs", recorded_acceptance_probs)
        monkeypatch.setattr(chain_rejection, "inverse_cdf", recorded_inverse_cdf)

    def outcomes(self, text: Text, drafter: int, length: int, policy: Policy) -> list[tuple[Text, Text, float]]:
        """(drafted, emitted, probability) of a round that starts after `text`."""
        key = (text, drafter, length, policy.name)
        if key not in self.known:
            self.known[key] = list(self._enumerate(text, drafter, length, policy))
        return self.known[key]

    def _enumerate(self, text: Text, drafter: int, length: int, policy: Policy):
        trees, draft_probs, survivors = [], [], []
        for tokens, rows, prob in self._drafts(text, self.drafters[drafter], length, policy):
            for num_kept in range(len(tokens) + 1):
                trees.append(DraftTree.chain(np.array(tokens), concatenate(rows)) if tokens else EMPTY_DRAFT)
                draft_probs.append(prob)
                survivors.append(num_kept)
        logits = [
            np.log(self.target.probs([*PROMPT, *text, *tree.token_ids[:row].tolist()]))
            for tree in trees
            for row in range(tree.num_nodes + 1)
        ]
        counts = TokenCounts(PROMPT, text)
        contexts = [VerifyContext(self.params, 0, len(text), counts)] * len(trees)
        self.script = [
            0.0 if node < kept else 1.0
            for kept, tree in zip(survivors, trees, strict=True)
            for node in range(tree.num_nodes)
        ]
        verdicts = accept(trees, torch.from_numpy(np.stack(logits)), contexts)
        for tree, verdict, keep, distribution, draft_prob, kept in zip(
            trees, verdicts, self.keep_probs, self.recovery_distributions, draft_probs, survivors, strict=True
        ):
            assert verdict.num_accepted == kept
            mass = draft_prob * np.prod(keep[:kept]) * (1 - keep[kept] if kept < tree.num_nodes else 1.0)
            tokens = tuple(tree.token_ids.tolist())
            for last in range(VOCAB):
                if mass * distribution[last] > 0:
                    yield tokens, (*tokens[:kept], last), float(mass * distribution[last])

    def _drafts(self, text: Text, drafter: TabularModel, length: int, policy: Policy):
        """(tokens, reported rows, probability) of every draft: each token follows the truncated distribution of its row."""
        open_drafts: list[tuple[Text, list[SparseRows], float]] = [((), [], 1.0)]
        for _ in range(length):
            longer = []
            for tokens, rows, prob in open_drafts:
                if tokens and policy.stops_after(tokens[-1]):
                    longer.append((tokens, rows, prob))
                    continue
                row = truncate(self._distribution(drafter, text, tokens))
                distribution = row.probs.astype(np.float64) / row.probs.sum(dtype=np.float64)
                reported = distribution**self.reported_power / (distribution**self.reported_power).sum()
                if self.reported_power != 1.0:
                    row = SparseRows(row.offsets, row.ids, reported.astype(np.float32))
                longer += [
                    ((*tokens, int(token)), [*rows, row], prob * float(p))
                    for token, p in zip(row.ids, distribution, strict=True)
                ]
            open_drafts = longer
        return open_drafts

    def _distribution(self, drafter: TabularModel, text: Text, ancestors: Text) -> torch.Tensor:
        logits = torch.from_numpy(np.log(drafter.probs([*PROMPT, *text, *ancestors])))[None]
        return process_logits(logits, self.params, TokenCounts(PROMPT, text), [ancestors])


def target_distribution(target: TabularModel, params: SamplingParams, num_tokens: int) -> TextDistribution:
    """Plain decoding: the product of the processed conditionals, penalties counting only emitted tokens."""
    distribution: TextDistribution = {}
    for text in product(range(VOCAB), repeat=num_tokens):
        mass = 1.0
        for position, token in enumerate(text):
            before = text[:position]
            logits = torch.from_numpy(np.log(target.probs([*PROMPT, *before])))[None]
            mass *= float(process_logits(logits, params, TokenCounts(PROMPT, before))[0, token])
        distribution[text] = mass
    return distribution


def distance(distribution: TextDistribution, other: TextDistribution) -> float:
    """Largest difference of the probability of one text."""
    assert abs(sum(distribution.values()) - 1) < 1e-9
    return max(abs(distribution.get(text, 0.0) - other.get(text, 0.0)) for text in {*distribution, *other})
