"""``edgetf devices add``: ask a board what it is, and write its profile with the source of every figure."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from edgetf.commands.lists import devices_command
from edgetf.core.device import DeviceProfile
from edgetf.core.errors import ConfigError, DeviceError
from edgetf.core.files import exists, whole_file
from edgetf.core.places import own_devices, shipped
from edgetf.core.problems import explain
from edgetf.core.reach import Ssh
from edgetf.targets.described import hardware_of, notes_of, title_of
from edgetf.targets.interpreter import Interpreter, interpreter_of
from edgetf.targets.probe import Findings, probe
from edgetf.targets.shell import Shell

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_RUNTIMES = ("ort", "litert", "tflite_runtime")
_PROVIDER = {"litert": "LiteRT XNNPACK", "tflite_runtime": "LiteRT XNNPACK"}


@dataclass(frozen=True)
class Asked:
    """The command's options."""

    name: str
    host: str
    port: int | None
    identity: Path | None
    config: Path | None
    python: str
    folder: str
    zipped: bool
    emulated: bool
    force: bool
    as_json: bool


def devices_add_command(asked: Asked) -> int:
    """Write the profile and show it.

    Raises:
        ConfigError: the name or an option is wrong, or the profile is there already.
        DeviceError: the board cannot be reached, or nothing of ours could run there.
    """
    path = _place(asked)
    ssh = _section(asked)
    from edgetf.targets.ssh import SshShell

    tree = _tree(asked, ssh, SshShell(asked.name, ssh))
    try:
        profile = DeviceProfile.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, DeviceProfile, place=f"{asked.name}: ")) from None
    dumped = profile.model_dump(mode="json", exclude_defaults=True)
    document = {field: dumped[field] for field in tree if field in dumped}
    with whole_file(path) as part:
        part.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
    print(f"written: {path}", file=sys.stderr)
    return devices_command(asked.name, asked.as_json)


def _place(asked: Asked) -> Path:
    """Where the profile will be.

    Raises:
        ConfigError: that name may not be used.
    """
    if not re.fullmatch(_NAME, asked.name) or asked.name in {"add", "calibrate"}:
        raise ConfigError(f"name: got {asked.name!r}, allowed: letters, digits, _ and -, and no command's name")
    path = own_devices() / f"{asked.name}.yaml"
    if not asked.force:
        if exists(path):
            raise ConfigError(f"{path}: is there already; give --force to write it anew, or take another name")
        if exists(shipped("devices") / path.name):
            raise ConfigError(
                f"{asked.name}: a shipped device has that name; take another, or --force to hide that one"
            )
    return path


def _section(asked: Asked) -> Ssh:
    paths = {"identity": asked.identity, "config": asked.config}
    tree: dict[str, Any] = {name: str(path.expanduser().absolute()) for name, path in paths.items() if path is not None}
    tree |= {"host": asked.host, "port": asked.port, "python": asked.python, "folder": asked.folder}
    tree |= {"runner": "zip" if asked.zipped else "installed", "emulated": asked.emulated}
    try:
        return Ssh.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, Ssh, place="--")) from None


def _tree(asked: Asked, ssh: Ssh, shell: Shell) -> dict[str, Any]:
    """The profile as it will be written.

    Raises:
        DeviceError: see `devices_add_command`.
    """
    there = interpreter_of(shell, asked.python)
    found = probe(shell, asked.python)
    runtimes = _zipped(there, asked.name) if asked.zipped else _installed(found, shell, asked.python)
    known = {name: found.runtimes.get(name, {}).get("providers") or _providers(name) for name in runtimes}
    source = f"measured: edgetf devices add, {date.today().isoformat()}"
    return {
        "name": asked.name,
        "description": title_of(found),
        "target": "ssh",
        "ssh": ssh.model_dump(exclude_defaults=True),
        "architecture": there.architecture,
        "runtimes": runtimes,
        "python": [there.python],
        **hardware_of(found, source),
        "providers": list(dict.fromkeys(provider for providers in known.values() for provider in providers)),
        "notes": notes_of(found, there, source),
    }


def _providers(name: str) -> list[str]:
    return [_PROVIDER[name]] if name in _PROVIDER else []


def _installed(found: Findings, shell: Shell, python: str) -> list[str]:
    """The runtimes that are there.

    Raises:
        DeviceError: none is, or edgetf is not.
    """
    if "edgetf" not in found.runtimes:
        raise DeviceError(
            f"{shell.name}: edgetf is not installed for {python} there; run: "
            f"{shell.hand} {python} -m pip install 'edgetf[ort]', or add the board with --zip"
        )
    runtimes = [name for name in _RUNTIMES if name in found.runtimes]
    if not runtimes:
        raise DeviceError(
            f"{shell.name}: no runtime is installed for {python} there; run: "
            f"{shell.hand} {python} -m pip install 'edgetf[ort]' or 'edgetf[litert]', or add the board with --zip"
        )
    return runtimes


def _zipped(there: Interpreter, name: str) -> list[str]:
    """The runtimes whose wheels run there; the application with them is made now, so that the first use need not wait.

    Raises:
        DeviceError: there is none.
    """
    from edgetf.targets.application import application_for

    try:
        application_for({"ort", "litert"}, there, name)
    except DeviceError:
        application_for({"ort"}, there, name)
        return ["ort"]
    return ["ort", "litert"]
