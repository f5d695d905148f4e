# Two commands do everything: `make quickstart` runs the main job, `make test` the checks and tests.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.installed

# Optimum holds the environment at transformers 4.57; what touches models is tested on 5.x beside it.
NEWER := $(VENV)/transformers5
NEWER_TESTS := tests/unit/test_families.py tests/unit/test_students.py tests/unit/test_checkpoint.py \
    tests/unit/test_stages.py tests/unit/test_formats.py tests/property/test_slicing.py \
    tests/unit/test_decoder_checkpoint.py tests/unit/test_decoder_pruning.py tests/unit/test_decoder_onnx.py \
    tests/unit/test_decoder_teacher.py

# What the tests of devices run: emulated processors, a bare arm64 system, an SSH server, adb. Without them they skip.
# Only a CI gets them by itself: nobody's own machine should have an SSH server because its tests were run.
DEVICE_TOOLS := qemu-user proot openssh-server adb gcc libc6-dev

.PHONY: install quickstart test device-tools bench clean

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

$(NEWER)/.installed: $(DONE)
	$(BIN)/python -m pip install --quiet --upgrade --target $(NEWER) "transformers>=5,<6"
	touch $@

device-tools:
	@if dpkg -s $(DEVICE_TOOLS) >/dev/null 2>&1; then exit 0; fi; \
	test -n "$$CI" && apt-get -qq update >/dev/null 2>&1 && \
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $(DEVICE_TOOLS) >/dev/null 2>&1 || \
	echo "device-tools: not all of $(DEVICE_TOOLS) are installed; the tests that need them skip"

test: install device-tools $(NEWER)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=85
	PYTHONPATH=$(NEWER) $(BIN)/python -m pytest -m "not slow" $(NEWER_TESTS)

bench: install
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) runs build dist .coverage* .mypy_cache .pytest_cache .ruff_cache
