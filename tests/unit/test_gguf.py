"""GGUF files become model folders that mean the same; whatever cannot be served is refused by name."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import AutoModelForCausalLM, PreTrainedModel

from hedgespec.assembly.local_service import local_service
from hedgespec.assembly.model_cache import converted_folder, made_once
from hedgespec.assembly.model_sources import check_sources, located
from hedgespec.config import AppArgs
from hedgespec.errors import ModelFolderError
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.gguf import weights
from hedgespec.models.gguf.convert import check_gguf
from hedgespec.models.gguf.rope_factors import llama3_factors
from hedgespec.types import GenerationRequest, SamplingParams
from tests.gguf_files import SPECIAL, write_gguf
from tests.model_folders import MAKERS, VOCAB_SIZE, make_gemma3, make_llama, make_qwen2

KINDS = (Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1)
NUM_TOKENS = 24


def app_args(path: Path, state_dir: Path) -> AppArgs:
    return AppArgs.model_validate(
        {"target": {"model": str(path)}, "drafters": [{"id": "ngram", "kind": "ngram"}], "state_dir": str(state_dir)}
    )


async def served_ids(args: AppArgs, prompt: np.ndarray, drafter: str | None) -> list[int]:
    sampling = SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS)
    ids: list[int] = []
    async with local_service(args) as local:
        request = GenerationRequest("one", "default", prompt, sampling, drafter=drafter)
        async with aclosing(local.service.generate(request)) as chunks:
            async for chunk in chunks:
                ids += [int(token) for token in chunk.token_ids]
    return ids


def generated_ids(model: PreTrainedModel, prompt: np.ndarray) -> list[int]:
    """Greedy ids of transformers' own loop."""
    ids = torch.from_numpy(prompt.astype(np.int64))[None]
    answer = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=NUM_TOKENS,
        eos_token_id=2,
        pad_token_id=0,
    )
    return [int(token) for token in answer[0, len(prompt) :]]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_file_is_served_as_transformers_reads_its_values(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "tiny.gguf"
    reference = write_gguf(make_llama(tmp_path / "llama"), path, kind)
    prompt = np.random.default_rng(0).integers(3, VOCAB_SIZE, 12, dtype=np.int32)
    expected = [token for token in generated_ids(reference, prompt) if token >= len(SPECIAL)]  # these are not shown
    args = app_args(path, tmp_path / "state")
    assert check_sources(args) == []
    assert located(args).target.model_name == "tiny"
    for drafter in ("ngram", "none"):
        assert await served_ids(args, prompt, drafter) == expected


@pytest.mark.parametrize("maker", ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3"])
@torch.no_grad()
def test_every_architecture_keeps_its_weights_and_its_logits(tmp_path: Path, maker: str) -> None:
    """The tensors' names in the file come from the `gguf` package, so two tables have to agree."""
    changes = {"sliding_window": 512} if maker == "mistral" else {}  # GGUF files state no window for Mistral
    folder = {**MAKERS, "gemma3": make_gemma3}[maker](tmp_path / maker, **changes)
    path = tmp_path / f"{maker}.gguf"
    original = write_gguf(folder, path)
    made = converted_folder(path, tmp_path / "state")
    copy = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32).eval()
    for name, parameter in original.named_parameters():
        assert torch.allclose(parameter, copy.get_parameter(name), rtol=0, atol=1e-6), name
    ids = torch.randint(3, VOCAB_SIZE, (1, 20), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(original(ids).logits, copy(ids).logits, rtol=0, atol=1e-4)
    load_causal_lm(made, "cpu", "target")


def test_weights_in_several_files_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.gguf"
    original = write_gguf(make_llama(tmp_path / "llama"), path)
    monkeypatch.setattr(weights, "MAX_SHARD_BYTES", 20_000)
    made = converted_folder(path, tmp_path / "state")
    assert len(list(made.glob("*.safetensors"))) > 2
    copy = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
    assert all(torch.equal(p, copy.get_parameter(name)) for name, p in original.named_parameters())
    load_causal_lm(made, "cpu", "target")


def test_the_stretched_rotary_embedding_of_llama_3_is_recovered(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    folder = make_llama(tmp_path / "llama", rope_parameters=rope, max_position_embeddings=131072)
    model = AutoModelForCausalLM.from_pretrained(folder)
    plain = 500000.0 ** -(np.arange(0, 8, 2) / 8)
    factors = plain / model.model.rotary_emb.inv_freq.numpy()
    assert np.allclose(factors, llama3_factors(500000.0, 8, 32.0), rtol=1e-5)
    path = tmp_path / "llama3.gguf"
    write_gguf(folder, path, rope_factors=factors)
    made = converted_folder(path, tmp_path / "state")
    assert AutoModelForCausalLM.from_pretrained(made).config.rope_parameters == rope
    write_gguf(folder, path, rope_factors=np.array([1, 2, 3, 4]))
    with pytest.raises(ModelFolderError, match=r"rope_freqs\.weight.*llama3 rule"):
        check_gguf(path)


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"llama.expert_count": 8}, r"llama\.expert_count = 8"),
        ({"llama.rope.scaling.type": "yarn"}, "'yarn'"),
        ({"llama.block_count": None}, r"llama\.block_count is missing"),
        ({"llama.block_count": "six"}, r"llama\.block_count must be of kind int"),
        ({"llama.block_count": 2**31}, "out of range"),
        ({"llama.block_count": 7}, r"'blk\.6\.attn_norm\.weight' is missing"),
        ({"llama.block_count": 5}, r"tensors \['blk\.5\."),
        ({"llama.feed_forward_length": 2**30}, r"'blk\.0\.ffn_gate\.weight' has shape \[64, 32\]"),
        ({"llama.rope.dimension_count": 4}, "different widths"),
        ({"tokenizer.ggml.tokens": ["a", "b"]}, r"'token_embd\.weight' has shape"),
        ({"tokenizer.ggml.model": "t5"}, "'t5' is not supported"),
        ({"tokenizer.ggml.pre": "klingon"}, "'klingon' is not supported"),
        ({"tokenizer.ggml.merges": ["t q"]}, "its tokenizer cannot be rebuilt"),
        ({"tokenizer.ggml.eos_token_id": 96, "tokenizer.ggml.add_eos_token": True}, "cannot be rebuilt"),
        ({"tokenizer.chat_template": "{% for %}"}, "chat template does not compile"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(tmp_path: Path, metadata: dict[str, Any], named: str) -> None:
    path, state = tmp_path / "tiny.gguf", tmp_path / "state"
    write_gguf(make_llama(tmp_path / "llama"), path, metadata=metadata)
    with pytest.raises(ModelFolderError, match=named) as caught:
        converted_folder(path, state)
    assert str(tmp_path) in str(caught.value)
    assert not [p for p in state.rglob("*") if p.suffix != ".lock" and p.name != "models"]


def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(make_llama(tmp_path / "llama"), path)
    path.write_bytes(path.read_bytes().replace(b"llama", b"mamba"))
    with pytest.raises(ModelFolderError, match="architecture 'mamba' is not supported, only llama, qwen2"):
        check_gguf(path)
    assert len(check_sources(app_args(path, tmp_path))) == 1


@pytest.mark.parametrize("kind", [Kind.I32, Kind.Q8_K, 77])
def test_a_tensor_type_that_cannot_be_dequantized_is_refused_by_name(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(make_llama(tmp_path / "llama"), path)
    content = path.read_bytes()
    entry = content.index(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight") + 4 + 2 * 8
    path.write_bytes(content[:entry] + int(kind).to_bytes(4, "little") + content[entry + 4 :])
    with pytest.raises(ModelFolderError, match=r"'blk\.0\.attn_q\.weight' has .*" + getattr(kind, "name", "77")):
        check_gguf(path)


def test_missing_and_foreign_tensors_are_named(tmp_path: Path) -> None:
    folder, path = make_llama(tmp_path / "llama"), tmp_path / "tiny.gguf"
    write_gguf(folder, path, tensors=lambda name, values: None if name == "blk.3.ffn_up.weight" else values)
    with pytest.raises(ModelFolderError, match=r"'blk\.3\.ffn_up\.weight' is missing"):
        check_gguf(path)
    biased = make_qwen2(tmp_path / "qwen2")
    write_gguf(biased, path, architecture="llama")
    with pytest.raises(ModelFolderError, match=r"tensors \['blk\.0\.attn_k\.bias'"):
        check_gguf(path)


def test_truncated_files_are_refused_wherever_they_end(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(make_llama(tmp_path / "llama"), path, Kind.Q4_0)
    content = path.read_bytes()
    for end in (0, 3, 4, 11, 24, 100, len(content) // 10, len(content) // 2, len(content) - 33):
        path.write_bytes(content[:end])
        with pytest.raises(ModelFolderError, match=r"tiny\.gguf"):
            check_gguf(path)


def test_damaged_headers_raise_nothing_but_our_error(tmp_path: Path) -> None:
    """Lengths of 2^64 and the like are noticed before anything is allocated."""
    path = tmp_path / "tiny.gguf"
    write_gguf(make_llama(tmp_path / "llama"), path)
    content = path.read_bytes()
    header_size = content.rindex(b"output_norm.weight")
    rng = random.Random(0)
    num_refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        at = rng.randrange(header_size)
        damaged[at : at + 8] = rng.choice([b"\xff" * 8, rng.randbytes(8), b"\0" * 8])
        path.write_bytes(damaged)
        try:
            check_gguf(path)
        except ModelFolderError:
            num_refused += 1
    assert num_refused > 150


# ---------------------------------------------------------------------------------------------------------------- cache


def test_two_processes_convert_one_file_once(tmp_path: Path) -> None:
    path, state = tmp_path / "tiny.gguf", tmp_path / "state"
    write_gguf(make_llama(tmp_path / "llama"), path)
    program = (
        "import sys, time, pathlib, hedgespec.models.gguf.convert as c\n"
        "from hedgespec.assembly.model_cache import converted_folder\n"
        "real = c.convert\n"
        "c.convert = lambda *given: (print('converting'), time.sleep(1), real(*given))\n"
        "print(converted_folder(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", program, str(path), str(state)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [process.communicate(timeout=60)[0].split() for process in both]
    assert sorted(map(len, lines)) == [1, 2]
    assert lines[0][-1] == lines[1][-1]
    load_causal_lm(Path(lines[0][-1]), "cpu", "target")


def test_a_changed_file_is_another_model(tmp_path: Path) -> None:
    path, state = tmp_path / "tiny.gguf", tmp_path / "state"
    write_gguf(make_llama(tmp_path / "llama"), path)
    first = converted_folder(path, state)
    assert converted_folder(path, state) == first
    write_gguf(make_llama(tmp_path / "other", seed=1), path)
    assert converted_folder(path, state) != first


def test_what_an_interrupted_conversion_left_is_never_taken_for_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "m"

    def be_interrupted() -> None:
        with made_once(folder) as unfinished:
            assert unfinished is not None
            (unfinished / "config.json").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    assert [path.suffix for path in folder.parent.iterdir()] == [".lock"]
    left = folder.with_name(".m.part")  # by a process that was killed
    left.mkdir()
    (left / "junk").touch()
    with made_once(folder) as again:
        assert again is not None
        assert not list(again.iterdir())
    assert folder.is_dir()
    with made_once(folder) as third:
        assert third is None
