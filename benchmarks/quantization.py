"""Every quantization scheme on a sentiment teacher and on a student distilled from it, the ladder's choice, and peers.

    python benchmarks/quantization.py                  everything that is not in the results yet
    python benchmarks/quantization.py teacher faults   some sections, measured anew

Sections: teacher, student, faults, memory. Each writes its part of benchmarks/results/quantization.json
when it is done; the table is benchmarks/results/quantization.md. The data are the short texts of
benchmarks/compression.py, and so are the models; where those are not in the cache, they are trained first, which takes
hours on two cores.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from compression import RUNS, SAMPLES, SHIP, SHORT, compress, model_record, peer, recipe
from parts.data_sets import folder_of
from parts.faults import faults
from parts.memory import memory
from parts.quantization_table import markdown
from parts.sections import run_sections

from edgetf.core.metrics import accuracy_drop, mcnemar, ratio_interval, wilson
from edgetf.data.calibration import sample
from edgetf.data.tables import read_table
from edgetf.targets.local import ask_runner
from edgetf.validation.evaluation import read_evaluation

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "quantization.json"
DATA = "short_texts"
LENGTHS = (32, 128)
SCHEMES = {
    "onnx": ["w8a8_dynamic", "w8a8", "w8a16", "w8", "w4", "fp16", "fp8_e4m3"],
    "tflite": ["w8a8_dynamic", "w8a8", "w8a16", "w8", "w4", "fp16"],
}
BACKENDS = {"onnx": "ort", "tflite": "litert"}
PLAIN = "fp32, as torch writes it"
DROP = 0.005  # that the ladder may lose
Tree = dict[str, Any]


def checkpoint(model: str) -> Path:
    """The torch checkpoint of the fine-tuned teacher, or of its student."""
    if model == "teacher":
        return Path(compress(f"{DATA}-teacher", recipe(DATA, SHIP))["folder"]) / "1-finetune"
    return Path(compress(f"{DATA}-5-thin-layers-4-epochs", SHORT.recipe(DATA))["folder"]) / "3-distill"


def table_of(model: str) -> Tree:
    """All schemes of a model in both formats, what its ladders chose, and what the peers make of the same file."""
    source, found = str(checkpoint(model)), {}
    for model_format, schemes in SCHEMES.items():
        quantize = {"schemes": _kept(model, model_format, schemes), "accuracy_drop": DROP}
        stages = [{"stage": "export", "formats": [model_format], "seq_lens": list(LENGTHS)},
                  {"stage": "quantize", **quantize}]  # fmt: skip
        tree = recipe(DATA, stages, teacher=source, validation={"samples": SAMPLES})
        report = compress(f"quantization-{model}-{model_format}", tree)
        found[model_format] = _rows(report, model_format)
    return found


def _kept(model: str, model_format: str, schemes: list[str]) -> list[str]:
    """Without the teacher in 16-bit activations as TFLite, which take 20 times as long as float: hours for all rows."""
    return [scheme for scheme in schemes if (model, model_format, scheme) != ("teacher", "tflite", "w8a16")]


def _rows(report: Tree, model_format: str) -> Tree:
    """Accuracy, agreement, size and share of every file, and all of them in turns on the clock."""
    run, backend = Path(report["folder"]), BACKENDS[model_format]
    reference, rows, models = run / "teacher-onnx-fp32", {}, {}
    for variant in report["variants"]:
        name, folder = variant["name"].removeprefix(f"{model_format}-"), run / variant["name"]
        model_file = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["model_file"]
        models[name] = {**model_record(folder, model_file), "backend": backend}
        rows[name] = {"scheme": variant["scheme"], "size_bytes": variant["size_bytes"],
                      "quantized_share": variant["quantized_share"],
                      "metrics": {m["name"]: {"value": m["value"], "n": m["n"], "ci95": m["ci95"]}
                                  for m in variant["metrics"]}}  # fmt: skip
    if model_format == "onnx":
        for name, path in _peers(reference).items():
            models[name] = {**model_record(reference), "model_file": str(path)}
            rows[name] = {"scheme": "peer", "size_bytes": path.stat().st_size, "quantized_share": None,
                          "metrics": _accuracy(reference, models[name])}  # fmt: skip
    for length in LENGTHS:
        for name, latency in _latencies(models, length).items():
            rows[name].setdefault("latency", {})[str(length)] = latency
    ladder = report["ladder"][0]
    return {"files": rows, "ladder": ladder, "verdict": _verdict(rows, ladder, models)}


def _latencies(models: dict[str, Tree], length: int) -> dict[str, Tree]:
    """Median milliseconds of all models in turns in one process, and their ratio to the fp32 file's."""
    request = {"do": "bench", "models": list(models.values()), "text": "a text that is as long as asked for",
               "samples": SAMPLES, "threads": 1, "seq_len": length}  # fmt: skip
    samples = dict(zip(models, ask_runner(request)["samples_ms"], strict=True))
    base = samples["fp32"]
    return {
        name: {
            "p50_ms": float(np.median(own)),
            "ratio": float(np.median(own) / np.median(base)),
            "ratio_ci95": list(ratio_interval(own, base)),
            "n": len(own),
        }
        for name, own in samples.items()
    }


