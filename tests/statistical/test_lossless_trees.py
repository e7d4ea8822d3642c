"""Losslessness of everything that is more than a chain, exactly: the distribution of a round's first tokens is enumerated.

`walk_rejection` itself runs. It asks `keep` with a probability; the harness answers both ways and multiplies, and it sums
over every draft with the probability of drawing it. What a round emits is completed to two tokens by the target, so that
wrong distributions at the second token show as well. No false alarms: the tolerance is 1e-9, far above the error of float64.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from hedgespec.models.tabular import TabularModel
from hedgespec.speculative import tree_walk
from hedgespec.speculative.merging import merge
from hedgespec.speculative.noise import Purpose, gumbel_argmax, uniform
from hedgespec.speculative.tree_walk import walk_match, walk_rejection
from hedgespec.types import DraftTree, SparseRows

VOCAB = 3
TOLERANCE = 1e-9
PROMPT = [2, 1]

Drafts = Iterator[tuple[DraftTree, float]]
"""Every tree that can be drafted, with its probability."""

Distribution = dict[tuple[int, int], float]


def models(seed: int) -> tuple[TabularModel, TabularModel, TabularModel]:
    target = TabularModel(VOCAB, order=2, seed=seed, sharpness=1.2)
    return target, target.related(0.6, seed + 1), TabularModel(VOCAB, order=2, seed=seed + 2, sharpness=1.2)


def iid_chains(model: TabularModel, num_chains: int, length: int) -> Drafts:
    """Independent chains of one distribution: duplicates are allowed."""
    for chains in product(list(sampled(model, length)), repeat=num_chains):
        yield (
            tree_of([tokens for tokens, _, _ in chains], [distributions for _, distributions, _ in chains]),
            float(np.prod([prob for _, _, prob in chains])),
        )


def distinct_chains(model: TabularModel, num_chains: int, length: int) -> Drafts:
    """First tokens without replacement; the distribution that travels is the one without the earlier siblings."""

    def grow(taken: list[int], prob: float) -> Drafts:
        if len(taken) == num_chains:
            rests = [list(sampled(model, length - 1, (first,))) for first in taken]
            for tails in product(*rests):
                chains = [(first, *tokens) for first, (tokens, _, _) in zip(taken, tails, strict=True)]
                distributions = [[without(model.probs(PROMPT), taken[:k]), *own] for k, (_, own, _) in enumerate(tails)]
                yield tree_of(chains, distributions), prob * float(np.prod([tail for _, _, tail in tails]))
            return
        distribution = without(model.probs(PROMPT), taken)
        for token in range(VOCAB):
            if distribution[token] > 0:
                yield from grow([*taken, token], prob * distribution[token])

    yield from grow([], 1.0)


def deterministic_tree(model: TabularModel, children: Sequence[int]) -> Drafts:
    """The best children of every node, level by level: one tree, chosen with certainty, without distributions."""
    tokens, parents, level = [], [], [(-1, ())]
    for num_children in children:
        deeper = []
        for node, path in level:
            for token in np.argsort(-model.probs([*PROMPT, *path]))[:num_children].tolist():
                tokens.append(token)
                parents.append(node)
                deeper.append((len(tokens) - 1, (*path, token)))
        level = deeper
    yield DraftTree(np.array(tokens, np.int32), np.array(parents, np.int32)), 1.0


def merged(first: Callable[[], Drafts], second: Callable[[], Drafts], budget: int = 99) -> Drafts:
    """Two drafters draft independently; the first one's nodes are tried first."""
    for (tree, prob), (other, other_prob) in product(list(first()), list(second())):
        yield merge([(0, tree), (1, other)], budget), prob * other_prob


def without_distributions(drafts: Drafts) -> Drafts:
    """Sampled tokens count as certain: lossless for every single draft, so for any distribution of drafts as well."""
    for tree, prob in drafts:
        yield replace(tree, draft_probs=None), prob


FORMS: dict[str, Callable[[TabularModel, TabularModel], Drafts]] = {
    "2 iid chains of 2": lambda a, b: iid_chains(a, 2, 2),
    "3 iid chains of 1": lambda a, b: iid_chains(a, 3, 1),
    "2 distinct chains of 2": lambda a, b: distinct_chains(a, 2, 2),
    "3 distinct chains of 1": lambda a, b: distinct_chains(a, 3, 1),
    "deterministic 2 x 2": lambda a, b: deterministic_tree(b, (2, 2)),
    "deterministic 3 x 1": lambda a, b: deterministic_tree(a, (3, 1)),
    "2 iid chains of 2, distributions withheld": lambda a, b: without_distributions(iid_chains(a, 2, 2)),
    "merged chains of two drafters": lambda a, b: merged(lambda: iid_chains(a, 1, 2), lambda: iid_chains(b, 1, 2)),
    "merged, cut to three nodes": lambda a, b: merged(lambda: iid_chains(b, 1, 2), lambda: iid_chains(a, 1, 2), 3),
    "merged distinct and iid": lambda a, b: merged(lambda: distinct_chains(a, 2, 1), lambda: iid_chains(b, 2, 1)),
    "merged deterministic and iid": lambda a, b: merged(
        lambda: deterministic_tree(b, (2, 1)), lambda: iid_chains(a, 2, 1)
    ),
    "merged deterministic trees": lambda a, b: merged(
        lambda: deterministic_tree(a, (1, 2)), lambda: deterministic_tree(b, (2, 1))
    ),
}


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("seed", [0, 10, 20])
def test_the_output_distribution_is_the_targets(form: str, seed: int) -> None:
    """The first two tokens follow the target, whatever is drafted."""
    target, close, unrelated = models(seed)
    assert distance(output_distribution(target, FORMS[form](close, unrelated)), target_distribution(target)) < TOLERANCE


