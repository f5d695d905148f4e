"""Tiny exported ONNX files, each made once in a test session by the export stage itself, and rows to calibrate them."""

from __future__ import annotations

import atexit
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from tiny import LABELS, tiny_classifier, tiny_dataset, tiny_split

from edgetf.config.recipe import Recipe
from edgetf.config.stages import ExportConfig, FinetuneConfig
from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.core.metrics import Floats
from edgetf.data.dataset import Dataset
from edgetf.formats.quantization import Feeds, Quantization
from edgetf.formats.quantize import quantize_file
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, load_classifier
from edgetf.runtime.encoder import Encoder
from edgetf.runtime.inputs import Batch
from edgetf.runtime.ort import OrtBackend
from edgetf.stages import export, finetune
from edgetf.stages.calibrate import feeds_of
from edgetf.stages.context import Context

DATA = tiny_dataset()
CALIBRATED = ("w8a8", "w8a16", "fp8_e4m3")
TEXTS = tiny_split(64, seed=7)


@cache
def top() -> Path:
    """A folder that goes when the tests end."""
    folder = Path(mkdtemp(prefix="edgetf-exported-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def context_of(rows: Dataset = DATA, **fields: Any) -> Context:
    """What a stage is given beside its source, in silence."""
    tree: dict[str, Any] = {
        "name": "tiny",
        "teacher": {"source": "somewhere"},
        "data": {"source": "somewhere.csv", "max_length": 32},
        "stages": [{"stage": "export", "formats": ["onnx"]}],
    }
    recipe = Recipe.model_validate({**tree, **fields})
    return Context(recipe, rows, report=lambda done, total, note: None, say=lambda remark: None)


@dataclass(frozen=True)
class Exported:
    """A checkpoint and its fp32 ONNX file, both sealed."""

    checkpoint: Artifact
    artifact: Artifact
    context: Context

    @property
    def model(self) -> Any:
        return load_classifier(self.checkpoint.path, head=self.context.head)

    @property
    def path(self) -> Path:
        return self.artifact.model_path

    @property
    def pad_id(self) -> int:
        return int(self.artifact.spec.details["pad_id"])

    @property
    def encoder(self) -> Encoder:
        return self.context.encoder(self.artifact.path, self.pad_id)

    def feeds(self, rows: int = 48) -> Feeds:
        """Calibration rows as the file takes them."""
        train = self.context.data.train
        chosen = train.select(list(range(min(rows, len(train)))))
        return feeds_of(chosen, self.encoder, self.artifact.spec.details["inputs"], None)

    def batch(self) -> Batch:
        """Texts that did not calibrate, padded to the longest."""
        return self.encoder.batch([pieces[0] for pieces in self.encoder.pieces(TEXTS.texts)])


def sealed_export(checkpoint: Artifact, context: Context, folder: Path, **settings: Any) -> Exported:
    """What the export stage makes of a checkpoint."""
    config = ExportConfig(formats=("onnx",), **settings)
    artifact = seal(
        folder, stage="export", key=folder.name, parents=[checkpoint], made={},
        write=lambda out: export.run(config, checkpoint, context, out, "onnx"),
    )  # fmt: skip
    return Exported(checkpoint, artifact, context)


def sealed_checkpoint(source: Path, context: Context, folder: Path) -> Artifact:
    """A checkpoint as the pipeline takes it in."""

    def write(out: Path) -> tuple[Spec, float]:
        params = copy_checkpoint(source, out)
        pad_id = load_classifier(out, head=context.head).config.pad_token_id
        return Spec("torch", WEIGHTS, params, details=context.input_details(pad_id)), 0.0

    return seal(folder, stage="teacher", key=folder.name, parents=[], made={}, write=write)


@cache
def exported(family: str, opset: int = 20) -> Exported:
    """A random classifier of a family, exported."""
    folder, context = top() / f"{family}-{opset}", context_of()
    checkpoint = sealed_checkpoint(tiny_classifier(family, folder / "source", LABELS), context, folder / "0-teacher")
    return sealed_export(checkpoint, context, folder / "1-export", opset=opset)


@cache
def quantized(family: str, how: Quantization) -> Path:
    """Its file in a scheme."""
    source = exported(family)
    path = top() / f"{family}-{abs(hash(how)):x}.onnx"
    quantize_file("onnx", source.path, path, how, source.feeds() if how.scheme in CALIBRATED else None)
    return path


def answers(path: Path, batch: Batch) -> Floats:
    """Logits (B, C) of a file."""
    return np.asarray(OrtBackend().load(path, 1).run(batch), dtype=np.float64)


@cache
def trained(family: str = "bert") -> Exported:
    """A classifier of a family that knows its rows, exported."""
    folder, context = top() / f"{family}-trained", context_of()
    source = sealed_checkpoint(tiny_classifier(family, folder / "source", LABELS), context, folder / "0-teacher")
    config = FinetuneConfig(epochs=5, batch_size=8, learning_rate=5e-3, threads=1)
    checkpoint = seal(
        folder / "1-finetune", stage="finetune", key="finetune", parents=[source], made={},
        write=lambda out: finetune.run(config, source, context, out),
    )  # fmt: skip
    return sealed_export(checkpoint, context, folder / "2-export")
