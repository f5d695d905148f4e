"""``edgetf devices add``: ask a board what it is, and write its profile with the source of every figure."""

from __future__ import annotations

import re
import sys
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
from edgetf.core.reach import Adb, Ssh
from edgetf.targets.described import hardware_of, notes_of, title_of
from edgetf.targets.interpreter import Interpreter, interpreter_of
from edgetf.targets.probe import Findings, probe
from edgetf.targets.shell import Shell

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_COMMANDS = {"add", "calibrate", "show"}
_OPTIONS = {"host": "ssh", "serial": "adb"}
_RUNTIMES = ("ort", "litert", "tflite_runtime")
_PROVIDER = {"ort": "CPUExecutionProvider", "litert": "LiteRT XNNPACK", "tflite_runtime": "LiteRT XNNPACK"}


def devices_add_command(name: str, way: dict[str, Any], force: bool, as_json: bool) -> int:
    """Write the profile of the board that the options `way` reach, and show it.

    Raises:
        ConfigError: the name or an option is wrong, or the profile is there already.
        DeviceError: the board cannot be reached, or nothing of ours could run there.
    """
    path = _place(name, force)
    section = _section(way)
    shell = _shell(name, section)
    tree = _tree(name, section, shell)
    try:
        profile = DeviceProfile.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, DeviceProfile, place=f"{name}: ")) from None
    dumped = profile.model_dump(mode="json", exclude_defaults=True)
    document = {field: dumped[field] for field in tree if field in dumped}
    with whole_file(path) as part:
        part.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
    print(f"written: {path}", file=sys.stderr)
    return devices_command(name, as_json)


def _place(name: str, force: bool) -> Path:
    """Where the profile will be.

    Raises:
        ConfigError: that name may not be used.
    """
    if not re.fullmatch(_NAME, name) or name in _COMMANDS:
        raise ConfigError(f"name: got {name!r}, allowed: letters, digits, _ and -, and no command's name")
    path = own_devices() / f"{name}.yaml"
    if not force:
        if exists(path):
            raise ConfigError(f"{path}: is there already; give --force to write it anew, or take another name")
        if exists(shipped("devices") / path.name):
            raise ConfigError(f"{name}: a shipped device has that name; take another, or --force to hide that one")
    return path


def _section(way: dict[str, Any]) -> Ssh | Adb:
    """The part of the profile that says how it is reached.

    Raises:
        ConfigError: an option is wrong.
    """
    if ("host" in way) == ("serial" in way):
        raise ConfigError("--ssh, --adb: give one of the two")
    schema: type[Ssh | Adb] = Ssh if "host" in way else Adb
    tree = {key: str(value.expanduser().absolute()) if isinstance(value, Path) else value for key, value in way.items()}
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, schema, name=lambda at: f"--{_OPTIONS.get(str(at[0]), at[0])}")) from None


def _shell(name: str, section: Ssh | Adb) -> Shell:
    if isinstance(section, Ssh):
        from edgetf.targets.ssh import SshShell

        return SshShell(name, section)
    from edgetf.targets.adb import AdbShell

    return AdbShell(name, section)


def _tree(name: str, section: Ssh | Adb, shell: Shell) -> dict[str, Any]:
    """The profile as it will be written.

    Raises:
        DeviceError: see `devices_add_command`.
    """
    there = interpreter_of(shell, section.python)
    found = probe(shell, section.python)
    runtimes = _zipped(there, name) if section.runner == "zip" else _installed(found, shell, section.python)
    known = {each: found.runtimes.get(each, {}).get("providers") or _providers(each) for each in runtimes}
    source = f"measured: edgetf devices add, {date.today().isoformat()}"
    target = "ssh" if isinstance(section, Ssh) else "adb"
    return {
        "name": name,
        "description": title_of(found),
        "target": target,
        target: section.model_dump(exclude_defaults=True),
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
