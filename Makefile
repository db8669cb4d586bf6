# Everything a person or the CI does here. `make setup` is implied by every other target.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
# Threads of a test process: pytest-xdist already fills the cores.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_UPDATE_CHECK=1

.PHONY: setup demo test test-slow check fix bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[demo,dev]' --constraint constraints.txt
	touch $@

demo: setup
	$(BIN)/bash demo 2>/dev/null || true

test: setup
	$(TEST_ENV) $(BIN)/pytest -n 2 --dist worksteal -m "not slow"

test-slow: setup
	$(TEST_ENV) $(BIN)/pytest -n 2 --dist worksteal -m slow --timeout 1800

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build *.egg-info
