"""``edgetf recipes`` and ``edgetf devices``."""

from __future__ import annotations

from typing import Any

import yaml
from rich.table import Table

from edgetf.commands.output import print_json
from edgetf.config.load import load_recipe, recipe_names
from edgetf.core.device import DeviceProfile, device_names, load_device
from edgetf.core.errors import EXIT_FINE
from edgetf.core.hardware import Hardware
from edgetf.core.reach import REACHED
from edgetf.core.schemes import FORMATS, SCHEMES
from edgetf.report.table import console


def recipes_command(name: str | None, as_json: bool) -> int:
    """Every recipe with its stages, or one in full."""
    if name is not None:
        document = load_recipe(name).model_dump(mode="json")
        print_json(document) if as_json else print(_yaml(document), end="")
        return EXIT_FINE
    recipes = [load_recipe(each) for each in recipe_names()]
    if as_json:
        print_json([recipe.model_dump(mode="json") for recipe in recipes])
        return EXIT_FINE
    table = Table()
    for column in ("recipe", "stages", "variants", "description"):
        table.add_column(column)
    for recipe in recipes:
        variants = ", ".join(recipe.variant_names())
        stages = " → ".join(stage.stage for stage in recipe.stages)
        table.add_row(recipe.name, stages, variants, " ".join(recipe.description.split()))
    console().print(table)
    return EXIT_FINE


def devices_command(name: str | None, as_json: bool) -> int:
    """Every device profile, or one in full."""
    if name is not None:
        profile = load_device(name)
        document = {**profile.model_dump(mode="json"), "schemes": _schemes(profile)}
        print_json(document) if as_json else print(profile_text(document), end="")
        return EXIT_FINE
    profiles = [load_device(each) for each in device_names()]
    if as_json:
        print_json([profile.model_dump(mode="json") for profile in profiles])
        return EXIT_FINE
    table = Table()
    for column in ("device", "reached", "runtimes", "hardware", "description"):
        table.add_column(column)
    for profile in profiles:
        runtimes, hardware = ", ".join(profile.runtimes), "\n".join(hardware_lines(profile))
        table.add_row(profile.name, REACHED[profile.target], runtimes, hardware, profile.description)
    console().print(table)
    return EXIT_FINE


def hardware_lines(hardware: Hardware) -> list[str]:
    """What is known of cores and memory, a line for each kind of cores and one for the memory.

    >>> from edgetf.core.hardware import Cores, Memory
    >>> cores = Cores(model="Cortex-A76", count=4, clock_mhz=2400, source="a data sheet")
    >>> memory = Memory(kind="LPDDR4X", sizes_gib=(4, 8), peak_gb_per_s=17, source="a data sheet")
    >>> hardware_lines(Hardware(cores=(cores,), memory=memory))
    ['4 × Cortex-A76, 2.4 GHz', '4, 8 GiB LPDDR4X, 17 GB/s']
    """
    lines = []
    for cores in hardware.cores:
        clock = "" if cores.clock_mhz is None else f", {cores.clock_mhz / 1000:.3g} GHz"
        lines.append(f"{cores.count} × {cores.model}{clock}")
    if memory := hardware.memory:
        sizes = ", ".join(f"{size:g}" for size in memory.sizes_gib)
        size_and_kind = " ".join(filter(None, [sizes and f"{sizes} GiB", memory.kind]))
        bandwidth = f"{memory.peak_gb_per_s:g} GB/s" if memory.peak_gb_per_s else ""
        lines.append(", ".join(filter(None, [size_and_kind, bandwidth])))
    return lines


def profile_text(document: dict[str, Any]) -> str:
    """A profile as YAML to read: how it is reached, then a figure a line, then the notes; what is empty is left out."""
    last = ("schemes", "notes")
    order = [key for key in document if key not in Hardware.model_fields and key not in last]
    order += [*Hardware.model_fields, *last]
    said = {key: _plain(document[key]) for key in order if document[key] not in (None, [], {})}
    notes = said.pop("notes", None)
    return _yaml(said, default_flow_style=None) + (_yaml({"notes": notes}) if notes else "")


def _plain(value: Any) -> Any:
    """Without the fields that were left open, and whole numbers without a point."""
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items() if each is not None}
        case list():
            return [_plain(each) for each in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def _yaml(document: dict[str, Any], default_flow_style: bool | None = False) -> str:
    return yaml.safe_dump(
        document, sort_keys=False, allow_unicode=True, width=110, default_flow_style=default_flow_style
    )


def _schemes(profile: DeviceProfile) -> dict[str, dict[str, str]]:
    """How each scheme is run, by format; those that are refused are left out."""
    found: dict[str, dict[str, str]] = {}
    for model_format in FORMATS:
        supports = {scheme: profile.support(model_format, scheme) for scheme in SCHEMES}
        each: dict[str, str] = {scheme: support.how for scheme, support in supports.items() if support is not None}
        if each:
            found[model_format] = each
    return found
