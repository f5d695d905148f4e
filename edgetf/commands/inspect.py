"""``edgetf inspect``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from edgetf.commands.output import print_json
from edgetf.core.artifact import MANIFEST, Artifact, open_verified, verify
from edgetf.core.errors import EXIT_FINE, ArtifactError
from edgetf.core.files import file_sha256
from edgetf.core.metrics import Metric
from edgetf.core.quiet import quiet
from edgetf.core.schemes import Format
from edgetf.core.task_names import CLASSIFICATION, LANGUAGE_MODELING, AnyTask
from edgetf.pipeline.run import artifacts_in
from edgetf.report.table import console
from edgetf.report.words import fraction, mebibytes, seconds
from edgetf.tasks import task_of

_FORMATS: dict[str, Format] = {".onnx": "onnx", ".tflite": "tflite"}


def inspect_command(place: Path, as_json: bool) -> int:
    """Look into a run, an artifact, or a model file."""
    if place.is_file():
        document = _model_file(place)
    elif (place / MANIFEST).is_file():
        document = _artifact(open_verified(place))
    elif place.is_dir():
        return _run(place, as_json)
    else:
        raise ArtifactError(f"{place}: not found; give a run, an artifact or a model file")
    if as_json:
        print_json(document)
    else:
        _print(document)
    return EXIT_FINE


def graph_of(path: Path) -> dict[str, Any] | None:
    """Operators of a model file; None where the package to read it is missing."""
    model_format = _FORMATS.get(path.suffix)
    if model_format is None:
        return None
    try:
        with quiet():
            from edgetf.formats.quantize import summarize_file

            summary = summarize_file(model_format, path)
    except ImportError:
        return None
    return {
        "ops": summary.ops,
        "weighted_ops": summary.quantizable,
        "weighted_ops_quantized": summary.quantized,
        "part_bytes": summary.part_bytes,
        "inputs": summary.inputs,
        "outputs": summary.outputs,
    }


def _model_file(path: Path) -> dict[str, Any]:
    if path.suffix not in _FORMATS:
        raise ArtifactError(f"{path}: got {path.suffix or 'no suffix'}, allowed: {', '.join(_FORMATS)}, or a folder")
    record = {"path": str(path), "size_bytes": path.stat().st_size, "sha256": file_sha256(path)}
    return {**record, "graph": graph_of(path)}


def _artifact(artifact: Artifact) -> dict[str, Any]:
    return {**artifact.manifest.to_json(), "path": str(artifact.path), "graph": graph_of(artifact.model_path)}


def _print(document: dict[str, Any]) -> None:
    out = console()
    table = Table(show_header=False)
    for name in ("path", "name", "stage", "kind", "scheme", "params", "size_bytes", "sha256", "seconds", "key"):
        if document.get(name) is not None:
            value = mebibytes(document[name]) if name == "size_bytes" else str(document[name])
            table.add_row(name, value)
    for metric in document.get("metrics", []):
        table.add_row(metric["name"], f"{fraction(Metric.from_json(metric))} (n {metric['n']})")
    decoder = document.get("details", {}).get("decoder")
    if decoder:
        table.add_row("decoder", ", ".join(f"{name} {value}" for name, value in _shape(decoder).items()))
    graph = document.get("graph")
    if graph:
        table.add_row("operators", ", ".join(f"{op} {count}" for op, count in list(graph["ops"].items())[:12]))
        table.add_row("weights quantized", f"{graph['weighted_ops_quantized']} of {graph['weighted_ops']} operators")
        for name in ("inputs", "outputs"):
            table.add_row(name, ", ".join(f"{value} {kind}" for value, kind in graph[name].items()))
        parts = {part: size for part, size in graph["part_bytes"].items() if size}
        table.add_row("constants", ", ".join(f"{part} {mebibytes(size)}" for part, size in parts.items()))
    out.print(table)
    if "files" in document:
        files = Table("file", "size", "sha256", title="every hash is right", title_justify="left")
        for entry in document["files"]:
            files.add_row(entry["path"], mebibytes(entry["size_bytes"]), entry["sha256"][:16])
        out.print(files)


def _shape(decoder: dict[str, Any]) -> dict[str, Any]:
    """What a runtime must know of a decoder, without what is only there for each layer."""
    return {name: value for name, value in decoder.items() if isinstance(value, int | str)}


def _headlines(artifacts: Sequence[Artifact]) -> tuple[str, str]:
    """The metric that a table shows of a run, and what it is called where torch measured it on the dev rows."""
    name: AnyTask = artifacts[0].spec.details.get("task", CLASSIFICATION) if artifacts else CLASSIFICATION
    if name == LANGUAGE_MODELING:
        return "perplexity", "dev_perplexity"
    task = task_of(name)
    return task.headline, task.dev_name


def _run(folder: Path, as_json: bool) -> int:
    artifacts = [verify(artifact) for artifact in artifacts_in(folder)]
    unfinished = sorted(path.name for path in folder.glob("*.partial"))
    if not artifacts and not unfinished:
        raise ArtifactError(f"{folder}: holds no artifact; give the folder that `edgetf compress` wrote")
    if as_json:
        print_json({"run": str(folder), "unfinished": unfinished, "artifacts": [_artifact(a) for a in artifacts]})
        return EXIT_FINE
    headlines = _headlines(artifacts)
    table = Table("artifact", "stage", "kind", "scheme", "parameters", "size", headlines[0], "took")
    for artifact in artifacts:
        spec = artifact.spec
        headline = next((m for m in spec.metrics if m.name in headlines), None)
        table.add_row(
            artifact.manifest.name, artifact.manifest.stage, spec.kind, spec.scheme,
            f"{spec.params:,}" if spec.params else "–", mebibytes(artifact.manifest.size_bytes),
            f"{fraction(headline)} ({headline.name})" if headline else "–", seconds(artifact.manifest.seconds),
        )  # fmt: skip
    out = console()
    out.print(table)
    out.print(f"{len(artifacts)} artifacts, every hash is right", highlight=False)
    for name in unfinished:
        out.print(f"{name}: unfinished; run the recipe again to go on", markup=False, highlight=False)
    return EXIT_FINE
