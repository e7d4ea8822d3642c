"""`accept` and `validate_tree`: edge cases of the decisions, batches, and drafts that must be refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hedgespec.errors import InvalidDraft
from hedgespec.sampling.processing import process_logits
from hedgespec.sampling.token_counts import TokenCounts
from hedgespec.speculative.acceptance import accept
from hedgespec.speculative.chain_rejection import acceptance_probs, inverse_cdf, residual
from hedgespec.speculative.matching import match_on_device
from hedgespec.speculative.noise import Purpose, gumbels, uniform
from hedgespec.speculative.proposal import propose, truncate
from hedgespec.speculative.sparse_rows import concatenate
from hedgespec.speculative.validation import MAX_NODES, validate_tree
from hedgespec.speculative.verification import VerifyContext
from hedgespec.types import EMPTY_DRAFT, MAX_SPARSE_IDS, DraftForm, DraftTree, SamplingParams, SparseRows

VOCAB = 16
GREEDY = SamplingParams(temperature=0.0)
REJECTION = SamplingParams(temperature=1.0)
COUPLED = SamplingParams(temperature=1.0, seed=5)


def context(params: SamplingParams, seed: int = 1, **changes: object) -> VerifyContext:
    return replace(VerifyContext(params, noise_seed=seed, first_output_index=10), **changes)


def random_logits(num_rows: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(num_rows, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def drafted(draft_logits: torch.Tensor, params: SamplingParams, seed: int = 1) -> DraftTree:
    """A chain proposed from unconditional rows."""
    rows = truncate(process_logits(draft_logits, params))
    tokens = [propose(*rows.row(i), params.method, seed, 10 + i, 2) for i in range(rows.num_rows)]
    return DraftTree.chain(np.array(tokens), rows if params.method == "rejection" else None)


def sparse(*rows: dict[int, float]) -> SparseRows:
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32)
    ids = np.array([token for row in rows for token in row], np.int32)
    return SparseRows(offsets, ids, np.array([prob for row in rows for prob in row.values()], np.float32))


@pytest.mark.parametrize("params", [GREEDY, REJECTION, COUPLED])
def test_accept_emits_one_token_for_an_empty_draft(params):
    verdict = accept([EMPTY_DRAFT], random_logits(1), [context(params)])[0]
    assert verdict.num_accepted == 0
    assert len(verdict.token_ids) == len(verdict.target_probs) == 1


@pytest.mark.parametrize("params", [GREEDY, REJECTION, COUPLED])
def test_accept_emits_bonus_token_when_every_draft_token_survives(params):
    """A drafter equal to the target is always fully accepted."""
    logits = random_logits(5)
    logits[:, 8:] = -torch.inf  # so few ids that truncation at 0.99 of the mass can be undone below
    rows = process_logits(logits[:4], params)
    full = concatenate([sparse(dict(enumerate(row.tolist()))) for row in rows[:, :8]])
    tokens = [propose(*full.row(i), params.method, 1, 10 + i, 2) for i in range(4)]
    tree = DraftTree.chain(np.array(tokens), full if params.method == "rejection" else None)
    verdict = accept([tree], logits, [context(params)])[0]
    assert verdict.accepted_nodes.tolist() == [0, 1, 2, 3]
    assert verdict.token_ids[:4].tolist() == tokens
    assert len(verdict.token_ids) == 5


def test_rejection_accepts_and_recovers_exactly_as_its_noise_says():
    """`accept` is `acceptance_probs` and `residual` applied to the keyed noise, draft after draft."""
    for seed in range(60):
        logits, draft_logits = random_logits(4, seed), random_logits(3, seed + 1000)
        tree = drafted(draft_logits, REJECTION, seed)
        probs = process_logits(logits, REJECTION)
        kept = 0
        distribution = probs[3]
        for node, token in enumerate(tree.token_ids.tolist()):
            ids, values = tree.draft_probs.row(node)
            values = values.astype(np.float64) / values.sum(dtype=np.float64)
            keep_prob = min(1.0, float(probs[node, token]) / float(values[ids == token][0]))
            if uniform(seed, 10 + node, Purpose.ACCEPT) >= keep_prob:
                distribution = probs[node].clone()
                distribution[torch.from_numpy(ids).long()] -= torch.from_numpy(values)
                distribution = distribution.clamp(min=0) / distribution.clamp(min=0).sum()
                break
            kept += 1
        ends = distribution.cumsum(dim=0).numpy()
        recovered = int(np.searchsorted(ends, uniform(seed, 10 + kept, Purpose.RECOVER)))
        verdict = accept([tree], logits, [context(REJECTION, seed)])[0]
        assert verdict.token_ids.tolist() == [*tree.token_ids[:kept].tolist(), recovered]
        expected = [float(probs[row, token]) for row, token in enumerate(verdict.token_ids)]
        np.testing.assert_allclose(verdict.target_probs, expected, rtol=1e-6)


def test_coupled_emits_the_keyed_sample_of_each_row_until_the_draft_differs():
    logits = random_logits(4)
    probs = process_logits(logits, COUPLED).numpy()
    own = [int((np.log(probs[row]) + gumbels(1, 10 + row, np.arange(VOCAB))).argmax()) for row in range(4)]
    wrong = (own[1] + 1) % VOCAB
    for draft, emitted in [(own[:3], own), ([own[0], wrong, own[2]], own[:2]), ([wrong], own[:1])]:
        tree = DraftTree.chain(np.array(draft))
        expected = emitted if draft[0] == own[0] else own[:1]
        verdict = accept([tree], logits[: len(draft) + 1], [context(COUPLED)])[0]
        assert verdict.token_ids.tolist() == expected


def test_a_draft_token_that_the_target_excludes_is_always_rejected():
    """top_k 1 leaves one id; whatever was drafted, that id comes out."""
    params = SamplingParams(temperature=1.0, top_k=1)
    logits = random_logits(3)
    best = logits.argmax(dim=-1).tolist()
    tree = DraftTree.chain(np.array([(best[0] + 1) % VOCAB, 0]), sparse({(best[0] + 1) % VOCAB: 1.0}, {0: 1.0}))
    for seed in range(20):
        assert accept([tree], logits, [context(params, seed)])[0].token_ids.tolist() == [best[0]]


def test_residual_of_equal_distributions_falls_back_to_the_target():
    """Equal distributions are reached through rounding only, but must not divide by zero."""
    probs = torch.tensor([[0.25, 0.75, 0.0]])
    distribution = residual(probs, torch.tensor([[0, 1]]), torch.tensor([[0.25, 0.75]], dtype=torch.float64))
    assert distribution.tolist() == [[0.25, 0.75, 0.0]]


def test_residual_keeps_only_what_the_draft_lacks():
    probs = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], dtype=torch.float64)
    ids, values = torch.tensor([[2, 0], [0, 0]]), torch.tensor([[0.4, 0.6], [0.0, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(residual(probs, ids, values), [[0.0, 1.0, 0.0], [0.5, 0.3, 0.2]])


def test_acceptance_probability_is_the_clipped_ratio():
    probs = acceptance_probs(torch.tensor([0.2, 0.5, 0.0]), torch.tensor([0.4, 0.1, 1.0]))
    assert probs.tolist() == [0.5, 1.0, 0.0]


def test_a_point_at_the_end_of_a_distribution_stays_within_it():
    distributions = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert inverse_cdf(distributions, torch.tensor([1.0, 1e-12], dtype=torch.float64)).tolist() == [1, 1]


def test_what_a_device_finds_for_all_rows_is_what_the_walk_along_a_chain_finds():
    """The walk on the CPU reads no rows behind a mismatch, other devices read all; the tokens are the same."""
    for seed in range(40):
        params = [COUPLED, GREEDY, replace(COUPLED, temperature=0.5, top_k=3)][seed % 3]
        logits, other = random_logits(5, seed).float(), random_logits(4, seed + 500).float()
        own = process_logits(logits, params)
        agreeing = seed % 2
        tree = drafted(logits[:4] if agreeing else other, params, seed)
        given = [tree, EMPTY_DRAFT], [own, own[:1]], [context(params, seed), context(params, seed + 1)]
        on_cpu = accept(given[0], torch.cat((logits, logits[:1])), given[2])
        for verdict, emitted in zip(on_cpu, match_on_device(*given), strict=True):
            assert emitted.nodes == verdict.accepted_nodes.tolist()
            assert emitted.tokens == verdict.token_ids.tolist()
            np.testing.assert_allclose(emitted.probs, verdict.target_probs, rtol=1e-6)


def test_a_batch_gives_every_session_what_it_would_get_alone():
    """Mixed methods, parameters, lengths and penalties in one call; nothing leaks between neighbours."""
    shaped = SamplingParams(temperature=0.7, top_p=0.9, top_k=9, presence_penalty=0.8, logit_bias=((3, 1.5),))
    cases = [GREEDY, REJECTION, COUPLED, shaped, replace(shaped, seed=3), replace(shaped, temperature=0.0), REJECTION]
    trees, contexts, blocks = [], [], []
    for number, params in enumerate(cases):
        num_nodes = number % 4
        counts = TokenCounts([1, 2, 3], [4, number])
        contexts.append(context(params, seed=number, counts=counts, num_target_top=number % 3))
        trees.append(drafted(random_logits(num_nodes, 50 + number), params, number) if num_nodes else EMPTY_DRAFT)
        blocks.append(random_logits(num_nodes + 1, number).float())
    together = accept(trees, torch.cat(blocks), contexts)
    for verdict, tree, block, own in zip(together, trees, blocks, contexts, strict=True):
        alone = accept([tree], block, [own])[0]
        assert verdict.token_ids.tolist() == alone.token_ids.tolist()
        assert verdict.accepted_nodes.tolist() == alone.accepted_nodes.tolist()
        assert verdict.target_probs.tolist() == alone.target_probs.tolist()
        assert (verdict.target_top is None) == (own.num_target_top == 0)


def test_penalties_see_the_draft_ancestors_of_each_row():
    """Token 5 is the favourite of every row, but once drafted it is penalised below token 6."""
    logits = torch.full((3, VOCAB), -10.0)
    logits[:, 5], logits[:, 6], logits[:, 7] = 3.0, 2.0, 1.0
    params = SamplingParams(temperature=0.0, presence_penalty=1.5)
    tree = DraftTree.chain(np.array([5, 6]))
    verdict = accept([tree], logits, [context(params, counts=TokenCounts([5]))])[0]
    assert verdict.token_ids.tolist() == [5, 6, 5]


def test_target_top_holds_the_largest_probabilities_of_the_emitted_positions():
    logits = random_logits(4)
    tree = drafted(logits[:3] + 0.1, REJECTION)
    verdict = accept([tree], logits, [context(REJECTION, num_target_top=4)])[0]
    probs = process_logits(logits, REJECTION).numpy()
    assert verdict.target_top.num_rows == len(verdict.token_ids)
    for row in range(verdict.target_top.num_rows):
        ids, values = verdict.target_top.row(row)
        assert ids.tolist() == np.argsort(-probs[row])[:4].tolist()
        np.testing.assert_allclose(values, probs[row][ids], rtol=1e-6)


def test_target_top_leaves_out_ids_without_probability():
    params = SamplingParams(temperature=1.0, top_k=2)
    verdict = accept([EMPTY_DRAFT], random_logits(1), [context(params, num_target_top=8)])[0]
    assert len(verdict.target_top.ids) == 2


def test_no_sessions_give_no_verdicts():
    assert accept([], torch.zeros(0, VOCAB), []) == []


def test_a_wrong_number_of_logit_rows_is_our_own_error():
    with pytest.raises(ValueError, match="2 rows of logits, got 3"):
        accept([DraftTree.chain(np.array([1]))], random_logits(3), [context(GREEDY)])


VALID = DraftTree.chain(np.array([3, 4]), sparse({3: 0.5, 9: 0.5}, {4: 1.0}))


@pytest.mark.parametrize("method", ["greedy", "rejection", "coupled"])
def test_a_valid_chain_and_an_empty_draft_pass(method):
    validate_tree(VALID, method, VOCAB, 5)
    validate_tree(EMPTY_DRAFT, method, VOCAB, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_ids": np.array([3, VOCAB], np.int32)}, "must lie in"),
        ({"token_ids": np.array([-1, 4], np.int32)}, "must lie in"),
        ({"token_ids": np.array([3, 4, 5], np.int32)}, "one per token"),
        ({"token_ids": np.array([[3, 4]], np.int32)}, "one per token"),
        ({"parent": np.array([-1, 1], np.int32)}, "earlier node"),
        ({"parent": np.array([-2, 0], np.int32)}, "earlier node"),
        ({"draft_probs": None}, "needs draft_probs"),
        ({"draft_probs": sparse({3: 1.0})}, "one per token"),
        ({"draft_probs": sparse({3: 1.0}, {})}, "row lengths"),
        ({"draft_probs": SparseRows(np.array([0, 1, 3]), np.array([3, 4]), np.ones(2, np.float32))}, "row lengths"),
        ({"draft_probs": SparseRows(np.array([0, 1, 2]), np.array([3, 4]), np.ones(3, np.float32))}, "row lengths"),
        ({"draft_probs": SparseRows(np.array([1, 1, 2]), np.array([3, 4]), np.ones(2, np.float32))}, "row lengths"),
        ({"draft_probs": sparse({3: 1.0}, {4: 0.5, VOCAB: 0.5})}, "ids of a draft distribution"),
        ({"draft_probs": sparse({3: 1.0}, {4: 1.0, -1: 0.0})}, "ids of a draft distribution"),
        ({"draft_probs": sparse({3: 1.0}, {4: float("nan")})}, "finite"),
        ({"draft_probs": sparse({3: 1.0}, {4: float("inf")})}, "finite"),
        ({"draft_probs": sparse({3: 1.0}, {4: 1.5, 5: -0.5})}, "not negative"),
        ({"draft_probs": sparse({3: 1.0}, {4: 0.99})}, "sum to 1"),
        ({"draft_probs": sparse({3: 1.0}, {5: 1.0})}, "no mass"),
        ({"draft_probs": sparse({3: 1.0}, {5: 1.0, 4: 0.0})}, "no mass"),
        (
            {"draft_probs": SparseRows(np.array([0, 1, 3]), np.array([3, 4, 4]), np.array([1, 0.5, 0.5], np.float32))},
            "stands twice",
        ),
    ],
)
def test_a_draft_that_cannot_be_verified_is_refused_with_the_reason(changes, message):
    with pytest.raises(InvalidDraft, match=message):
        validate_tree(replace(VALID, **changes), "rejection", VOCAB, 5)


def test_too_long_drafts_and_distributions_are_refused():
    with pytest.raises(InvalidDraft, match="at most 1 are allowed"):
        validate_tree(VALID, "greedy", VOCAB, 1)
    wide = {token: 1 / (MAX_SPARSE_IDS + 1) for token in range(MAX_SPARSE_IDS + 1)}
    with pytest.raises(InvalidDraft, match="at most 512"):
        validate_tree(DraftTree.chain(np.array([0]), sparse(wide)), "rejection", 1000, 5)


def test_trees_are_bounded_in_depth_and_nodes_and_say_what_they_were_drawn_from():
    """A tree of a session whose form is a tree may come without distributions; sampled forms may not."""
    tree = DraftTree(np.array([3, 4, 5], np.int32), np.array([-1, -1, 0], np.int32))
    validate_tree(tree, "rejection", VOCAB, 2, DraftForm("tree", 2))
    for form in (DraftForm("iid", 2), DraftForm("distinct", 2), DraftForm()):
        with pytest.raises(InvalidDraft, match="needs draft_probs"):
            validate_tree(tree, "rejection", VOCAB, 2, form)
    with pytest.raises(InvalidDraft, match="in a row"):
        validate_tree(tree, "greedy", VOCAB, 1)
    wide = DraftTree(np.zeros(MAX_NODES + 1, np.int32), np.full(MAX_NODES + 1, -1, np.int32))
    with pytest.raises(InvalidDraft, match="at most 128"):
        validate_tree(wide, "greedy", VOCAB, 5)
    with pytest.raises(InvalidDraft, match="drafters of shape"):
        validate_tree(replace(tree, drafter_index=np.zeros(2, np.int16)), "greedy", VOCAB, 5)


def test_trees_and_chains_of_one_batch_are_decided_each_as_alone():
    """One call for all methods and forms gives the verdicts of single calls, target_top included."""
    branched = DraftTree(np.array([3, 4, 5, 3], np.int32), np.array([-1, -1, 0, 1], np.int32))
    trees, rows, contexts = [], [], []
    for seed, params in enumerate([GREEDY, REJECTION, COUPLED] * 6):
        logits = random_logits(5, seed)
        own = process_logits(logits, params)
        tree = [drafted(random_logits(4, seed + 50), params, seed), branched][seed % 2]
        if tree is branched and params is REJECTION:
            distributions = concatenate([sparse({int(token): 0.75, 9: 0.25}) for token in branched.token_ids])
            tree = replace(branched, draft_probs=distributions)
        if tree is branched:
            best = int(own[0].argmax())
            tree = replace(branched, token_ids=np.array([best, 4, int(own[1].argmax()), 3], np.int32))
        trees.append(tree)
        rows.append(logits[: tree.num_nodes + 1])
        contexts.append(context(params, seed, num_target_top=3))
    together = accept(trees, torch.cat(rows), contexts)
    num_deep = 0
    for tree, own, one, verdict in zip(trees, rows, contexts, together, strict=True):
        alone = accept([tree], own, [one])[0]
        assert verdict.token_ids.tolist() == alone.token_ids.tolist()
        assert verdict.accepted_nodes.tolist() == alone.accepted_nodes.tolist()
        np.testing.assert_array_equal(verdict.target_probs, alone.target_probs)
        assert verdict.target_top is not None
        assert verdict.target_top.num_rows == len(verdict.token_ids)
        assert tree.token_ids[verdict.accepted_nodes].tolist() == verdict.token_ids[:-1].tolist()
        num_deep += not tree.is_chain and verdict.num_accepted == 2
    assert num_deep > 0


def test_draft_probs_are_not_looked_at_where_they_play_no_role():
    """Greedy and coupled acceptance only compare tokens."""
    validate_tree(replace(VALID, draft_probs=None), "coupled", VOCAB, 5)
    validate_tree(replace(VALID, draft_probs=None), "greedy", VOCAB, 5)


def test_accept_itself_refuses_what_would_break_the_distribution():
    """A token outside its own distribution is refused even when validation was forgotten."""
    outside = DraftTree.chain(np.array([3]), sparse({4: 1.0}))
    with pytest.raises(InvalidDraft, match="no mass"):
        accept([outside], random_logits(2), [context(REJECTION)])
