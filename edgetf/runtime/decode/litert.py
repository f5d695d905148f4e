"""Decoding with LiteRT: the signatures `decode` and `prefill_T` over a cache of fixed length.

LiteRT's compiled model, unlike its older interpreter, takes buffers that the caller holds. So what one call gives is
what the next one takes, and no cache passes through Python; and the weights that XNNPACK lays out for its kernels are
shared between the signatures, where an interpreter holds a copy for each.

Caches that a caller holds stay what they were: appending leaves earlier rows alone, and what a call is about to
overwrite in a cache that still lives is put aside first.

Source: ai_edge_litert.compiled_model; the in-memory cache of packed weights, ":memory", is that of
tflite/delegates/xnnpack/weight_cache.h.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ArtifactError, ParityError, needs
from edgetf.core.quiet import quiet
from edgetf.runtime.backend import Engine, lacks_provider
from edgetf.runtime.decode.cache import check_kept, kept_keys
from edgetf.runtime.decode.session import Ids, Logits
from edgetf.runtime.litert import XNNPACK

DECODE, PREFILL, LOGITS = "decode", "prefill_", "logits"
KEYS, VALUES = "kv_cache_k_", "kv_cache_v_"  # and the number of the layer
TOKENS, POSITIONS = "tokens", "input_pos"
Rows = dict[str, NDArray[np.float32]]  # keys and values (1, KV, T, D) by name


class LitertCache:
    """The first `length` rows of its session's buffers, or `rows` where they are no longer there."""

    def __init__(self, session: LitertDecoder, length: int, rows: Rows | None = None) -> None:
        self.length, self.rows, self._session = length, rows, session

    def keep(self, kept: Ids) -> LitertCache:
        """See `Cache.keep`."""
        facts = self._session.facts
        check_kept(facts, self.length, kept)
        moved = {}
        for name, rows in (self.rows or self._session.rows(self.length)).items():
            layer = int(name.rpartition("_")[2])
            moved[name] = kept_keys(facts, layer, rows, kept) if name.startswith(KEYS) else rows[:, :, kept]
        return LitertCache(self._session, len(kept), moved)


class LitertDecoder:
    """A .tflite file of `edgetf.formats.decoder.tflite`, for one text at a time."""

    def __init__(self, model: Any, facts: DecoderFacts) -> None:
        """Raises ArtifactError where the file is not that of a decoder with a cache."""
        layers, signatures = facts.num_hidden_layers, model.get_signature_list()
        self._names = tuple(f"{part}{layer}" for layer in range(layers) for part in (KEYS, VALUES))
        asked = set(signatures.get(DECODE, {}).get("inputs", ()))
        if asked != {TOKENS, POSITIONS, *self._names}:
            raise ArtifactError(
                f"not a decoder of {layers} layers with a cache: its signatures are {', '.join(signatures) or 'none'}, "
                f"and {DECODE} takes {', '.join(sorted(asked)) or 'nothing'}; export it again"
            )
        self.facts = facts
        self.engine = Engine(XNNPACK, XNNPACK)
        self.lengths = tuple(sorted(int(name.removeprefix(PREFILL)) for name in signatures if name.startswith(PREFILL)))
        self._calls = {length: _Call(model, f"{PREFILL}{length}") for length in self.lengths}
        self._calls[1] = _Call(model, DECODE)
        self._shape = tuple(int(size) for size in model.get_input_tensor_details(DECODE)[self._names[0]]["shape"])
        self.capacity: int | None = self._shape[2]
        self._taken, self._given = (
            {name: model.create_output_buffer_by_name(DECODE, name) for name in self._names} for _ in range(2)
        )
        self._write({})
        self._here: weakref.WeakSet[LitertCache] = weakref.WeakSet()  # whose rows the buffers hold

    def start(self) -> LitertCache:
        """See `DecoderSession.start`."""
        return LitertCache(self, 0, {})

    def run(self, ids: Ids, cache: LitertCache) -> tuple[Logits, LitertCache]:
        """See `DecoderSession.run`."""
        after, room = cache.length + len(ids), self._shape[2]
        if after > room:
            raise ParityError(
                f"{after} tokens are more than the {room} that the cache of this file holds; "
                "give fewer or a window, or export it with a longer context"
            )
        self._bring(cache)
        answers, done = [], 0
        for length, taken in chunks(len(ids), self.lengths, room - cache.length):
            part = np.zeros(length, dtype=np.int32)
            part[:taken] = ids[done : done + taken]
            answers.append(self._calls[length].run(part, cache.length + done, self._taken, self._given)[:taken])
            self._taken, self._given = self._given, self._taken
            done += taken
        logits = np.concatenate(answers)
        if not np.isfinite(logits).all():
            raise ParityError(f"NaN or infinite logits behind {after} tokens; the model is broken")
        longer = LitertCache(self, after)
        self._here.add(longer)
        return logits, longer

    def rows(self, length: int) -> Rows:
        """A copy of the first rows in the buffers."""
        size = int(np.prod(self._shape))
        return {
            name: buffer.read(size, np.float32).reshape(self._shape)[:, :, :length].copy()
            for name, buffer in self._taken.items()
        }

    def _write(self, rows: Rows) -> None:
        """Put these rows first. Behind them stands 0: what lies there by chance may be no number, nor 0 times that."""
        for name, buffer in self._taken.items():
            whole = np.zeros(self._shape, dtype=np.float32)
            if name in rows:
                whole[:, :, : rows[name].shape[2]] = rows[name]
            buffer.write(whole)

    def _bring(self, cache: LitertCache) -> None:
        """Have the rows of a cache in the buffers, and leave every other cache what it holds."""
        moved = cache.rows is not None and cache.length > 0
        for other in list(self._here):
            if moved or other.length > cache.length:
                other.rows = self.rows(other.length)
                self._here.discard(other)
        if moved:
            self._write(cache.rows or {})
            cache.rows = None
            self._here.add(cache)


