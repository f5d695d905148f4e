"""Every command that README and docs show is one that there is, with recipes, devices and options that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from command_lines import parsed

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


@pytest.mark.parametrize("words", COMMANDS)
def test_shown_command_is_there(words: list[str]) -> None:
    name, values = parsed(words[1:])
    named = values.get("device") or []
    assert set([named] if isinstance(named, str) else named) <= set(device_names())
    if name == "compress":
        recipe = next(word.removeprefix("recipe=") for word in values["words"] if word.startswith("recipe="))
        if recipe in recipe_names():
            load_recipe(recipe, [word for word in values["words"] if not word.startswith("recipe=")])


def test_readme_shows_commands() -> None:
    assert len(shown_commands(REPOSITORY / "README.md")) >= 10
