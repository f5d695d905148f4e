"""What ``edgetf bench`` measured, as people read it."""

from __future__ import annotations

from typing import Any

from edgetf.report.words import milliseconds
from edgetf.validation.fallback import fallback_problem


def bench_lines(document: dict[str, Any]) -> list[str]:
    """A line a model and length with what to doubt under it; or, of minutes without a pause, a line a window."""
    return _sustained(document) if "sustained" in document else _short(document)


def _short(document: dict[str, Any]) -> list[str]:
    lines, names = [], [row["name"] for row in document["models"]]
    for row in document["models"]:
        low, high = (milliseconds(value) for value in row["latency_p50_ci95_ms"])
        lines.append(
            f"{row['name']}: p50 {milliseconds(row['latency_p50_ms'])} (95 %: {low} to {high}), "
            f"p90 {milliseconds(row['latency_p90_ms'])}, p99 {milliseconds(row['latency_p99_ms'])}, n {row['n']}, "
            f"{row['seq_len']} tokens, {row['threads']} thread(s), {row['backend']['ran']}"
        )
        lines += [f"  untrusted: {doubt}" for doubt in row["doubts"]]
        problem = fallback_problem(row["backend"])
        lines += [f"  {problem}"] if problem else []
    for row in document["models"]:
        if row["speedup"] is not None:
            low, high = row["speedup_ci95"]
            lines.append(
                f"{names[0]} is {row['speedup']:.2f} times as fast as {names[1]} "
                f"(95 %: {low:.2f} to {high:.2f}) at {row['seq_len']} tokens"
            )
    return lines


def _sustained(document: dict[str, Any]) -> list[str]:
    found = document["sustained"]
    lines = [
        f"{document['name']}: {found['seconds']:g} s without a pause, {document['seq_len']} tokens, "
        f"{document['threads']} thread(s), {document['backend']['ran']}"
    ]
    for window in found["windows"]:
        clock, heat = window["clock_mhz"], window["temperature_c"]
        seen = [] if clock is None else [f"{clock:.0f} MHz"]
        seen += [] if heat is None else [f"{heat:.0f} °C"]
        words = ", ".join(seen + (window["throttled"] or []))
        lines.append(f"  {window['end_s']:7.1f} s  p50 {milliseconds(window['latency_p50_ms'])}  {words}".rstrip())
    word = "slower" if found["drift"] >= 0 else "faster"
    return [*lines, f"at the end {abs(found['drift']):.1%} {word} than at the start"]