class _Call:
    """A signature with buffers of its own for all but the cache."""

    def __init__(self, model: Any, name: str) -> None:
        self._model, self._name = model, name
        self._tokens = model.create_input_buffer_by_name(name, TOKENS)
        self._positions = model.create_input_buffer_by_name(name, POSITIONS)
        self._logits = model.create_output_buffer_by_name(name, LOGITS)
        self._shape = tuple(int(size) for size in model.get_output_tensor_details(name)[LOGITS]["shape"])

    def run(self, ids: NDArray[np.int32], start: int, taken: dict[str, Any], given: dict[str, Any]) -> Logits:
        """Logits (T, V) of the ids (T,) from the position `start` on; `given` is then the cache that holds them.

        Raises:
            ParityError: it holds an op that the runtime cannot compute in the type it has.
        """
        self._tokens.write(ids)
        self._positions.write(np.arange(start, start + len(ids), dtype=np.int32))
        inputs = {TOKENS: self._tokens, POSITIONS: self._positions, **taken}
        try:
            self._model.run_by_name(self._name, inputs, {LOGITS: self._logits, **given})
        except RuntimeError as error:
            message = " ".join(str(error).split())[:200]
            raise ParityError(f"LiteRT cannot run {self._name} of this file ({message})") from None
        logits: Logits = self._logits.read(int(np.prod(self._shape)), np.float32).reshape(self._shape)[0]
        return logits


def load_litert(model: Path, facts: DecoderFacts, threads: int, provider: str | None = None) -> LitertDecoder:
    """Open a file.

    Raises:
        ArtifactError: it is missing, corrupt, or not a decoder with a cache.
        DeviceError: a delegate is asked for that is not XNNPACK.
    """
    if provider not in (None, XNNPACK):
        raise lacks_provider("LiteRT", provider, [XNNPACK])
    if not model.is_file():
        raise ArtifactError(f"{model}: not found")
    with needs("litert"), quiet():  # it looks for accelerators and tells of each that is not there
        from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, HardwareAccelerator, Options
    processor = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=":memory")
    options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=processor)
    try:
        with quiet():
            opened = CompiledModel.from_file(str(model), environment=_environment(), options=options)
    except RuntimeError as error:
        message = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{model}: LiteRT cannot open it ({message})") from None
    try:
        with quiet():
            return LitertDecoder(opened, facts)
    except ArtifactError as error:
        raise ArtifactError(f"{model}: {error}") from None


@cache
def _environment() -> Any:
    """What all models of the process share."""
    from ai_edge_litert.environment import Environment

    atexit.register(_take_down)
    return Environment.create()


def _take_down() -> None:
    """Without the farewell of each accelerator: the library's last lines come when nothing of Python is left."""
    sys.stderr.flush()
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    _environment.cache_clear()


def chunks(tokens: int, lengths: tuple[int, ...], room: int) -> list[tuple[int, int]]:
    """How so many tokens are run: the length of each call, and how many of its tokens count.

    A call is padded where at least half of it counts and the cache has room for all of it, as DYNAMIC_UPDATE_SLICE
    would move what does not fit to the front.

    >>> chunks(40, (8, 32, 128), 512), chunks(100, (8, 32, 128), 512), chunks(1, (8,), 512)
    ([(32, 32), (8, 8)], [(128, 100)], [(1, 1)])
    >>> chunks(9, (8,), 11), chunks(4, (8,), 6)
    ([(8, 8), (1, 1)], [(1, 1), (1, 1), (1, 1), (1, 1)])
    """
    plan = []
    while tokens:
        padded = [length for length in lengths if tokens <= length <= min(room, 2 * tokens)]
        whole = [length for length in lengths if length <= tokens]
        length = padded[0] if padded else whole[-1] if whole else 1
        plan.append((length, min(length, tokens)))
        tokens, room = tokens - plan[-1][1], room - plan[-1][1]
    return plan
