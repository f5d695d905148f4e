"""An arm64 processor that qemu-user plays on this machine: right answers and instruction counts, never milliseconds.

The ordinary runner runs there under arm64 Python, with the wheels that a board would have. Before anything else the
emulator itself is checked with products whose answers are known (edgetf.runtime.selfcheck).
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from edgetf.core.device import DeviceProfile
from edgetf.core.errors import ArtifactError, ConfigError, DeviceError
from edgetf.core.files import is_file, read_json, write_json
from edgetf.core.reach import Emulated
from edgetf.runtime.counting import VARIABLE
from edgetf.runtime.selfcheck import TOLERANCE
from edgetf.targets.arm64_root import Root, find_root
from edgetf.targets.board import board_folder
from edgetf.targets.parcel import models_of
from edgetf.targets.talk import Line, ask
from edgetf.targets.target import NO_MILLISECONDS, TIMED, Answer, How, Request, Tick

BACKENDS = ("ort", "litert")
PATIENCE_SECONDS = 600.0  # a runner under emulation may be too busy to show that it lives
_PACKAGES = Path(__file__).resolve().parents[2]
# This machine's own packages come last: only edgetf is taken from there, never a wheel of another processor.
_RUN = f"import sys; sys.path.append({str(_PACKAGES)!r}); from edgetf.runtime.runner import main; sys.exit(main())"
_KEPT = ("HOME", "TMPDIR", "USER")


class EmulatedArm64:
    """One emulated processor."""

    how: How = "emulated"
    counts = True

    def __init__(self, device: DeviceProfile, root: Root | None = None) -> None:
        """`root` is where its programs come from: by default what `edgetf targets setup emulated-arm64` made.

        Raises:
            ConfigError: the profile is not one of an emulated processor.
        """
        if device.emulated is None:
            raise ConfigError(f"{device.name}: target: got {device.target}, allowed: emulated")
        self.name = device.name
        self.emulated: Emulated = device.emulated
        self._root = root

    @property
    def root(self) -> Root:
        """Where its programs come from.

        Raises:
            DeviceError: it is not set up.
        """
        self._root = self._root or find_root()
        return self._root

    def ask(self, request: Request, tick: Tick | None = None) -> Answer:
        """See `Target.ask`; what gives milliseconds is refused, and `count` gives `instructions`, see `counted`."""
        if request["do"] in TIMED:
            raise DeviceError(f"{self.name}: {NO_MILLISECONDS}")
        strange = {model["backend"] for model in models_of(request)} - set(BACKENDS)
        if strange:
            raise DeviceError(f"{self.name}: backend: got {', '.join(strange)}, allowed: {', '.join(BACKENDS)}")
        self.check()
        if request["do"] != "count":
            return self._run(request, tick)
        with TemporaryDirectory() as folder:
            written = Path(folder) / "counts.json"
            answer = self._run({**request, "threads": 1}, tick, counts=written)
            if not is_file(written):
                raise DeviceError(f"{self.name}: the counting plugin wrote nothing; it needs qemu 6.0 to 8.2")
            marks = read_json(written)
            return {**answer, "instructions": counted(marks, len(request["models"]), request["runs"])}

    def check(self) -> None:
        """Let the emulator multiply, once for each root and processor.

        Raises:
            DeviceError: its answers are wrong, so that nothing it says may be believed.
        """
        passed = self._board() / "checked.json"
        if is_file(passed):
            return
        errors: dict[str, float] = self._run({"do": "selfcheck", "threads": 1})["errors"]
        wrong = {name: error for name, error in errors.items() if not error <= TOLERANCE}
        if wrong:
            said = ", ".join(f"{name} by {error:.2g} of its largest answer" for name, error in wrong.items())
            raise DeviceError(
                f"{self.name}: the emulator multiplies wrongly under -cpu {self.emulated.cpu} ({said}), so nothing is "
                "measured; name another processor in the profile, e.g. max,sve=off,sme=off"
            )
        write_json(passed, errors)

    def _run(self, request: Request, tick: Tick | None = None, counts: Path | None = None) -> Answer:
        """What the runner under the emulator answers."""
        env = {name: os.environ[name] for name in _KEPT if name in os.environ}
        env |= {"LD_LIBRARY_PATH": self.root.libraries} if self.root.libraries else {}
        return ask(Line(self.command(_RUN, request["threads"], counts), env, PATIENCE_SECONDS), request, tick)

    def command(self, code: str, threads: int = 1, counts: Path | None = None) -> list[str]:
        """The command line that runs Python `code` there; `counts` is the file that the plugin writes."""
        root = self.root
        guest = {
            "PYTHONHOME": str(root.system / "usr"),
            "PYTHONPATH": str(root.site),
            "PYTHONNOUSERSITE": "1",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": str(threads),
            "RAYON_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **({VARIABLE: "1"} if counts is not None else {}),
        }
        own = [word for name, value in guest.items() for word in ("-E", f"{name}={value}")]
        plugin = ["-plugin", f"{root.plugin},out={counts}"] if counts is not None else []
        python = str(root.system / "usr" / "bin" / f"python{root.python}")
        board = ["-cpu", self.emulated.cpu, "-L", str(self._board())]
        return [str(root.qemu), *board, "-U", "LD_LIBRARY_PATH", *own, *plugin, python, "-c", code]

    def _board(self) -> Path:
        return board_folder(self.root.folder / "boards", self.root.system, self.emulated)


def counted(record: dict[str, Any], models: int, runs: int) -> list[dict[str, Any]]:
    """Instructions of one inference of each model, from what the plugin wrote: the median of its runs, and by class.

    `spread` is how far the totals of the runs lie apart, as a share of their median.

    >>> notes = ((0, 10, 1), (1, 110, 41), (2, 120, 41), (3, 221, 81))
    >>> marks = [{"mark": number, "total": total, "fmla": fmla} for number, total, fmla in notes]
    >>> counted({"marks": marks}, models=1, runs=2)
    [{'total': 100, 'by_class': {'fmla': 40}, 'spread': 0.01, 'n': 2}]

    Raises:
        ArtifactError: marks are missing.
    """
    at = {mark["mark"]: mark for mark in record.get("marks", [])}
    wanted = 2 * models * runs
    if set(at) != set(range(wanted)):
        raise ArtifactError(f"count: got {len(at)} marks, allowed: {wanted}; the emulator did not see every inference")
    names = [name for name in at[0] if name != "mark"]
    spans = [{name: at[2 * k + 1][name] - at[2 * k][name] for name in names} for k in range(models * runs)]
    return [_summary(spans[first : first + runs]) for first in range(0, len(spans), runs)]


def _summary(spans: list[dict[str, int]]) -> dict[str, Any]:
    totals = [span["total"] for span in spans]
    middle = {name: int(median(span[name] for span in spans)) for name in spans[0]}
    total = middle.pop("total")
    spread = round((max(totals) - min(totals)) / total, 6)
    return {"total": total, "by_class": middle, "spread": spread, "n": len(spans)}
