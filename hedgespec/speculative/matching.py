"""Chains under `greedy` and `coupled`: the target emits its own token, and a draft is kept as long as it guessed that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hedgespec.sampling.processing import largest_ids
from hedgespec.speculative.device_sampling import draw_coupled
from hedgespec.speculative.noise import coupled_keys, gumbel_argmax
from hedgespec.speculative.verification import Emitted, VerifyContext
from hedgespec.types import DraftTree


def match_largest(trees: Sequence[DraftTree], logits: Sequence[Tensor]) -> list[Emitted]:
    """Decide greedy chains without their distributions: every emitted token is an argmax, of probability 1.

    logits: per session [num_nodes + 1, vocab], shaped
    """
    best = largest_ids(torch.cat(list(logits)) if len(logits) > 1 else logits[0]).tolist()
    emitted, first = [], 0
    for tree in trees:
        tokens = _longest_match(tree, best[first : first + tree.num_nodes + 1])
        first += tree.num_nodes + 1
        emitted.append(Emitted(list(range(len(tokens) - 1)), tokens, np.ones(len(tokens))))
    return emitted


def match_chains(
    trees: Sequence[DraftTree], probs: Sequence[Tensor], contexts: Sequence[VerifyContext]
) -> list[Emitted]:
    """Decide chains by their distributions. probs: per session [num_nodes + 1, vocab]."""
    if not probs[0].is_cpu:
        return match_on_device(trees, probs, contexts)
    return [_match_on_cpu(*of_session) for of_session in zip(trees, probs, contexts, strict=True)]


def _match_on_cpu(tree: DraftTree, probs: Tensor, context: VerifyContext) -> Emitted:
    """Look at rows up to the first mismatch only: on the CPU the noise of further ones would cost more than it saves."""
    rows = probs.numpy()
    if context.params.method == "greedy":
        tokens = _longest_match(tree, rows.argmax(axis=-1).tolist())
    else:
        tokens, ids = [], np.arange(rows.shape[1], dtype=np.int32)
        for row, drafted in enumerate([*tree.token_ids.tolist(), -1]):
            tokens.append(gumbel_argmax(ids, rows[row], context.noise_seed, context.first_output_index + row))
            if tokens[-1] != drafted:
                break
    return Emitted(list(range(len(tokens) - 1)), tokens, rows[np.arange(len(tokens)), tokens])


def match_on_device(
    trees: Sequence[DraftTree], probs: Sequence[Tensor], contexts: Sequence[VerifyContext]
) -> list[Emitted]:
    """Find the own tokens of all rows, reached or not, and their probabilities: the device is waited for once."""
    rows = torch.cat(list(probs))
    lengths = [len(own) for own in probs]
    ids = torch.arange(rows.shape[1], device=rows.device).unsqueeze(0)
    keys = [
        coupled_keys(context.noise_seed, context.first_output_index + np.arange(length))
        for context, length in zip(contexts, lengths, strict=True)
    ]
    sampled = draw_coupled(ids, rows, torch.from_numpy(np.concatenate(keys)).to(rows.device))
    is_greedy = np.repeat([context.params.method == "greedy" for context in contexts], lengths)
    own = torch.where(torch.from_numpy(is_greedy).to(rows.device), rows.argmax(dim=-1), sampled)
    found = torch.stack((own.double(), rows.gather(1, own[:, None])[:, 0].double())).cpu().numpy()
    emitted = []
    for tree, (tokens, values) in zip(trees, np.split(found, np.cumsum(lengths)[:-1], axis=1), strict=True):
        kept = _longest_match(tree, tokens.astype(np.int64).tolist())
        emitted.append(Emitted(list(range(len(kept) - 1)), kept, values[: len(kept)]))
    return emitted


def _longest_match(tree: DraftTree, own_tokens: Sequence[int]) -> list[int]:
    """Keep draft tokens as long as they equal the target's own token, then add that one."""
    drafted = tree.token_ids.tolist()
    num_kept = next((i for i, token in enumerate(drafted) if token != own_tokens[i]), len(drafted))
    return list(own_tokens[: num_kept + 1])
