"""What ``edgetf bench`` measured of a decoder, as people read it."""

from __future__ import annotations

from typing import Any

from edgetf.report.words import mebibytes, milliseconds, per_second


def decoding_lines(document: dict[str, Any]) -> list[str]:
    """A line a context, under it what to doubt and how it compares with another model."""
    backend = document["backend"]["ran"]
    lines = [f"{document['name']} on {document['device']}, {document['threads']} thread(s), {backend}"]
    for entry in document["decoding"]:
        lines.append(
            f"  behind {entry['context']} tokens: {per_second(entry['decode_tokens_per_s'])} tokens/s "
            f"({milliseconds(entry['decode_p50_ms'])} each, n {entry['n']}), first token after "
            f"{milliseconds(entry['ttft_ms'])}, prefill {per_second(entry['prefill_tokens_per_s'])} tokens/s"
        )
        lines += [*_roof(entry), *_beside(entry), *(f"    untrusted: {doubt}" for doubt in entry["doubts"])]
    return lines


def _roof(entry: dict[str, Any]) -> list[str]:
    roof = entry["roofline"]
    if roof is None:
        return []
    where = "a cache" if roof["in_cache"] else "memory"
    return [
        f"    {roof['share']:.0%} of {per_second(roof['tokens_per_s'])} tokens/s, the roof of reading "
        f"{mebibytes(roof['bytes_per_token'])} a token from {where} at {roof['bandwidth_bytes_per_s'] / 1e9:.1f} GB/s"
    ]


def _beside(entry: dict[str, Any]) -> list[str]:
    other = entry["reference"]
    if other is None:
        return []
    low, high = entry["speedup_ci95"]
    return [
        f"    {entry['speedup']:.2f} times as fast as {other['name']} (95 %: {low:.2f} to {high:.2f}), "
        f"which writes {per_second(other['decode_tokens_per_s'])} tokens/s"
    ]
