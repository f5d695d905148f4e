"""Whatever stands in a recipe or on the command line, nothing but a ConfigError comes out."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetf.config.load import find_recipe, load_recipe, read_tree
from edgetf.config.overrides import apply_overrides
from edgetf.config.recipe import Recipe
from edgetf.config.stages import STAGE_ORDER
from edgetf.core.errors import ConfigError

often = settings(max_examples=120, deadline=None)
SHIPPED = read_tree(find_recipe("quickstart"))

parts = st.sampled_from(
    [
        *Recipe.model_fields,
        *STAGE_ORDER,
        "epochs",
        "formats",
        "source",
        "split",
        "layers",
        "0",
        "",
        "devices",
        "stage",
        "target",
        "augment",
        "schedules",
        "unlabelled",
        "progressive",
    ]
)
paths = st.lists(parts, min_size=1, max_size=3).map(".".join)
values = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["null", "[]", "{}", "3", "1e-4", "[null]", '[{"stage": "export"}]', '{"stage": []}', "[[1]]", "true"]
    ),
)
words = st.one_of(st.text(max_size=30), st.tuples(paths, values).map("=".join))
scalars = st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=6) | st.dates()
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=5,
)


@often
@given(given_words=st.lists(words, max_size=3))
def test_overrides_raise_nothing_but_config_errors(given_words: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        load_recipe("quickstart", given_words)


@often
@given(path=paths, value=values)
def test_an_override_that_is_taken_stands_in_the_tree_once(path: str, value: str) -> None:
    try:
        edited = apply_overrides(SHIPPED, [f"{path}={value}"])
    except ConfigError:
        return
    assert apply_overrides(edited, [f"{path}={value}"]) == edited


@often
@given(field=st.sampled_from(sorted(Recipe.model_fields)), value=trees)
def test_a_recipe_file_raises_nothing_but_config_errors(field: str, value: Any) -> None:
    tree = {**copy.deepcopy(SHIPPED), field: value}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.yaml"
        path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
        with contextlib.suppress(ConfigError):
            load_recipe(str(path))


@often
@given(content=st.binary(max_size=30) | st.text("[]{}:-!&*#? \nab01", max_size=30).map(str.encode))
def test_any_bytes_raise_nothing_but_config_errors(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.yaml"
        path.write_bytes(content)
        with contextlib.suppress(ConfigError):
            load_recipe(str(path))


@often
@given(
    epochs=st.floats(0.1, 1000),
    rate=st.floats(1e-6, 0.9),
    temperature=st.floats(0.1, 100),
    layers=st.integers(1, 48),
)
def test_a_number_on_the_command_line_is_the_number_in_the_recipe(
    epochs: float, rate: float, temperature: float, layers: int
) -> None:
    recipe = load_recipe(
        "quickstart",
        [f"distill.epochs={epochs!r}", f"distill.learning_rate={rate!r}", f"distill.temperature={temperature!r}",
         f"student.num_hidden_layers={layers}", "student.layers=null"],
    )  # fmt: skip
    distill: Any = recipe.stages[1]
    assert (distill.epochs, distill.learning_rate, distill.temperature) == (epochs, rate, temperature)
    assert recipe.student.num_hidden_layers == layers
