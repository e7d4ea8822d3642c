"""vLLM's engine on the CPU in float32, compiled as by default, without its prefix cache, as everyone else here."""

import os

from peer_lines import Decode, Job, TimedAnswer, serve


def load(job: Job) -> tuple[str, Decode]:
    cpus = sorted(os.sched_getaffinity(0))[: job["threads"]]
    os.environ |= {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cpus)),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    import vllm

    lookup = {"method": "ngram", "num_speculative_tokens": job["prompt_lookup"], "prompt_lookup_max": 3}
    engine = vllm.LLM(
        job["model"],
        dtype="float32",
        max_model_len=job["max_context"],
        max_num_seqs=job["at_once"],
        enable_prefix_caching=False,
        skip_tokenizer_init=True,
        speculative_config=lookup | {"prompt_lookup_min": 1} if job["prompt_lookup"] else None,
    ).llm_engine

    def decode(prompts: list[list[int]], max_tokens: int) -> list[TimedAnswer]:
        sampling = vllm.SamplingParams(
            temperature=0.0, max_tokens=max_tokens, stop_token_ids=job["end_ids"], detokenize=False
        )
        answers = {str(index): TimedAnswer() for index in range(len(prompts))}
        for index, prompt in enumerate(prompts):
            engine.add_request(str(index), {"prompt_token_ids": prompt}, sampling)
        while engine.has_unfinished_requests():
            for output in engine.step():
                answer = answers[output.request_id.partition("-")[0]]
                answer.add(list(output.outputs[0].token_ids)[len(answer.token_ids) :])
        return list(answers.values())

    return vllm.__version__, decode


if __name__ == "__main__":
    serve(load)
