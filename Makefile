# Everything is run from here: each target first makes .venv, so a fresh clone needs no other command.

PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist worksteal --durations=25
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help demo test check bench soak clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## run a small mesh on this machine and show what it does
	$(BIN)/zmesh demo

test: $(STAMP) ## install what is missing, then check, test and measure the protocol's coverage
	./.ci/setup
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest $(PYTEST_ARGS)
	$(BIN)/python tests/module_coverage.py

check: $(STAMP) ## lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(STAMP) ## measure zmesh beside NATS JetStream
	./.ci/setup nats-server
	$(BIN)/zmesh bench --compare nats

soak: $(STAMP) ## the long storms: kills, power cuts, seeds
	$(BIN)/python -m pytest tests -m soak --timeout 0

clean: ## remove what the other targets made, .venv too
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find zmesh adapters tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian's python3 comes without ensurepip, which `python3 -m venv` needs; python3-venv brings it.
$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'zmesh needs Python 3.11 or newer: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || ./.ci/setup python3-venv
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
		|| { echo 'This Python cannot make virtual environments: install python3-venv, or make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo 'Setting up .venv: zmesh and what it, its tests and its tools need. About a minute, only this once.'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,dev,bench]'
	@echo 'Done.'
	@touch $@
