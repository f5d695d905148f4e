# Two commands do everything: `make quickstart` runs the main job, `make test` the checks and tests.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.installed

.PHONY: install quickstart test bench clean

install: $(DONE)

# torch first and by itself: its CPU build is taken where one is at hand, before another package asks for the newest.
$(DONE): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "torch>=2.9,<2.14"
	$(BIN)/python -m pip install --quiet --editable ".[all]"
	touch $(DONE)

quickstart: install
	$(BIN)/edgetf compress recipe=quickstart
	$(BIN)/edgetf infer runs/quickstart/onnx-w8a8_dynamic "Shares in the airline fell after the strike"

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=85

bench: install
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) runs build dist .coverage* .mypy_cache .pytest_cache .ruff_cache
