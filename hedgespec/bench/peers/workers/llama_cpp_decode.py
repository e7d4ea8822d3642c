"""llama.cpp through llama-cpp-python: its batched decoding for plain text, its own prompt lookup class for the other."""

import ctypes

import llama_cpp
import numpy as np
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding
from peer_lines import Decode, Job, TimedAnswer, serve

CHUNK = 512


def load(job: Job) -> tuple[str, Decode]:
    return llama_cpp.__version__, with_lookup(job) if job["prompt_lookup"] else plain(job)


def with_lookup(job: Job) -> Decode:
    drafter = LlamaPromptLookupDecoding(num_pred_tokens=job["prompt_lookup"])
    threads = {"n_threads": job["threads"], "n_threads_batch": job["threads"]}
    model = llama_cpp.Llama(job["model"], n_ctx=job["max_context"], draft_model=drafter, verbose=False, **threads)

    def decode(prompts: list[list[int]], max_tokens: int) -> list[TimedAnswer]:
        answer = TimedAnswer()
        for token in model.generate(prompts[0], temp=0.0, repeat_penalty=1.0):
            answer.add([token])
            if token in job["end_ids"] or len(answer.token_ids) >= max_tokens:
                break
        model.reset()
        return [answer]

    return decode


def plain(job: Job) -> Decode:
    """Return greedy decoding of several sequences in one context: one `llama_decode` per step for all of them."""
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(job["model"].encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp cannot load {job['model']}")
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max = job["max_context"] * job["at_once"], job["at_once"]
    settings.n_batch = settings.n_ubatch = CHUNK
    settings.n_threads = settings.n_threads_batch = job["threads"]
    context = llama_cpp.llama_init_from_model(model, settings)
    if not context:
        raise RuntimeError("llama.cpp cannot make a context")
    batch = llama_cpp.llama_batch_init(CHUNK, 0, 1)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def step(rows: list[tuple[int, int, int, bool]]) -> dict[int, int]:
        """Compute rows of (token, position, sequence, wants the next token); return the next tokens by sequence."""
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[index], batch.pos[index] = token, position
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
            batch.logits[index] = wanted
        if llama_cpp.llama_decode(context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        next_tokens = {}
        for index, (_, _, sequence, wanted) in enumerate(rows):
            if wanted:
                logits = ctypes.cast(llama_cpp.llama_get_logits_ith(context, index), ctypes.POINTER(ctypes.c_float))
                next_tokens[sequence] = int(np.ctypeslib.as_array(logits, shape=(vocab,)).argmax())
        return next_tokens

    def decode(prompts: list[list[int]], max_tokens: int) -> list[TimedAnswer]:
        answers = [TimedAnswer() for _ in prompts]
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        prompt_rows = [
            (token, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        found: dict[int, int] = {}
        for start in range(0, len(prompt_rows), CHUNK):
            chunk = step(prompt_rows[start : start + CHUNK])
            for sequence, token in chunk.items():
                answers[sequence].add([token])
            found |= chunk
        while True:
            rows = []
            for sequence, token in found.items():
                if token not in job["end_ids"] and len(answers[sequence].token_ids) < max_tokens:
                    position = len(prompts[sequence]) + len(answers[sequence].token_ids) - 1
                    rows.append((token, position, sequence, True))
            if not rows:
                return answers
            found = step(rows)
            for sequence, token in found.items():
                answers[sequence].add([token])

    return decode


serve(load)
