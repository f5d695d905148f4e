"""What is asked of a decoder on a device: greedy tokens, scores of an exam, timings, and the bandwidth of its memory.

The requests and answers are those of `edgetf.runtime.decode.answers` and `edgetf.runtime.bandwidth`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgetf.core.metrics import Floats
from edgetf.runtime.decode.arrays import Array, packed, unpacked
from edgetf.runtime.decode.model import DecoderModel
from edgetf.targets.target import Answer, Target, Tick
from edgetf.validation.emulated import RUNS
from edgetf.validation.language.evaluation import TOP_K, Exam, Ids, Teacher
from edgetf.validation.language.metrics import Scored

PREFILLS = 9  # of each model and context; a median of fewer has hardly an interval


@dataclass(frozen=True)
class Asker:
    """One decoder on one target."""

    target: Target
    model: DecoderModel
    threads: int = 1
    tick: Tick | None = None
    cpus: tuple[int, ...] = ()  # cores to stay on; none: any

    def greedy(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Answer:
        """`tokens` that it writes after each prompt, the likeliest one each time, and what loading it cost."""
        return self.target.ask(
            {
                "do": "generate",
                "model": self.model.to_json(),
                "threads": self.threads,
                "prompts": [list(map(int, prompt)) for prompt in prompts],
                "max_new_tokens": max_new_tokens,
            },
            self.tick,
        )

    def score(self, exam: Exam) -> tuple[Scored, Answer]:
        """How well it foresees the blocks of an exam, and how near it is to the teacher."""
        teacher = exam.teacher
        tops = {"top_ids": teacher.top_ids, "top_logprobs": teacher.top_logprobs.astype(np.float32)}
        answer = self._score({"blocks": exam.ids, **tops}, keep=0)
        said = unpacked(answer["arrays"])
        return Scored(_floats(said["nll"]), np.asarray(said["argmax"], dtype=np.int64), _floats(said["kl"])), answer

    def teach(self, ids: Ids) -> tuple[Teacher, Answer]:
        """What it says of blocks (N, T) as the teacher that others are held against."""
        answer = self._score({"blocks": ids}, keep=TOP_K)
        said = unpacked(answer["arrays"])
        top_ids = np.asarray(said["top_ids"], dtype=np.int32)
        return Teacher(_floats(said["nll"]), top_ids, _floats(said["top_logprobs"])), answer

    def bench(self, contexts: Sequence[int], samples: int, other: DecoderModel | None) -> Answer:
        """Time to the first token and steps behind each context, in turns with another decoder where there is one."""
        models = [self.model, *([other] if other is not None else [])]
        return self.target.ask(
            {
                "do": "decode_bench",
                "models": [model.to_json() for model in models],
                "threads": self.threads,
                "contexts": list(contexts),
                "samples": samples,
                "prefills": PREFILLS,
                "cpus": list(self.cpus),
            },
            self.tick,
        )

    def count(self, context: int, other: DecoderModel | None) -> Answer:
        """`instructions` of a token behind a context, where the target counts, and of the same of another decoder."""
        models = [self.model, *([other] if other is not None else [])]
        request = {"do": "count", "models": [model.to_json() for model in models], "seq_len": context, "text": ""}
        return self.target.ask({**request, "threads": 1, "runs": RUNS})

    def bandwidth(self, sizes: Sequence[int]) -> Answer:
        """Bytes a second of buffers of these sizes."""
        request = {"do": "bandwidth", "threads": self.threads, "bytes": list(sizes), "cpus": list(self.cpus)}
        return self.target.ask(request)

    def _score(self, arrays: Mapping[str, Array], keep: int) -> Answer:
        request = {"do": "score", "model": self.model.to_json(), "threads": self.threads, "keep": keep}
        return self.target.ask({**request, "arrays": packed(arrays)}, self.tick)


def _floats(array: Array) -> Floats:
    return np.asarray(array, dtype=np.float64)