def keep_the_distribution(target_probs: np.ndarray, ids: np.ndarray, probs: np.ndarray) -> np.ndarray:
    return target_probs


def remove_the_mass_only(target_probs: np.ndarray, ids: np.ndarray, probs: np.ndarray) -> np.ndarray:
    rest = target_probs.copy()
    rest[ids[0]] = 0.0
    return rest / rest.sum() if rest.sum() > 0 else target_probs


@pytest.mark.parametrize("form", ["2 iid chains of 2", "merged chains of two drafters", "3 distinct chains of 1"])
@pytest.mark.parametrize(
    "wrong", [keep_the_distribution, remove_the_mass_only], ids=["no residual", "one token removed"]
)
def test_a_wrong_rule_is_caught(monkeypatch: pytest.MonkeyPatch, form: str, wrong: Callable[..., np.ndarray]) -> None:
    """The enumeration can fail: siblings tried against one distribution, or a residual without the whole draft."""
    target, close, unrelated = models(0)
    monkeypatch.setattr(tree_walk, "residual_row", wrong)
    assert distance(output_distribution(target, FORMS[form](close, unrelated)), target_distribution(target)) > 1e-3


def test_counting_the_same_sample_of_two_drafters_once_is_caught() -> None:
    """Sampled drafts are not merged by common beginnings: one node for two draws changes the distribution."""
    target, close, unrelated = models(0)

    def deduplicated() -> Drafts:
        for (tree, prob), (other, other_prob) in product(
            list(iid_chains(close, 1, 1)), list(iid_chains(unrelated, 1, 1))
        ):
            same = tree.token_ids[0] == other.token_ids[0]
            yield (tree if same else merge([(0, tree), (1, other)], 9)), prob * other_prob

    assert distance(output_distribution(target, deduplicated()), target_distribution(target)) > 1e-3


def test_a_deterministic_node_accepts_with_the_summed_mass_of_its_children() -> None:
    """Li et al. 2024a: acceptance of a tree level is the target's probability of the child set."""
    target, close, _ = models(3)
    ((tree, _),) = deterministic_tree(close, (2,))
    accepted = sum(prob for path, _, prob in outcomes(target, tree) if path)
    assert accepted == pytest.approx(float(target.probs(PROMPT)[tree.token_ids].sum()), abs=1e-12)


def test_coupled_and_greedy_walks_emit_the_targets_own_tokens_on_any_tree() -> None:
    """500 random trees: what is emitted is what plain keyed decoding emits, however much of it the tree had guessed."""
    target = models(7)[0]
    rng = np.random.default_rng(0)
    num_accepted = 0
    for seed in range(500):
        tree = random_tree(rng, int(rng.integers(1, 9)))
        for is_greedy in (True, False):
            alone = own_tokens(target, seed, is_greedy, 10)
            paths = tree_walk.path_tokens(tree)

            def own(node: int, depth: int, seed: int = seed, greedy: bool = is_greedy, rows: list = paths) -> int:
                return keyed(target, [*PROMPT, *rows[node + 1]], seed, depth, greedy)

            path, last = walk_match(tree, own)
            emitted = [*(int(tree.token_ids[node]) for node in path), last]
            assert emitted == alone[: len(emitted)]
            num_accepted += len(path)
    assert num_accepted > 300


def test_merged_nodes_belong_to_their_first_drafter_and_the_budget_cuts_the_last() -> None:
    first = DraftTree(np.array([1, 2, 0], np.int32), np.array([-1, 0, 0], np.int32))
    second = DraftTree(np.array([1, 0, 1], np.int32), np.array([-1, 0, 1], np.int32))
    tree = merge([(4, first), (2, second)], 9)
    assert tree.token_ids.tolist() == [1, 2, 0, 1]
    assert tree.parent.tolist() == [-1, 0, 0, 2]
    assert tree.drafter_index is not None
    assert tree.drafter_index.tolist() == [4, 4, 4, 2]
    assert merge([(4, first), (2, second)], 3).num_nodes == 3
    assert merge([(4, first), (2, second)], 2).parent.tolist() == [-1, 0]


# ------------------------------------------------------------------------------------------------------- the harness


