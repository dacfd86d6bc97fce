# Everything runs in the checkout's own virtual environment, .venv. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo app test test-slow faults bench lint metrics format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## *' '{printf "  make %-8s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/installed

demo: .venv/installed  ## install, run examples/experiments/demo.toml on built-in data, then serve the app on localhost:8501
	$(BIN)/fairvlm experiment examples/experiments/demo.toml
	$(BIN)/fairvlm app

app: .venv/installed  ## serve the app on localhost:8501
	$(BIN)/fairvlm app

# A file stays in one process: its server, its browser and its trained runs are made once.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/installed-test  ## run the tests but for the slow ones (2 processes)
	$(PYTEST) -m "not slow"

test-slow: .venv/installed-test  ## run the slow tests only
	$(PYTEST) -m slow

faults: .venv/installed-test  ## run the fault tests in their long form and print their table
	@mkdir -p build && rm -f build/faults.xml
	-FAIRVLM_FAULTS=long OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal -q -k test_fault --junitxml=build/faults.xml
	@$(BIN)/python tests/faults/table.py build/faults.xml

bench: .venv/installed-test  ## regenerate the figures of docs/benchmark.md
	$(BIN)/python benchmarks/planted.py --into docs/benchmark.md

lint: .venv/installed-test  ## ruff, format check, order of imports, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

metrics: .venv/installed-test  ## size and complexity of the code against their limits
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python .ci/metrics.py

format: .venv/installed-test  ## apply ruff's fixes and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the virtual environment and caches (runs in ./workspace stay)
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
