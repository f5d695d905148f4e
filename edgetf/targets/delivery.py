"""Files on the board: each is named by its sha256, so that what is there need not be sent again.

A file travels to NAME.part, its bytes are hashed there, and only then it gets its name: a cut connection, a full disk
or a bad line leaves nothing that looks whole. The newest `KEPT` are kept, so that a board's disk does not fill up.
"""

from __future__ import annotations

import shlex
import sys
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from edgetf.core.errors import DeviceError
from edgetf.core.files import file_sha256
from edgetf.targets.shell import ANSWER_SECONDS, Done, Shell

KEPT = 12  # models and runners
TOLD_BYTES = 8 << 20  # a file that takes a while
UNPACKED = ".app"  # what a zip application unpacks itself to
HASH_BYTES_PER_SECOND = 5_000_000  # a slow SD card reads 10 MB a second
_OTHER_BYTES = 65  # EX_DATAERR of sysexits.h
_NAMED_BY_US = "^[0-9a-f]\\{16\\}\\.[a-z]*$"
_HASH = "import hashlib,sys; print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())"


def deliver(shell: Shell, python: str, files: Mapping[PurePosixPath, Path]) -> None:
    """Bring files to their places, all in one folder; those that are there with the right bytes stay.

    Raises:
        DeviceError: the device cannot be reached, has no room, or its bytes differ from those sent.
    """
    folder = next(iter(files)).parent
    digests = {place: file_sha256(path) for place, path in files.items()}
    there = _there(shell, python, folder, files)
    missing = [place for place in files if there.get(place.name) != digests[place]]
    for place in missing:
        _send(shell, python, files[place], place, digests[place])
    if missing:
        _tidy(shell, folder)


def _there(shell: Shell, python: str, folder: PurePosixPath, files: Mapping[PurePosixPath, Path]) -> dict[str, str]:
    """sha256 by name of those files that are there; they become the newest."""
    names = " ".join(shlex.quote(place.name) for place in files)
    apps = " ".join(shlex.quote(place.with_suffix(UNPACKED).name) for place in files)
    script = (
        f"{_digest(python)}; mkdir -p {shlex.quote(str(folder))} && cd {shlex.quote(str(folder))} || exit 1; "
        f'touch -c {names} {apps} 2>/dev/null; for n in {names}; do if [ -f "$n" ]; then echo "$n $(digest "$n")"; fi; '
        "done"
    )
    done = shell.run(script, _hash_seconds(files.values()))
    if done.code != 0:
        raise DeviceError(_refused(shell, folder, done))
    pairs = (line.split() for line in done.out.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _send(shell: Shell, python: str, path: Path, place: PurePosixPath, digest: str) -> None:
    part = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}.part")
    size = path.stat().st_size
    if size >= TOLD_BYTES:
        print(f"{shell.name}: sending {path.name}, {size >> 20} MiB, once", file=sys.stderr)
    here, there = shlex.quote(str(part)), shlex.quote(str(place))
    try:
        done = shell.send(path, part)
        if done.code != 0:
            raise DeviceError(_refused(shell, place.parent, done))
        check = f'{_digest(python)}; [ "$(digest {here})" = {digest} ] || exit {_OTHER_BYTES}; mv -f {here} {there}'
        done = shell.run(check, _hash_seconds([path]))
    except BaseException:
        with suppress(DeviceError):
            shell.run(f"rm -f {here}")
        raise
    if done.code != 0:
        shell.run(f"rm -f {here}")
        if done.code == _OTHER_BYTES:
            raise DeviceError(
                f"{shell.name}: {path.name} arrived with other bytes than were sent, so it was removed there; "
                "try again, and look at the board's disk and line if it happens twice"
            )
        raise DeviceError(_refused(shell, place.parent, done))


def _tidy(shell: Shell, folder: PurePosixPath) -> None:
    """Remove what is older than the newest `KEPT`, and what killed uploads left; say so."""
    removed = shell.run(
        f"cd {shlex.quote(str(folder))} || exit 1; "
        "find . -maxdepth 1 -name '*.part' -mmin +60 -exec rm -rf {} + 2>/dev/null; "
        f'ls -1t | grep \'{_NAMED_BY_US}\' | tail -n +{KEPT + 1} | while read -r n; do rm -rf "$n" && echo "$n"; done'
    ).out.split()
    if removed:
        print(
            f"{shell.name}: removed {len(removed)} old file(s) from {folder}, the newest {KEPT} are kept",
            file=sys.stderr,
        )


def _hash_seconds(paths: Iterable[Path]) -> float:
    return ANSWER_SECONDS + sum(path.stat().st_size for path in paths) / HASH_BYTES_PER_SECOND


def _digest(python: str) -> str:
    """A shell function that prints the sha256 of a file, by Python where the board lacks sha256sum."""
    return (
        f'digest() {{ s=$(sha256sum "$1" 2>/dev/null) || s=$({shlex.quote(python)} -c {shlex.quote(_HASH)} "$1"); '
        "printf '%s\\n' \"${s%% *}\"; }"
    )


def _refused(shell: Shell, folder: PurePosixPath, done: Done) -> str:
    """Words for a folder that does not take a file."""
    said = " ".join((done.err or done.out).split())[-300:]
    place = f"{shell.name}: {folder} on the device"
    if "No space left" in said or "quota exceeded" in said.lower():
        return f"{place}: its disk is full; free some space there, or set another folder in the profile"
    if "Read-only file system" in said or "ermission denied" in said:
        return f"{place}: no permission to write there; set another folder in the profile"
    return f"{place}: does not take a file (code {done.code}: {said or 'no message'})"
