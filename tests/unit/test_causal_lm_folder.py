"""Folders that cannot or must not be served are refused at load, with a message that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hedgespec.errors import ModelFolderError
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.folder import weights_digest
from tests.model_folders import make_llama


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_llama(tmp_path / "model")


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, path, metadata={"format": "pt"})


def refusal(folder: Path) -> str:
    with pytest.raises(ModelFolderError) as caught:
        load_causal_lm(folder, "cpu", "target")
    return str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "target: missing folder" in refusal(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert "missing" in refusal(folder)


def test_pickled_weights_alone_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "refusing pickle-based weights, safetensors required" in refusal(folder)


def test_a_folder_with_python_code_is_refused(folder: Path) -> None:
    (folder / "modeling_custom.py").write_text("raise SystemExit")
    assert "refusing model code" in refusal(folder)


def test_an_auto_map_is_refused(folder: Path) -> None:
    edit_config(folder, auto_map={"AutoModelForCausalLM": "modeling_custom.Custom"})
    assert "refusing model code" in refusal(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    assert "link out of the folder" in refusal(folder)


def test_non_finite_weights_are_refused_by_name(folder: Path) -> None:
    weight = load_file(folder / "model.safetensors")["model.norm.weight"]
    weight[3] = float("nan")
    edit_weights(folder, "model.norm.weight", weight)
    assert "non-finite weights in model.norm.weight" in refusal(folder)


def test_a_missing_tensor_is_refused_by_name_and_not_made_up(folder: Path) -> None:
    edit_weights(folder, "model.layers.1.mlp.up_proj.weight", None)
    assert "model.layers.1.mlp.up_proj.weight" in refusal(folder)


def test_a_tensor_of_the_wrong_shape_is_refused(folder: Path) -> None:
    edit_weights(folder, "model.norm.weight", torch.ones(7))
    assert "cannot load" in refusal(folder)


def test_an_unknown_tensor_is_refused_by_name(folder: Path) -> None:
    edit_weights(folder, "model.layers.9.surprise", torch.ones(7))
    assert "model.layers.9.surprise" in refusal(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "cannot load" in refusal(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002.safetensors" in refusal(folder)


def test_a_rotary_embedding_that_depends_on_the_longest_position_is_refused(folder: Path) -> None:
    edit_config(folder, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
    assert "rope type ['dynamic']" in refusal(folder)


def test_the_digest_names_the_weights(folder: Path, tmp_path: Path) -> None:
    assert weights_digest(folder) == weights_digest(make_llama(tmp_path / "same"))
    assert weights_digest(folder) != weights_digest(make_llama(tmp_path / "other", seed=1))
