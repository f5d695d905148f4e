"""Tokens a second of a decoder beside its reference, at several contexts, with the roof that memory puts over them.

At each context a model reads so many tokens (time to first token, and tokens a second of the prefill), then writes,
one token a step. A step cannot be faster than its bytes over the bandwidth: `roofline` holds that rate, by the
bandwidth of this machine measured beside it with a buffer as large as what a token reads, and the share of it that was
reached. Where that buffer lies in a cache (`in_cache`), so do the weights of a model that runs alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgetf.core.metrics import percentile, percentile_interval, ratio_interval
from edgetf.predict.decode_bytes import TokenCost
from edgetf.runtime.decode.model import DecoderModel
from edgetf.targets.target import Answer
from edgetf.validation import latency_gate
from edgetf.validation.judge import readings_of
from edgetf.validation.language.asking import Asker
from edgetf.validation.language.readings import middle
from edgetf.validation.row import DeviceRow

_SAMPLES = ("prefill_ms", "decode_ms")
Record = Mapping[str, Any]
_RETRIED = ("n", "latency_p50_ms", "speedup", "speedup_ci95", "doubts")


def measure_decoding(
    row: DeviceRow,
    asker: Asker,
    contexts: Sequence[int],
    samples: int,
    budget: Mapping[str, float],
    other: DecoderModel | None,
    cost: TokenCost | None,
) -> None:
    """Time the decoder in turns with its reference; once more where that leaves a bound of the budget open.

    Raises:
        DeviceError: the device went away.
        ParityError, ConfigError: a model cannot be run there, or not at such a context.
    """
    first = asker.bench(contexts, samples, other)
    take_decoding(row, first, other)
    reasons = latency_gate.reasons_to_retry(budget, readings_of(row), row.doubts)
    if reasons:
        second = asker.bench(contexts, latency_gate.samples_of_retry(samples, budget), other)
        runs = [replace(row), replace(row)]
        take_decoding(runs[1], second, other)
        kept = latency_gate.run_to_keep(runs[0].trusted, runs[1].trusted)
        take_decoding(row, {"first": first, "second": second, "both": pooled(first, second)}[kept], other)
        said = [{name: getattr(run, name) for name in _RETRIED} for run in runs]
        row.retries.append({"why": reasons, "kept": kept, "runs": said})
    if cost is not None:
        _add_rooflines(row, asker, cost)


def take_decoding(row: DeviceRow, answer: Answer, other: DecoderModel | None) -> None:
    """Put down what a runner timed: an entry a context, and the middle one as the row's own numbers."""
    own, *others = answer["models"]
    count = len(own["contexts"])
    beside: list[Record | None] = others[0]["contexts"] if other is not None else [None] * count
    name = other.name if other is not None else None
    row.decoding = [entry_of(own["contexts"][k], beside[k], name) for k in range(count)]
    row.backend, row.conditions = own["backend"], answer["conditions"]
    row.machine = {**answer["machine"], "load_average": answer["load_average"]}
    entry = middle(row.decoding)
    if entry is None:
        return
    place = row.decoding.index(entry)
    row.doubts = list(own["contexts"][place]["doubts"])
    theirs = beside[place]
    if theirs is not None:
        row.doubts += [f"its reference: {it}" for it in theirs["doubts"] if it not in row.doubts]
    row.trusted = not row.doubts
    row.seq_len, row.n, row.samples_ms = entry["context"], entry["n"], entry["samples_ms"]
    row.latency_p50_ms = entry["decode_p50_ms"]
    row.latency_p90_ms = round(percentile(row.samples_ms, 90), 4)
    row.latency_p99_ms = round(percentile(row.samples_ms, 99), 4)
    row.latency_p50_ci95_ms = [round(value, 4) for value in percentile_interval(row.samples_ms, 50)]
    row.speedup, row.speedup_ci95 = entry["speedup"], entry["speedup_ci95"]
    if entry["reference"] is not None:
        taken = entry["reference"]
        row.reference = {"name": taken["name"], "latency_p50_ms": taken["decode_p50_ms"], "n": taken["n"]}


def entry_of(own: Record, other: Record | None, name: str | None) -> dict[str, Any]:
    """What a runner says of one model at one context, beside another one that it took turns with."""
    entry = {
        "context": own["context"],
        **_rates(own),
        "samples_ms": [round(value, 4) for value in own["decode_ms"]],
        "ttft_samples_ms": [round(value, 4) for value in own["prefill_ms"]],
        "doubts": own["doubts"],
        "reference": None,
        "speedup": None,
        "speedup_ci95": None,
        "roofline": None,
    }
    if other is not None:
        entry["reference"] = {"name": name, **_rates(other)}
        entry["speedup"] = round(percentile(other["decode_ms"], 50) / percentile(own["decode_ms"], 50), 4)
        entry["speedup_ci95"] = [round(value, 3) for value in ratio_interval(other["decode_ms"], own["decode_ms"])]
    return entry


def _rates(taken: Record) -> dict[str, Any]:
    """Of one model at one context, by medians."""
    first, step = percentile(taken["prefill_ms"], 50), percentile(taken["decode_ms"], 50)
    return {
        "ttft_ms": round(first, 4),
        "prefill_tokens_per_s": round(1e3 * taken["context"] / first, 2),
        "decode_p50_ms": round(step, 4),
        "decode_tokens_per_s": round(1e3 / step, 2),
        "n": len(taken["decode_ms"]),
    }


def pooled(first: Answer, second: Answer) -> Answer:
    """The second answer with the samples of both."""
    models = []
    for one, other in zip(first["models"], second["models"], strict=True):
        pairs = zip(one["contexts"], other["contexts"], strict=True)
        models.append({**other, "contexts": [{**b, **{key: [*a[key], *b[key]] for key in _SAMPLES}} for a, b in pairs]})
    return {**second, "models": models}


def _add_rooflines(row: DeviceRow, asker: Asker, cost: TokenCost) -> None:
    """Measure the bandwidth for the bytes of a token at each context, and hold the decode rates against it."""
    sizes = [round(cost.bytes_at(entry["context"])) for entry in row.decoding]
    answer = asker.bandwidth(sizes)
    for entry, size in zip(row.decoding, sizes, strict=True):
        entry["roofline"] = roofline(entry["decode_tokens_per_s"], size, answer)


def roofline(tokens_per_s: float, size: int, answer: Answer) -> dict[str, Any]:
    """The rate that reading `size` bytes allows, and the share of it that was measured.

    >>> reads = [{"bytes": 10, "bytes_per_s": 2000}, {"bytes": 40, "bytes_per_s": 1000}]
    >>> found = roofline(5.0, 100, {"reads": reads, "memory_bytes_per_s": 1000, "last_cache_bytes": 20})
    >>> found["bandwidth_bytes_per_s"], found["tokens_per_s"], found["share"], found["in_cache"]
    (1000, 10.0, 0.5, False)
    """
    read = min(answer["reads"], key=lambda each: abs(each["bytes"] - size))
    rate = read["bytes_per_s"] / size
    last = answer["last_cache_bytes"]
    return {
        "bytes_per_token": size,
        "bandwidth_bytes_per_s": read["bytes_per_s"],
        "memory_bytes_per_s": answer["memory_bytes_per_s"],
        "in_cache": None if last is None else size <= last,
        "tokens_per_s": round(rate, 2),
        "share": round(tokens_per_s / rate, 4),
    }
