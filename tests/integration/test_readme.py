"""Every command that README and docs show is one that there is, with recipes, devices and options that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import Cli

from edgetf.config.load import load_recipe, recipe_names
from edgetf.core.device import device_names

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted([REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("*/README.md")])


SHOWN = re.compile(r"^(?: {4,}|\s*- run: )(edgetf [a-z].*)$", re.MULTILINE)


def shown_commands(page: Path) -> list[list[str]]:
    """The words of each indented command line that begins with ``edgetf``."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [re.split(" # | > | \\| |  ", line)[0] for line in SHOWN.findall(text)]
    return [shlex.split(line) for line in lines]


COMMANDS = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}") for page in PAGES for words in shown_commands(page)
]


@pytest.fixture(scope="module")
def options(cli: Cli) -> dict[str, str]:
    """The help text of each command."""
    names = ["compress", "validate", "bench", "predict", "infer", "recipes", "devices", "inspect", "report", "doctor"]
    names.append("bundle")
    return {name: cli(name, "--help").stdout for name in names}


@pytest.mark.parametrize("words", COMMANDS)
def test_shown_command_is_there(words: list[str], options: dict[str, str]) -> None:
    command, rest = words[1], words[2:]
    assert command in options
    for word in rest:
        if word.startswith("--"):
            assert word in options[command]
    if "--device" in rest:
        assert rest[rest.index("--device") + 1] in device_names()
    if command == "compress":
        recipe = next(word.removeprefix("recipe=") for word in rest if word.startswith("recipe="))
        if recipe in recipe_names():
            overrides = [word for word in rest if "=" in word and not word.startswith(("recipe=", "--"))]
            load_recipe(recipe, overrides)


def test_readme_shows_commands() -> None:
    assert len(shown_commands(REPOSITORY / "README.md")) >= 10