def output_distribution(target: TabularModel, drafts: Drafts) -> Distribution:
    distribution: Distribution = defaultdict(float)
    for tree, draft_prob in drafts:
        for path, last_distribution, prob in outcomes(target, tree):
            tokens = tuple(int(tree.token_ids[node]) for node in path)
            for last in range(VOCAB):
                mass = draft_prob * prob * last_distribution[last]
                emitted = (*tokens, last)
                if len(emitted) >= 2:
                    distribution[emitted[:2]] += mass
                    continue
                for after, own in enumerate(target.probs([*PROMPT, last])):
                    distribution[last, after] += mass * own
    return distribution


def outcomes(target: TabularModel, tree: DraftTree) -> Iterator[tuple[list[int], np.ndarray, float]]:
    """(accepted path, distribution of the next token, probability) for every sequence of decisions."""
    paths = tree_walk.path_tokens(tree)
    pending: list[list[bool]] = [[]]
    while pending:
        script = pending.pop()
        asked: list[float] = []

        def keep(
            depth: int, ordinal: int, prob: float, script: list[bool] = script, asked: list[float] = asked
        ) -> bool:
            asked.append(prob)
            return script[len(asked) - 1] if len(asked) <= len(script) else False

        path, distribution = walk_rejection(tree, lambda node: target.probs([*PROMPT, *paths[node + 1]]), keep)
        decisions = [*script, *[False] * (len(asked) - len(script))]
        pending += [[*decisions[:k], True] for k in range(len(script), len(asked))]
        yield (
            path,
            distribution,
            float(np.prod([p if kept else 1.0 - p for p, kept in zip(asked, decisions, strict=True)])),
        )


def sampled(
    model: TabularModel, length: int, before: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], list[np.ndarray], float]]:
    """(tokens, their distributions, probability) of every chain of a length."""
    for tokens in product(range(VOCAB), repeat=length):
        distributions = [model.probs([*PROMPT, *before, *tokens[:k]]) for k in range(length)]
        yield (
            tokens,
            distributions,
            float(np.prod([distribution[token] for distribution, token in zip(distributions, tokens, strict=True)])),
        )


def tree_of(chains: Sequence[Sequence[int]], distributions: Sequence[Sequence[np.ndarray]]) -> DraftTree:
    tokens = [token for chain in chains for token in chain]
    parents = [-1 if k == 0 else start + k - 1 for start, chain in starts_of(chains) for k in range(len(chain))]
    rows = [distribution for own in distributions for distribution in own]
    kept = [np.flatnonzero(distribution) for distribution in rows]
    offsets = np.cumsum([0, *(len(ids) for ids in kept)]).astype(np.int32)
    # float64, where float32 travels: the proof is about the rule, not about rounding
    probs = np.concatenate([distribution[ids] for distribution, ids in zip(rows, kept, strict=True)])
    sparse = SparseRows(offsets, np.concatenate(kept).astype(np.int32), probs)  # type: ignore[arg-type]
    return DraftTree(np.array(tokens, np.int32), np.array(parents, np.int32), sparse)


def starts_of(chains: Sequence[Sequence[int]]) -> Iterator[tuple[int, Sequence[int]]]:
    start = 0
    for chain in chains:
        yield start, chain
        start += len(chain)


def without(distribution: np.ndarray, taken: Sequence[int]) -> np.ndarray:
    rest = distribution.copy()
    rest[list(taken)] = 0.0
    return rest / rest.sum()


def random_tree(rng: np.random.Generator, num_nodes: int) -> DraftTree:
    parent = [int(rng.integers(-1, node)) for node in range(num_nodes)]
    return DraftTree(rng.integers(0, VOCAB, num_nodes).astype(np.int32), np.array(parent, np.int32))


def keyed(target: TabularModel, ids: list[int], seed: int, index: int, is_greedy: bool) -> int:
    distribution = target.probs(ids)
    return (
        int(distribution.argmax())
        if is_greedy
        else gumbel_argmax(np.arange(VOCAB, dtype=np.int32), distribution, seed, index)
    )


def own_tokens(target: TabularModel, seed: int, is_greedy: bool, num_tokens: int) -> list[int]:
    tokens: list[int] = []
    for index in range(num_tokens):
        tokens.append(keyed(target, [*PROMPT, *tokens], seed, index, is_greedy))
    return tokens


def target_distribution(target: TabularModel) -> Distribution:
    first = target.probs(PROMPT)
    return {(x, y): first[x] * target.probs([*PROMPT, x])[y] for x, y in product(range(VOCAB), repeat=2)}


def distance(distribution: Distribution, other: Distribution) -> float:
    assert abs(sum(distribution.values()) - 1) < 1e-9
    return max(abs(distribution.get(pair, 0.0) - other[pair]) for pair in other)


def test_siblings_have_noise_of_their_own_and_the_first_one_that_of_a_chain() -> None:
    from hedgespec.speculative.noise import uniforms

    noise = uniforms(5, 3, Purpose.ACCEPT, np.arange(4))
    assert noise[0] == uniform(5, 3, Purpose.ACCEPT)
    assert len(set(noise.tolist())) == 4
