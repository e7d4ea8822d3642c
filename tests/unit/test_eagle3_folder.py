"""Published EAGLE-3 folders load unchanged; unsafe or broken ones are refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hedgespec.errors import ModelFolderError
from hedgespec.models.eagle3.config import Eagle3Config, feature_layers
from hedgespec.models.eagle3.head import Eagle3Head, load_eagle3, save_eagle3
from hedgespec.models.folder import read_embedding
from hedgespec.models.rotary import RopeConfig, Rotary, rope_config


@pytest.fixture
def config() -> Eagle3Config:
    return Eagle3Config(32, 32, 48, 4, 2, 8, 64, 40, 128, 1e-5, RopeConfig())


@pytest.fixture
def head(config: Eagle3Config) -> Eagle3Head:
    torch.manual_seed(0)
    head = Eagle3Head(config)
    torch.nn.init.normal_(head.embed_tokens.weight)
    head.draft_to_target = torch.randperm(config.vocab_size)[: config.draft_vocab_size].sort().values
    return head


@pytest.fixture
def folder(head: Eagle3Head, tmp_path: Path) -> Path:
    save_eagle3(head, tmp_path, dtype=torch.float32)
    return tmp_path


def test_saved_head_loads_with_equal_weights_and_draft_map(head: Eagle3Head, folder: Path) -> None:
    loaded = load_eagle3(folder, head.embed_tokens.weight)
    assert torch.equal(loaded.draft_to_target, head.draft_to_target)
    for name, tensor in head.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert torch.equal(
        loaded.midlayer.self_attn.rotary.inverse_frequency, head.midlayer.self_attn.rotary.inverse_frequency
    )


def test_saved_maps_have_the_published_meaning(head: Eagle3Head, folder: Path) -> None:
    """target_id = draft_id + d2t[draft_id]; t2d marks the ids that can be drafted."""
    tensors = load_file(folder / "model.safetensors")
    assert torch.equal(torch.arange(40) + tensors["d2t"], head.draft_to_target)
    assert tensors["t2d"].nonzero().flatten().tolist() == head.draft_to_target.tolist()
    assert not any("embed" in name for name in tensors)


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("layer", ["midlayer.", "layers.0."])
def test_every_published_name_form_loads(head: Eagle3Head, folder: Path, prefix: str, layer: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    renamed = {prefix + name.replace("midlayer.", layer): tensor for name, tensor in tensors.items()}
    renamed[prefix + "embed_tokens.weight"] = head.embed_tokens.weight.detach()
    save_file(renamed, folder / "model.safetensors")
    loaded = load_eagle3(folder, None)
    assert torch.equal(loaded.fc.weight, head.fc.weight)
    assert torch.equal(loaded.midlayer.mlp.up_proj.weight, head.midlayer.mlp.up_proj.weight)


def test_pickled_weights_are_refused(head: Eagle3Head, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelFolderError, match=r"pytorch_model\.bin"):
        load_eagle3(folder, head.embed_tokens.weight)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(head: Eagle3Head, folder: Path, bad: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["midlayer.mlp.up_proj.weight"][3, 1] = bad
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelFolderError, match=r"midlayer\.mlp\.up_proj\.weight"):
        load_eagle3(folder, head.embed_tokens.weight)


def test_missing_and_misshapen_tensors_are_refused_by_name(head: Eagle3Head, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k != "fc.weight"}, folder / "model.safetensors")
    with pytest.raises(ModelFolderError, match=r"fc\.weight"):
        load_eagle3(folder, head.embed_tokens.weight)
    save_file({**tensors, "norm.weight": torch.ones(3)}, folder / "model.safetensors")
    with pytest.raises(ModelFolderError, match=r"norm\.weight"):
        load_eagle3(folder, head.embed_tokens.weight)


def test_truncated_weights_and_missing_embedding_are_refused(head: Eagle3Head, folder: Path) -> None:
    with pytest.raises(ModelFolderError, match="embed_tokens"):
        load_eagle3(folder, None)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ModelFolderError, match="safetensors"):
        load_eagle3(folder, head.embed_tokens.weight)


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": 2}, {"norm_before_fc": True}, {"hidden_act": "gelu"},
               {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, {"hidden_size": "wide"}],
)  # fmt: skip
def test_unsupported_variants_are_refused(head: Eagle3Head, folder: Path, change: dict[str, object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelFolderError):
        load_eagle3(folder, head.embed_tokens.weight)


def test_full_draft_vocabulary_needs_no_map(config: Eagle3Config, tmp_path: Path) -> None:
    published = config.to_published() | {"draft_vocab_size": 64, "target_hidden_size": 24, "norm_before_residual": True}
    head = Eagle3Head(Eagle3Config.from_published(published))
    save_eagle3(head, tmp_path, dtype=torch.float32)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k not in ("d2t", "t2d")}, tmp_path / "model.safetensors")
    loaded = load_eagle3(tmp_path, head.embed_tokens.weight)
    assert loaded.draft_to_target.tolist() == list(range(64))
    assert loaded.fuse(torch.zeros(5, 72)).shape == (5, 32)


def test_embedding_is_read_from_a_sharded_target(tmp_path: Path) -> None:
    weight = torch.randn(6, 4)
    save_file({"model.embed_tokens.weight": weight}, tmp_path / "model-00002-of-00002.safetensors")
    save_file({"lm_head.weight": torch.randn(6, 4)}, tmp_path / "model-00001-of-00002.safetensors")
    weight_map = {
        "lm_head.weight": "model-00001-of-00002.safetensors",
        "model.embed_tokens.weight": "model-00002-of-00002.safetensors",
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert torch.equal(read_embedding(tmp_path), weight)
    weight_map["lm_head.weight"] = "../elsewhere.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelFolderError, match="elsewhere"):
        read_embedding(tmp_path)


def test_feature_layers_are_the_published_ones() -> None:
    assert feature_layers(32) == (2, 16, 29)
    assert feature_layers(12) == (2, 6, 9)
    with pytest.raises(ModelFolderError):
        feature_layers(3)


def test_llama3_rope_scaling_equals_transformers() -> None:
    pytest.importorskip("transformers")
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192, "rope_theta": 500000.0}  # fmt: skip
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](
        LlamaConfig(hidden_size=64, num_attention_heads=2, rope_parameters=scaling), "cpu"
    )
    ours = Rotary(rope_config({"rope_parameters": scaling}), 32).inverse_frequency
    torch.testing.assert_close(ours, theirs)


def test_loading_a_head_does_not_import_a_compiler(folder: Path) -> None:
    """The import would cost every drafter's process two seconds; some calls on the meta device cause it."""
    program = f"""
import sys, torch
from pathlib import Path
from hedgespec.models.eagle3.head import load_eagle3
before = set(sys.modules)
load_eagle3(Path({str(folder)!r}), torch.zeros(64, 32))
assert not {{"torch._dynamo", "sympy"}} & (set(sys.modules) - before)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
