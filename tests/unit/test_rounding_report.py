"""`hedgespec models compare` and `bench engine` with rounded weights say what they measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from deployments.cli import app
from hedgespec import zoo
from hedgespec.bench.engine import model_size
from hedgespec.bench.rounding import OWN_ANSWERS, compare_rounded, num_texts
from hedgespec.config import AppArgs, TargetConfig
from hedgespec.errors import ConfigError
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.lean import target_matrix
from hedgespec.models.lean.lean_network import accelerate
from hedgespec.models.lean.rowwise_int8 import can_use_rowwise_int8
from hedgespec.tokenization import Tokenizer
from tests.model_folders import make_llama

needs_int8 = pytest.mark.skipif(not can_use_rowwise_int8(), reason="needs a torch with int8 products")


@needs_int8
def test_a_target_agrees_with_itself_and_less_with_its_rounded_self() -> None:
    folder = zoo.target_folder()
    tokenizer, seen = Tokenizer.from_folder(folder), []
    same = compare_rounded(folder, "none", tokenizer, 40, 1, lambda: seen.append(1))
    rounded = compare_rounded(folder, "int4", tokenizer, 40, 1, lambda: seen.append(1))
    assert same.total.top1 == 1.0
    assert same.total.divergence == pytest.approx(0.0, abs=1e-9)
    assert same.total.perplexity == same.total.rounded_perplexity
    assert same.total.num_tokens == 6 * 39 + 20 == rounded.total.num_tokens
    assert rounded.total.top1 < 1.0
    assert rounded.total.divergence > 1e-3
    assert rounded.total.perplexity == same.total.perplexity
    assert set(rounded.by_text) == {*zoo.DOMAINS, OWN_ANSWERS}
    assert len(seen) == 2 * num_texts(1)


@needs_int8
def test_the_commands_write_reports(tmp_path: Path) -> None:
    compared, measured = tmp_path / "compared.json", tmp_path / "measured.json"
    options = ["models", "compare", "zoo", "--tokens", "16", "--answers", "0", "--json", str(compared)]
    assert CliRunner().invoke(app, options).exit_code == 0
    total = json.loads(compared.read_text())["report"]["total"]
    assert total["num_tokens"] == 6 * 15
    steps = ["--batch", "1", "--block", "1", "--block", "8", "--context", "64", "--repeats", "2"]
    result = CliRunner().invoke(app, ["bench", "engine", "--quantization", "int8", *steps, "--json", str(measured)])
    assert result.exit_code == 0
    assert "Eight tokens cost" in " ".join(result.output.split())
    content = json.loads(measured.read_text())
    assert content["settings"]["quantization"] == "int8"
    assert content["report"]["weight_bytes"] < content["report"]["num_parameters"] * 1.1


def test_a_pass_reads_the_bytes_of_its_rounded_weights(tmp_path: Path) -> None:
    model = load_causal_lm(make_llama(tmp_path, tie_word_embeddings=False), "cpu", "target").model
    matrices = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)]
    norms = sum(p.numel() for p in model.parameters() if p.dim() == 1)
    output = model.get_output_embeddings().weight.numel()
    assert model_size(model).weight_bytes == 4 * (sum(matrices) + norms)
    assert model_size(model, "bf16").weight_bytes == 2 * sum(matrices) + 4 * norms
    assert model_size(model, "int8").weight_bytes == sum(matrices) + 4 * norms
    assert model_size(model, "int4").weight_bytes == (sum(matrices) - output) * 5 / 8 + output + 4 * norms


def test_quantization_is_refused_where_it_would_be_ignored() -> None:
    with pytest.raises(ValueError, match=r"quantization int8 is for models on device cpu, not for device cuda"):
        TargetConfig(quantization="int8", device="cuda")
    with pytest.raises(ValueError, match=r"not for model tabular:3"):
        AppArgs.model_validate({"target": {"model": "tabular:3", "quantization": "bf16"}})


def test_a_torch_without_the_products_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_matrix, "can_use_rowwise_int8", lambda: False)
    model = load_causal_lm(make_llama(tmp_path), "cpu", "target")
    with pytest.raises(ConfigError, match=r"target: quantization int8 needs products that torch"):
        accelerate(model, "int8")
