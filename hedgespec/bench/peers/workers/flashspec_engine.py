"""FlashSpec with its prompt lookup drafter, its only one without a second model; it has no plain decoding of its own.

It gives whole answers, so the time of the first token is not known."""

import flashspec
import torch
import transformers
from flashspec.engine import NgramDrafter, TargetModel
from peer_lines import Decode, Job, TimedAnswer, serve


def load(job: Job) -> tuple[str, Decode]:
    torch.set_num_threads(job["threads"])
    device = torch.device("cpu")
    model = transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32, local_files_only=True)
    config = flashspec.FlashSpecConfig(
        device="cpu",
        dtype="float32",
        drafter_strategy="bandit",  # with one drafter: that drafter
        eos_token_ids=tuple(job["end_ids"]),
        sampling=flashspec.SamplingConfig(temperature=0.0, gamma=job["prompt_lookup"]),
        bandit=flashspec.BanditConfig(n_arms=1),
    )
    target = TargetModel("target", device, torch.float32, model=model.eval())
    engine = flashspec.SpeculativeEngine(config, [NgramDrafter()], target)

    def decode(prompts: list[list[int]], max_tokens: int) -> list[TimedAnswer]:
        answer = TimedAnswer()
        result = engine.generate(torch.tensor(prompts), max_new_tokens=max_tokens)
        answer.add(result.output_ids[0, : result.n_tokens_generated].tolist(), first_s=float("nan"))
        return [answer]

    return flashspec.__version__, decode


serve(load)
