"""The model card of a decoder's variant: what it is, how to use it, and the numbers that were measured on its file."""

from __future__ import annotations

from collections.abc import Sequence

from edgetf.core.artifact import Artifact
from edgetf.core.decoder import DecoderFacts
from edgetf.core.metrics import Metric
from edgetf.report.language_cells import DECODING_COLUMNS, decoding_cells, rate_cell
from edgetf.report.markdown import table_lines
from edgetf.report.words import fraction, mebibytes, millions, milliseconds, times, times_less
from edgetf.validation.row import AWAY, DeviceRow

_MADE = {
    "pretrain": "trained from nothing",
    "distill": "distilled",
    "prune": "pruned",
    "vocabulary": "with a pruned vocabulary",
    "teacher": "the teacher itself",
}
_CACHE = {"fp32": "float32", "int8": "int8"}


def language_card(
    artifact: Artifact, reference: Artifact, rows: Sequence[DeviceRow], recipe_name: str, made_by: str
) -> str:
    """The Markdown text; `rows` are the variant's device rows, `made_by` is the kind of stage that made the model."""
    spec, facts = artifact.spec, DecoderFacts.from_json(artifact.spec.details["decoder"])
    size, teacher = artifact.manifest.size_bytes, reference.manifest.size_bytes
    metrics = [Metric.from_json(record) for record in (rows[0].metrics if rows else [])]
    lines = [
        "---",
        "library_name: edgetf",
        "pipeline_tag: text-generation",
        "---",
        f"# {recipe_name}: {spec.kind}, {spec.scheme}",
        "",
        f"Made by edgetf {artifact.manifest.made.get('edgetf')} with the recipe `{recipe_name}`: a language model, "
        f"{_MADE.get(made_by, made_by)}.",
        "",
        "| | |",
        "|--|--|",
        f"| file | `{spec.model_file}`, {mebibytes(size)}{times_less(size, teacher)} |",
        f"| parameters | {millions(spec.params)}{times_less(spec.params, reference.spec.params)} |",
        f"| shape | {_shape(facts)} |",
        f"| vocabulary | {facts.vocab_size:,} tokens |",
        f"| context | up to {facts.max_length} tokens, {facts.cache_bytes_per_token:,} bytes of cache each "
        f"({_CACHE[facts.kv_cache]}) |",
        "",
        "## Measured on this file, in its runtime",
        "",
        *table_lines(("metric", "value", "95 % interval", "tokens"), map(_metric, metrics)),
        "",
        *table_lines(("device", "tokens/s", "speed-up", "peak RSS", "load"), map(_device, rows)),
        "",
    ]
    timed = decoding_cells([(spec.scheme, row) for row in rows])
    lines += [*table_lines(DECODING_COLUMNS[1:], (cells[1:] for cells in timed)), ""] if timed else []
    return "\n".join(
        [
            *lines,
            "In brackets and as reference: the fp32 ONNX file of the model that it learned from. A token cannot take "
            "less than reading its bytes: the roof is that bound, by the bandwidth measured on the same machine.",
            "",
            "`golden.jsonl` holds prompts with their ids and the tokens that follow: an app that writes the same runs "
            "the same model.",
            "",
            '    edgetf infer . "Once" --stream --max-new-tokens 64',
            "",
        ]
    )


def _shape(facts: DecoderFacts) -> str:
    heads = f"{facts.num_attention_heads} heads on {facts.num_key_value_heads} of keys and values"
    return f"{facts.num_hidden_layers} layers of width {facts.hidden_size}, {heads}, {facts.head_dim} wide"


def _metric(metric: Metric) -> tuple[str, ...]:
    interval = f"{metric.ci95[0]:.4f} to {metric.ci95[1]:.4f}" if metric.ci95 else "–"
    unit = "" if metric.unit in ("fraction", "ratio", metric.name) else f" {metric.unit}"
    return metric.name, f"{fraction(metric)}{unit}", interval, str(metric.n)


def _device(row: DeviceRow) -> tuple[str, ...]:
    if row.how in AWAY:
        return row.why[0], rate_cell(row), "–", "–", "–"
    name = f"{row.device} ({row.machine.get('processor', '')}), {row.threads} thread, {row.seq_len} tokens before"
    return name, rate_cell(row), times(row.speedup), mebibytes(row.peak_rss_bytes), milliseconds(row.load_ms)
