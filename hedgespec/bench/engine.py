"""Measure a target's step and the share of the memory bandwidth that it reaches (`hedgespec bench engine`).

A step takes at least the time to read once the weights and the KV rows that it attends to, at the bandwidth that a plain
copy reaches on the same machine in the same run. The copy counts every byte twice, once read and once written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from hedgespec.config import Quantization
from hedgespec.models.causal_lm.block import Block
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.lean.int4_linear import GROUP
from hedgespec.models.memory.kv_memory import KvMemory, KvSlot

COPY_BYTES = 256 << 20
PREFILL_CHUNK = 512


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The bytes of a model that a pass reads.

    num_parameters: tied tensors count once
    weight_bytes:   without the input embedding, of which a pass reads a few rows, unless it is tied to the output matrix
    """

    num_parameters: int
    weight_bytes: int
    kv_bytes_per_token: int


_BYTES: dict[Quantization, float] = {"bf16": 2.0, "int8": 1.0, "int4": 0.5 + 4 / GROUP}
"""Of a rounded weight, with its share of the steps and offsets of a group."""


def model_size(model: PreTrainedModel, quantization: Quantization = "none") -> ModelSize:
    """Measure a model before its weights are packed: packed ones are no longer parameters.

    quantization: how they will be rounded
    """
    tables = {id(p) for p in model.get_input_embeddings().parameters()}
    output = model.get_output_embeddings()
    outputs = {id(p) for p in output.parameters()} if output is not None else set()
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}

    def num_bytes(parameter: nn.Parameter) -> float:
        if quantization == "none" or id(parameter) not in matrices:
            return parameter.numel() * parameter.element_size()
        is_output = quantization == "int4" and id(parameter) in outputs
        return parameter.numel() * _BYTES["int8" if is_output else quantization]

    config = model.config.get_text_config()
    num_kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return ModelSize(
        sum(p.numel() for p in model.parameters()),
        int(sum(num_bytes(p) for p in model.parameters() if id(p) not in tables - outputs)),
        int(2 * config.num_hidden_layers * num_kv_heads * head_dim * next(model.parameters()).element_size()),
    )


@dataclass(frozen=True, slots=True)
class StepCost:
    """The cost of one step over `batch` sessions of `context` cached tokens, with `block` new rows each.

    bandwidth_share: bytes that must be read / median time / measured copy bandwidth
    ratio: median time / that of batch 1, block 1 at the same context
    """

    batch: int
    block: int
    context: int
    median_ms: float
    min_ms: float
    bytes_read: int
    bandwidth_share: float
    ratio: float


@dataclass(frozen=True, slots=True)
class EngineReport:
    """The model, the machine, and the cost of every step.

    copy_bytes_per_s: bytes read and written per second by a large copy, the bandwidth that shares refer to
    """

    model: str
    device: str
    num_threads: int
    num_parameters: int
    weight_bytes: int
    copy_bytes_per_s: float
    steps: list[StepCost]

    def in_words(self) -> str | None:
        """Say what a token of one session costs, and eight, at the shortest context; None if one was not measured."""
        alone = {step.block: step for step in reversed(self.steps) if step.batch == 1}
        if 1 not in alone:
            return None
        one = alone[1]
        rate = one.bytes_read / one.median_ms / 1e6
        words = (
            f"One token: {one.bytes_read / 1e6:.0f} MB in {one.median_ms:.1f} ms, {rate:.1f} GB/s: "
            f"{one.bandwidth_share:.0%} of what the copy reads and writes, {2 * one.bandwidth_share:.0%} of what it reads."
        )
        return f"{words} Eight tokens cost {alone[8].median_ms / one.median_ms:.2f} x one." if 8 in alone else words


def measure_engine(
    model: PackedCausalLM,
    size: ModelSize,
    batches: Sequence[int],
    blocks: Sequence[int],
    contexts: Sequence[int],
    num_repeats: int,
    advance: Callable[[], None],
) -> EngineReport:
    """Measure every combination, with repeats interleaved over the block sizes.

    advance: called after every (batch, context)
    """
    copy_bytes_per_s = copy_bandwidth(model.device)
    steps: list[StepCost] = []
    for context in contexts:
        single_s = 0.0
        for batch in batches:
            memory = KvMemory(batch * (context + max(blocks)))
            slots = [_filled_slot(model, memory, context, max(blocks), seed) for seed in range(batch)]
            seconds = _interleaved(model, slots, blocks, num_repeats)
            for block in blocks:
                median_s = float(np.median(seconds[block]))
                if (batch, block) == (min(batches), min(blocks)):
                    single_s = median_s
                num_bytes = size.weight_bytes + batch * (context + block) * size.kv_bytes_per_token
                times_ms = 1e3 * median_s, 1e3 * min(seconds[block])
                share = num_bytes / median_s / copy_bytes_per_s
                steps.append(StepCost(batch, block, context, *times_ms, num_bytes, share, median_s / single_s))
            for slot in slots:
                memory.free(slot)
            advance()
    sizes = size.num_parameters, size.weight_bytes
    return EngineReport(model.digest, str(model.device), torch.get_num_threads(), *sizes, copy_bytes_per_s, steps)


def copy_bandwidth(device: torch.device, num_repeats: int = 7) -> float:
    """Return the bytes read and written per second by a large copy, the best of several."""
    source = torch.ones(COPY_BYTES // 4, dtype=torch.float32, device=device)
    copied = torch.empty_like(source)
    best_s = float("inf")
    for _ in range(num_repeats):
        started = now_s(device)
        copied.copy_(source)
        best_s = min(best_s, now_s(device) - started)
    return 2 * COPY_BYTES / best_s


def _interleaved(
    model: PackedCausalLM, slots: Sequence[KvSlot], blocks: Sequence[int], num_repeats: int
) -> dict[int, list[float]]:
    """Return the seconds of each repeat by block size; the first repeat, which pays for allocations, is left out."""
    seconds: dict[int, list[float]] = {block: [] for block in blocks}
    for repeat in range(num_repeats + 1):
        for block in blocks:
            work = [Block(slot, _ids(model, block, repeat), wants_features=bool(model.feature_width)) for slot in slots]
            started = now_s(model.device)
            model.forward(work)
            took = now_s(model.device) - started
            if repeat > 0:
                seconds[block].append(took)
            for slot in slots:
                slot.length -= block
    return seconds


def _filled_slot(model: PackedCausalLM, memory: KvMemory, context: int, room: int, seed: int) -> KvSlot:
    slot = memory.open(context + room)
    while slot.length < context:
        num_rows = min(PREFILL_CHUNK, context - slot.length)
        model.forward([Block(slot, _ids(model, num_rows, seed), logits_from=num_rows)])
    return slot


def _ids(model: PackedCausalLM, num_rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, model.vocab_size, num_rows).astype(np.int32)


def now_s(device: torch.device) -> float:
    """Return a clock's time in seconds, after all work of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
