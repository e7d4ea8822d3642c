"""OpenVINO GenAI's pipelines on a GGUF file, with their defaults for the CPU."""

import numpy as np
import openvino
import openvino_genai
from peer_lines import Decode, Job, TimedAnswer, serve


def load(job: Job) -> tuple[str, Decode]:
    options = {"prompt_lookup": True} if job["prompt_lookup"] else {}
    pipeline = openvino_genai.LLMPipeline(job["model"], "CPU", INFERENCE_NUM_THREADS=job["threads"], **options)

    def config(max_tokens: int) -> openvino_genai.GenerationConfig:
        made = openvino_genai.GenerationConfig()
        made.max_new_tokens, made.do_sample = max_tokens, False
        made.eos_token_id, made.stop_token_ids = job["end_ids"][0], set(job["end_ids"])
        if job["prompt_lookup"]:
            made.num_assistant_tokens, made.max_ngram_size = job["prompt_lookup"], 3
        return made

    def decode(prompts: list[list[int]], max_tokens: int) -> list[TimedAnswer]:
        answers = [TimedAnswer() for _ in prompts]
        longest = max(map(len, prompts))
        ids = np.array([[0] * (longest - len(p)) + p for p in prompts], dtype=np.int64)
        mask = np.array([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], dtype=np.int64)
        if len(prompts) > 1:
            inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(mask))
            result = pipeline.generate(inputs, config(max_tokens))
            first_ms = result.perf_metrics.get_ttft().mean
            for answer, tokens in zip(answers, result.tokens, strict=True):
                answer.add(list(tokens), first_s=first_ms / 1e3)
            return answers
        streamer = Streamer(answers[0])
        result = pipeline.generate(openvino.Tensor(ids), config(max_tokens), streamer)
        answers[0].add(list(result.tokens[0]), first_s=streamer.first_s)
        return answers

    return openvino_genai.__version__, decode


class Streamer(openvino_genai.StreamerBase):
    """Notes when the first token came."""

    def __init__(self, answer: TimedAnswer) -> None:
        super().__init__()
        self._answer, self.first_s = answer, 0.0

    def write(self, token: int | list[int]) -> openvino_genai.StreamingStatus:
        if self.first_s == 0.0:
            self.first_s = self._answer.elapsed()
        return openvino_genai.StreamingStatus.RUNNING

    def end(self) -> None:
        pass


serve(load)
