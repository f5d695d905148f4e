"""``edgetf recipes`` and ``edgetf devices``."""

from __future__ import annotations

import yaml
from rich.table import Table

from edgetf.commands.output import print_json
from edgetf.config.load import load_recipe, recipe_names
from edgetf.core.device import DeviceProfile, device_names, load_device
from edgetf.core.errors import EXIT_FINE
from edgetf.core.reach import REACHED
from edgetf.core.schemes import FORMATS, SCHEMES
from edgetf.report.table import console


def recipes_command(name: str | None, as_json: bool) -> int:
    """Every recipe with its stages, or one in full."""
    if name is not None:
        document = load_recipe(name).model_dump(mode="json")
        print_json(document) if as_json else print(
            yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end=""
        )
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
        print_json(document) if as_json else print(
            yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end=""
        )
        return EXIT_FINE
    profiles = [load_device(each) for each in device_names()]
    if as_json:
        print_json([profile.model_dump(mode="json") for profile in profiles])
        return EXIT_FINE
    table = Table()
    for column in ("device", "reached", "runtimes", "description"):
        table.add_column(column)
    for profile in profiles:
        table.add_row(profile.name, REACHED[profile.target], ", ".join(profile.runtimes), profile.description)
    console().print(table)
    return EXIT_FINE


def _schemes(profile: DeviceProfile) -> dict[str, dict[str, str]]:
    """How each scheme is run, by format; those that are refused are left out."""
    found: dict[str, dict[str, str]] = {}
    for model_format in FORMATS:
        supports = {scheme: profile.support(model_format, scheme) for scheme in SCHEMES}
        each: dict[str, str] = {scheme: support.how for scheme, support in supports.items() if support is not None}
        if each:
            found[model_format] = each
    return found
