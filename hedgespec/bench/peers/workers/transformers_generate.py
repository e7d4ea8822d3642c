"""Transformers' `generate` in float32 with its default cache; several prompts are padded on the left."""

import torch
import transformers
from peer_lines import Decode, Job, TimedAnswer, serve


class Streamer:
    """Receives ids from `generate`: first the prompt's, then one call per step."""

    def __init__(self, answer: TimedAnswer) -> None:
        self._answer, self._is_prompt = answer, True

    def put(self, value: torch.Tensor) -> None:
        if not self._is_prompt:
            self._answer.add(value.reshape(-1).tolist())
        self._is_prompt = False

    def end(self) -> None:
        pass


def load(job: Job) -> tuple[str, Decode]:
    torch.set_num_threads(job["threads"])
    model = transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32, local_files_only=True)
    model.eval()
    options = {"do_sample": False, "eos_token_id": job["end_ids"], "pad_token_id": job["end_ids"][0]}
    lookup = {"prompt_lookup_num_tokens": job["prompt_lookup"]} if job["prompt_lookup"] else {}

    def one(prompt: list[int], max_tokens: int) -> TimedAnswer:
        answer, ids = TimedAnswer(), torch.tensor([prompt])
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_tokens,
            streamer=Streamer(answer),
            **options,
            **lookup,
        )
        return answer

    def many(prompts: list[list[int]], max_tokens: int) -> list[TimedAnswer]:
        answers = [TimedAnswer() for _ in prompts]
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])

        def seen(input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
            for answer, token in zip(answers, input_ids[:, -1].tolist(), strict=True):
                answer.add([token])
            return torch.zeros(len(prompts), dtype=torch.bool)

        model.generate(ids, attention_mask=mask, max_new_tokens=max_tokens, stopping_criteria=[seen], **options)
        return answers

    def decode(prompts: list[list[int]], max_tokens: int) -> list[TimedAnswer]:
        with torch.inference_mode():
            return [one(prompts[0], max_tokens)] if len(prompts) == 1 else many(prompts, max_tokens)

    return transformers.__version__, decode


serve(load)
