"""Write ready-made GitHub Actions workflows: a gate on a hosted runner, on an emulated processor, or on a board.

The workflows stand beside this file, one a kind of runner. What a project changes stands under ``env:``, filled in from
the recipe, so that a gate begins with the bounds that the recipe has. In a workflow ``%{name}`` is a blank, because
``$`` is the shell's and ``${{ }}`` is GitHub's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from edgetf.config.load import load_recipe, recipe_names
from edgetf.config.schema import AnyRecipe
from edgetf.core.budget import TIMED
from edgetf.core.errors import ConfigError, near_match
from edgetf.core.files import guard_disk

HERE = Path(__file__).resolve().parent / "workflows"
KINDS = ("hosted", "emulated-arm64", "raspberry-pi", "jetson")
ANYWHERE = ("hosted", "emulated-arm64")  # these need no machine of one's own
NO_LARGER = {"size_ratio": 1.0}  # where the recipe bounds nothing
NO_MORE_WORK = {"instructions_ratio": 1.0}
_PLAIN = re.compile(r"[A-Za-z0-9_.+@:/-]+")  # neither YAML nor a shell reads anything into these


class _Workflow(Template):
    delimiter = "%"


@dataclass(frozen=True)
class Project:
    """What the workflows of a project are filled in with."""

    recipe: str = "quickstart"
    variant: str = "onnx-w8a8_dynamic"
    edgetf: str = "edgetf"  # what pip installs: a name, a folder, a wheel, or a URL


def workflow(kind: str, project: Project) -> str:
    """The text of a workflow.

    Raises:
        ConfigError: no such kind, recipe or variant, or a name that cannot stand in a workflow.
    """
    problems = [f"--board {kind}: no such workflow{near_match(kind, KINDS)}"] if kind not in KINDS else []
    for option, value in vars(project).items():
        if not _PLAIN.fullmatch(value):
            problems.append(f"--{option} {value!r}: allowed: letters, digits and _ . + @ : / -")
    if problems:
        raise ConfigError(problems)
    recipe = load_recipe(project.recipe, [])
    names = recipe.variant_names()
    if project.variant not in names:
        raise ConfigError(f"--variant {project.variant}: not made by {recipe.name}{near_match(project.variant, names)}")
    blanks = {
        "recipe": project.recipe,
        "variant": project.variant,
        "budget": budget_words(first_bounds(kind, recipe.budget)),
        "build": requirement(project.edgetf, build_extras(recipe, project.recipe in recipe_names())),
        "board": requirement(project.edgetf, board_extras(project.variant)),
    }
    return _Workflow((HERE / f"{kind}.yaml").read_text(encoding="utf-8")).substitute(blanks)


def first_bounds(kind: str, budget: Mapping[str, float]) -> dict[str, float]:
    """The bounds that a gate begins with: the recipe's, but those on time only where they may have been measured.

    >>> first_bounds("emulated-arm64", {"accuracy_drop": 0.02, "speedup": 4.0})
    {'accuracy_drop': 0.02, 'instructions_ratio': 1.0}
    """
    strict = {key: limit for key, limit in budget.items() if kind == "hosted" or key not in TIMED}
    return (strict or NO_LARGER) | (NO_MORE_WORK if kind == "emulated-arm64" else {})


def budget_words(budget: Mapping[str, float]) -> str:
    """A budget as the command line has it.

    >>> budget_words({"accuracy_drop": 0.02, "size_ratio": 4.0})
    '--budget accuracy_drop=0.02 --budget size_ratio=4'
    """
    return " ".join(f"--budget {key}={limit:g}" for key, limit in budget.items())


def build_extras(recipe: AnyRecipe, is_shipped: bool) -> list[str]:
    """What the machine that compresses needs."""
    formats = {model_format for model_format, _ in recipe.variants()}
    return ["compress", *(["tflite"] if "tflite" in formats else []), *(["quickstart"] if is_shipped else [])]


def board_extras(variant: str) -> list[str]:
    """What a board needs: the runtime of the teacher's ONNX file, and that of the variant.

    >>> board_extras("onnx-fp32"), board_extras("2x-tflite-w8a8")
    (['ort'], ['ort', 'litert'])
    """
    return ["ort", "litert"] if "tflite" in variant.split("-") else ["ort"]


def requirement(source: str, extras: Sequence[str]) -> str:
    """What pip is given.

    >>> requirement("edgetf", ["ort"]), requirement(".", ["compress", "tflite"])
    ('edgetf[ort]', '.[compress,tflite]')
    >>> requirement("git+https://host/edgetf.git@v1", ["ort"])
    'edgetf[ort] @ git+https://host/edgetf.git@v1'
    """
    wanted = f"[{','.join(extras)}]"
    return f"edgetf{wanted} @ {source}" if "://" in source else f"{source}{wanted}"


def write_workflows(kinds: Sequence[str], project: Project, out: Path, force: bool) -> list[Path]:
    """Write a workflow for each kind of runner, or none.

    Raises:
        ConfigError: as in `workflow`, or one is there already and `force` is not set.
    """
    texts = {out / f"edgetf-{kind}.yaml": workflow(kind, project) for kind in kinds}
    there = [path for path in texts if path.exists()]
    if there and not force:
        raise ConfigError([f"{path}: is there already; --force replaces it" for path in there])
    for path, text in texts.items():
        with guard_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".yaml.part")
            part.write_text(text, encoding="utf-8")
            part.replace(path)
    return list(texts)
