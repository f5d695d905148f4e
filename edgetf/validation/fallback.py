"""Whether the execution provider that was asked for did the work, or a slower one in its place, without a word."""

from __future__ import annotations

from typing import Any


def provider_share(backend: dict[str, Any]) -> float | None:
    """The share of the graph's nodes that ran where they were asked to; None where the runtime does not tell.

    >>> provider_share({"asked": "CUDA", "ran": "CUDA", "nodes": {"CUDA": 3, "CPU": 1}})
    0.75
    """
    nodes = backend.get("nodes")
    return nodes.get(backend["asked"], 0) / sum(nodes.values()) if nodes else None


def fallback_problem(backend: dict[str, Any]) -> str | None:
    """What is wrong where another provider has most of the graph; bound the rest with a budget on `provider_share`.

    >>> fallback_problem({"asked": "CUDA", "ran": "CPU", "nodes": {"CUDA": 1, "CPU": 3}})
    'fallback: asked for CUDA, but 3 of 4 nodes run on CPU'
    """
    if backend["asked"] == backend["ran"]:
        return None
    nodes = backend.get("nodes") or {}
    part = f"{nodes[backend['ran']]} of {sum(nodes.values())} nodes run" if nodes else "it runs"
    return f"fallback: asked for {backend['asked']}, but {part} on {backend['ran']}"
