"""The commands that have commands of their own: devices, targets, ci."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgetf.cli_options import Json
from edgetf.commands.group import ShowGroup

devices = typer.Typer(
    cls=ShowGroup, help="List the device profiles, show one (devices NAME), add a board, or calibrate one for predict."
)


@devices.command("show", hidden=True)
def devices_show(name: Annotated[str | None, typer.Argument(help="Show one.")] = None, json: Json = False) -> None:
    """List the device profiles, or show one: what `edgetf devices [NAME]` does."""
    from edgetf.commands.lists import devices_command

    raise typer.Exit(devices_command(name, json))


@devices.command("add")
def devices_add(
    name: Annotated[str, typer.Argument(help="How it will be called.")],
    ssh: Annotated[str | None, typer.Option(help="USER@HOST, or a name that ssh knows.")] = None,
    adb: Annotated[str | None, typer.Option(help="A serial that `adb devices` shows.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: as ssh is configured.")] = None,
    identity: Annotated[Path | None, typer.Option(help="A private key. Default: as ssh is configured.")] = None,
    config: Annotated[Path | None, typer.Option(help="An ssh configuration file of its own.")] = None,
    python: Annotated[str | None, typer.Option(help="The Python there. Default: python3.")] = None,
    folder: Annotated[str | None, typer.Option(help="Where files go there. Default: .cache/edgetf.")] = None,
    zipped: Annotated[
        bool, typer.Option("--zip", help="Send the runner with its packages, for a board without pip.")
    ] = False,
    emulated: Annotated[
        bool, typer.Option("--emulated", help="An emulator plays its processor: milliseconds are withheld.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a profile of that name.")] = False,
    json: Json = False,
) -> None:
    """Ask a board what it is made of, and write its profile."""
    from edgetf.commands.devices_add import devices_add_command

    way = {"host": ssh, "serial": adb, "port": port, "identity": identity, "config": config, "python": python}
    way |= {"folder": folder, "runner": "zip" if zipped else None, "emulated": emulated or None}
    raise typer.Exit(devices_add_command(name, {key: value for key, value in way.items() if value}, force, json))


@devices.command("calibrate")
def devices_calibrate(
    name: Annotated[str, typer.Argument(help="A device profile.")],
    threads: Annotated[int | None, typer.Option(min=1, help="Default: the profile's.")] = None,
    json: Json = False,
) -> None:
    """Time a dozen probe models on a device, and fit what `edgetf predict` predicts by."""
    from edgetf.commands.calibrate import calibrate_command

    raise typer.Exit(calibrate_command(name, threads, json))


targets = typer.Typer(help="Ways to reach a device: list them, or set one up.")


@targets.callback(invoke_without_command=True)
def targets_list(context: typer.Context, json: Json = False) -> None:
    """Ways to reach a device: list them, or set one up."""
    if context.invoked_subcommand is None:
        from edgetf.commands.targets import targets_command

        raise typer.Exit(targets_command(json))


@targets.command("setup")
def targets_setup(
    name: Annotated[str, typer.Argument(metavar="emulated-arm64", help="What to set up.")], json: Json = False
) -> None:
    """Download and make what a target needs, in the cache folder; installs nothing on this machine."""
    from edgetf.commands.targets import setup_command

    raise typer.Exit(setup_command(name, json))


ci = typer.Typer(no_args_is_help=True, help="Budgets as a gate of a CI.")


@ci.command("init")
def ci_init(
    board: Annotated[
        list[str] | None,
        typer.Option(help="hosted, emulated-arm64, raspberry-pi, jetson; repeatable. Default: the first two."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="A recipe's name or file.")] = "quickstart",
    variant: Annotated[str, typer.Option(help="The variant of it that is gated.")] = "onnx-w8a8_dynamic",
    edgetf: Annotated[
        str, typer.Option(metavar="SPEC", help="What pip installs: a name, a folder, a wheel or a URL.")
    ] = "edgetf",
    out: Annotated[Path, typer.Option(help="Where workflows stand.")] = Path(".github/workflows"),
    force: Annotated[bool, typer.Option("--force", help="Replace workflows that are there.")] = False,
    json: Json = False,
) -> None:
    """Write ready-made GitHub Actions workflows."""
    from edgetf.ci.workflows import Project
    from edgetf.commands.ci import ci_init_command

    raise typer.Exit(ci_init_command(board or [], Project(recipe, variant, edgetf), out, force, json))
