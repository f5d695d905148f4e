"""A checkpoint runs on a GPU where there is one; elsewhere it is not measured, and says why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from exported import exported

from edgetf.core.device import load_device
from edgetf.core.errors import DeviceError
from edgetf.runtime.load import load_backend
from edgetf.validation.golden import deployable_model
from edgetf.validation.row import Settings
from edgetf.validation.validate import validate

torch = pytest.importorskip("torch", reason="needs edgetf[compress]")
GPU = torch.cuda.is_available()


def test_it_joins_by_its_entry_point() -> None:
    assert load_backend("torch_cuda").name == "torch_cuda"


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="torch_cuda: got provider cuda:int3, allowed here: cuda, cuda:float16"):
        load_backend("torch_cuda").load(tmp_path / "model.safetensors", 1, "cuda:int3")


@pytest.mark.skipif(GPU, reason="there is a GPU here")
def test_without_a_gpu_a_checkpoint_is_not_measured() -> None:
    row = validate(exported("bert").checkpoint, load_device("host_torch_cuda"), None, {"speedup": 2}, Settings())
    assert (row.how, row.verdict) == ("not_measured", "not_measured")
    assert "there is no NVIDIA GPU here" in row.why[0]
    assert row.checks[0]["verdict"] == "not_measured"


@pytest.mark.skipif(not GPU, reason="no NVIDIA GPU here")
@pytest.mark.parametrize("provider", ["cuda", "cuda:bfloat16"])
def test_on_a_gpu_the_answers_are_those_of_the_exported_file(provider: str) -> None:
    source = exported("bert")
    model = deployable_model(source.checkpoint, "torch_cuda")
    on_gpu = load_backend("torch_cuda").load(model.path, 1, provider).run(source.batch())
    on_cpu = load_backend("ort").load(source.path, 1).run(source.batch())
    assert np.abs(on_gpu - on_cpu).max() < (1e-4 if provider == "cuda" else 0.1)


def test_a_build_without_the_provider_is_not_measured() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has it")
    row = validate(exported("bert").artifact, load_device("host_cuda"), None, {}, Settings())
    assert (row.how, row.verdict) == ("not_measured", "not_measured")
    assert "got provider CUDAExecutionProvider, allowed here:" in row.why[0]
    assert json.dumps(row.backend) == "{}"
