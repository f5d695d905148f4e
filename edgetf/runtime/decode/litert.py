"""Decoding with LiteRT: the signatures `decode` and `prefill_T` over a cache of fixed length.

The cache lies in the input tensors of `decode`. A step writes one row of it, so rows are copied once, from what the
signature gives to what it takes, and never through an array of Python's. Caches that a caller holds stay what they
were: appending leaves earlier rows alone, and what a call is about to overwrite in a cache that still lives is put
aside first.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ArtifactError, ParityError, needs
from edgetf.runtime.backend import Engine
from edgetf.runtime.decode.cache import check_kept, kept_keys
from edgetf.runtime.decode.session import Ids, Logits
from edgetf.runtime.litert import XNNPACK, delegated_nodes, open_interpreter

DECODE, PREFILL, LOGITS = "decode", "prefill_", "logits"
KEYS, VALUES = "kv_cache_k_", "kv_cache_v_"  # and the number of the layer
Rows = dict[str, NDArray[np.float32]]  # keys and values (1, KV, S, D) by name


class LitertCache:
    """The first `length` rows of the tensors of its session, or of `rows` where they are no longer there."""

    def __init__(self, session: LitertDecoder, length: int, rows: Rows | None = None) -> None:
        self.session, self.length, self.rows = session, length, rows

    def keep(self, kept: Ids) -> LitertCache:
        """See `Cache.keep`."""
        return LitertCache(self.session, len(kept), self.session.rearranged(self, kept))


class LitertDecoder:
    """A .tflite file of `edgetf.formats.decoder.tflite`, for one text at a time."""

    def __init__(self, interpreter: Any, facts: DecoderFacts) -> None:
        """Raises ArtifactError where the file is not that of a decoder with a cache."""
        self.facts, self._interpreter = facts, interpreter
        signatures = interpreter.get_signature_list()
        self._check(signatures)
        self.lengths = tuple(sorted(int(name.removeprefix(PREFILL)) for name in signatures if name.startswith(PREFILL)))
        runner = interpreter.get_signature_runner(DECODE)
        self._inputs = {name: int(each["index"]) for name, each in runner.get_input_details().items()}
        self._outputs = {name: int(each["index"]) for name, each in runner.get_output_details().items()}
        self._names = tuple(name for name in self._inputs if name.startswith((KEYS, VALUES)))
        self._shape = tuple(int(size) for size in runner.get_input_details()[self._names[0]]["shape"])
        self.capacity: int | None = self._shape[2]
        self.engine = Engine.of(XNNPACK, delegated_nodes(interpreter))
        self._here: weakref.WeakSet[LitertCache] = weakref.WeakSet()  # whose rows the tensors hold
        for name in self._names:  # what lies there by chance may be no number, and 0 times that is none either
            self._view(self._inputs[name]).fill(0)

    def _check(self, signatures: dict[str, Any]) -> None:
        layers = self.facts.num_hidden_layers
        wanted = {"tokens", "input_pos", *(f"{part}{layer}" for part in (KEYS, VALUES) for layer in range(layers))}
        found = signatures.get(DECODE, {})
        if wanted != set(found.get("inputs", ())) or LOGITS not in found.get("outputs", ()):
            raise ArtifactError(
                f"not a decoder of {layers} layers with a cache: it has the signatures "
                f"{', '.join(signatures) or 'none'}; export it again"
            )

    def start(self) -> LitertCache:
        """See `DecoderSession.start`."""
        cache = LitertCache(self, 0)
        self._here.add(cache)
        return cache

    def run(self, ids: Ids, cache: LitertCache) -> tuple[Logits, LitertCache]:
        """See `DecoderSession.run`."""
        room = self._shape[2]
        if cache.length + len(ids) > room:
            raise ParityError(
                f"decode: got {cache.length + len(ids)} tokens, allowed in the cache of this file: {room}; "
                "use streaming attention, or export it with a longer context"
            )
        self._bring(cache)
        answers, done = [], 0
        try:
            for length, taken in chunks(len(ids), self.lengths, room - cache.length):
                part = np.zeros(length, np.int32)
                part[:taken] = ids[done : done + taken]
                answers.append(self._call(part, cache.length + done)[:taken])
                done += taken
        except (RuntimeError, ValueError) as error:
            message = " ".join(str(error).split())[:200]
            raise ParityError(f"decode: LiteRT cannot run an op of this file ({message})") from None
        logits = np.concatenate(answers)
        if not np.isfinite(logits).all():
            raise ParityError("decode: the logits are not finite; export the model again, or take another scheme")
        longer = LitertCache(self, cache.length + len(ids))
        self._here.add(longer)
        return logits, longer

    def _call(self, part: NDArray[np.int32], position: int) -> Logits:
        """Logits (T, V) of a chunk; what stands behind its tokens in the cache is overwritten by it."""
        positions = np.arange(position, position + len(part), dtype=np.int32)
        if len(part) == 1:
            self._view(self._inputs["tokens"])[:] = part
            self._view(self._inputs["input_pos"])[:] = positions
            self._interpreter.invoke()
            for name in self._names:
                np.copyto(self._view(self._inputs[name]), self._view(self._outputs[name]))
            step: Logits = self._view(self._outputs[LOGITS])[0].copy()
            return step
        rows = {name: self._view(self._inputs[name]).copy() for name in self._names}
        runner = self._interpreter.get_signature_runner(f"{PREFILL}{len(part)}")
        given = runner(tokens=part[None], input_pos=positions, **rows)
        for name in self._names:
            self._view(self._inputs[name])[:] = given[name]
        logits: Logits = given[LOGITS][0]
        return logits

    def _view(self, index: int) -> Any:
        """A tensor of `decode` where it lies; the interpreter runs only while nobody holds one."""
        return self._interpreter.tensor(index)()

    def _bring(self, cache: LitertCache) -> None:
        """Have the rows of a cache in the tensors, and leave every other cache what it holds."""
        stays = cache in self._here
        losing = [other for other in self._here if other.length and not (stays and other.length <= cache.length)]
        if losing:
            rows = {name: self._view(self._inputs[name]).copy() for name in self._names}
            for other in losing:
                other.rows = rows
                self._here.discard(other)
        if not stays:
            for name in self._names if cache.rows else ():
                self._view(self._inputs[name])[:] = cache.rows[name]
            self._here.add(cache)
            cache.rows = None

    def rearranged(self, cache: LitertCache, kept: Ids) -> Rows:
        """Those rows of a cache moved to its front, with keys turned to their new positions."""
        check_kept(self.facts, cache.length, kept)
        moved = {}
        for name in self._names:
            rows = cache.rows[name] if cache.rows is not None else self._view(self._inputs[name])
            layer, keys = int(name.rpartition("_")[2]), name.startswith(KEYS)
            moved[name] = np.zeros_like(rows)
            moved[name][:, :, : len(kept)] = kept_keys(self.facts, layer, rows, kept) if keys else rows[:, :, kept]
        return moved


def load_litert(model: Path, facts: DecoderFacts, threads: int, provider: str | None = None) -> LitertDecoder:
    """Open a file.

    Raises:
        ArtifactError: it is missing, corrupt, or not a decoder with a cache.
        DeviceError: a delegate is asked for that LiteRT does not have by itself.
        ParityError: it holds an op that the runtime lacks.
    """
    with needs("litert"):
        from ai_edge_litert.interpreter import Interpreter
    interpreter = open_interpreter(Interpreter, "LiteRT", model, threads, provider)
    try:
        return LitertDecoder(interpreter, facts)
    except ArtifactError as error:
        raise ArtifactError(f"{model}: {error}") from None


def chunks(tokens: int, lengths: tuple[int, ...], room: int) -> list[tuple[int, int]]:
    """How so many tokens are run: the length of each call, and how many of its tokens count.

    A call is padded where at least half of it counts and the cache has room for all of it, as the converter's
    DYNAMIC_UPDATE_SLICE would move what does not fit to the front.

    >>> chunks(40, (8, 32, 128), 512), chunks(100, (8, 32, 128), 512), chunks(1, (8,), 512)
    ([(32, 32), (8, 8)], [(128, 100)], [(1, 1)])
    >>> chunks(9, (8,), 11)
    [(8, 8), (1, 1)]
    >>> chunks(6, (8,), 7)
    [(1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1)]
    """
    plan = []
    while tokens:
        padded = [length for length in lengths if tokens <= length <= min(room, 2 * tokens)]
        whole = [length for length in lengths if length <= tokens]
        length = padded[0] if padded else whole[-1] if whole else 1
        plan.append((length, min(length, tokens)))
        tokens, room = tokens - plan[-1][1], room - plan[-1][1]
    return plan