def _verdict(rows: Tree, ladder: Tree, models: dict[str, Tree]) -> Tree:
    """The ladder's file beside the fastest scheme picked by hand of those that lose no more."""
    kept = {
        name: np.mean([row["latency"][str(length)]["ratio"] for length in LENGTHS])
        for name, row in rows.items()
        if name not in ("auto", "fp32") and row["scheme"] not in ("peer", "fp8_e4m3")
        and row["metrics"]["accuracy_drop"]["value"] <= DROP
    }  # fmt: skip
    best = min(kept, key=lambda name: kept[name])
    pair = {"fp32": models[best], "auto": models["auto"]}  # by themselves: long turns cost small models most
    return {
        "chosen": ladder["chosen"],
        "drop": rows["auto"]["metrics"]["accuracy_drop"]["value"],
        "best_by_hand": best,
        "over_best": {str(length): _latencies(pair, length)["auto"] for length in LENGTHS},
    }


def _peers(reference: Path) -> dict[str, Path]:
    """What optimum and NNCF make by their defaults of the fp32 file that torch writes, and that file itself."""
    made = {"optimum avx512_vnni": peer(reference) / "model_quantized.onnx", **_nncf(reference)}
    return {PLAIN: reference / "model.onnx", **made}


def _nncf(reference: Path) -> dict[str, Path]:
    import nncf
    import onnx

    from edgetf.runtime.encoder import Encoder

    folder = reference.parent.parent / "nncf"
    made = {"NNCF quantize": folder / "quantized.onnx", "NNCF compress_weights": folder / "weights.onnx"}
    if all(path.is_file() for path in made.values()):
        return made
    folder.mkdir(exist_ok=True)
    texts = [row["text"] for row in read_table(folder_of(DATA) / "train.csv", "utf-8")]
    chosen = [texts[k] for k in sample([0] * len(texts), [len(text) for text in texts], 128, seed=0)]
    encoder, model = Encoder(reference, 128), onnx.load(str(reference / "model.onnx"))
    names = [value.name for value in model.graph.input]
    feeds = [encoder.batch([piece], len(piece.input_ids)).named(names) for (piece,) in encoder.pieces(chosen)]
    quantized = nncf.quantize(model, nncf.Dataset(feeds), model_type=nncf.ModelType.TRANSFORMER)
    onnx.save(quantized, str(made["NNCF quantize"]))
    onnx.save(nncf.compress_weights(onnx.load(str(reference / "model.onnx"))), str(made["NNCF compress_weights"]))
    return made


def _accuracy(reference: Path, model: Tree) -> Tree:
    """Metrics of a peer's file on the evaluation rows, against the fp32 file's answers."""
    rows = read_evaluation(reference)
    logits = np.asarray(ask_runner({"do": "classify", "model": model, "texts": rows.texts, "threads": 1})["logits"])
    predicted, labels = logits.argmax(axis=1), np.asarray(rows.labels)
    right, plain, n = predicted == labels, rows.teacher == labels, len(labels)
    drop, same = accuracy_drop(plain, right), int((predicted == rows.teacher).sum())
    p = mcnemar(int((plain & ~right).sum()), int((~plain & right).sum()))
    return {
        "accuracy": {"value": float(right.mean()), "n": n, "ci95": list(wilson(int(right.sum()), n))},
        "accuracy_drop": {"value": drop.value, "n": n, "ci95": list(drop.ci95 or ())},
        "agreement": {"value": same / n, "n": n, "ci95": list(wilson(same, n))},
        "mcnemar_p": {"value": p, "n": n, "ci95": None},
    }


SECTIONS = {
    "teacher": lambda: table_of("teacher"),
    "student": lambda: table_of("student"),
    "faults": lambda: faults(checkpoint("student"), RUNS / "quantization-faults", folder_of(DATA)),
    "memory": lambda: memory(RUNS / "quantization-student-onnx" / "run", folder_of(DATA)),
}
PACKAGES = ("torch", "onnx", "onnxruntime", "nncf", "optimum-onnx", "ai-edge-litert", "ai-edge-quantizer")

if __name__ == "__main__":
    run_sections(sys.argv[1:], SECTIONS, PACKAGES, RESULT, markdown)
