# Everything is run from here: each target first makes .venv, so a fresh clone needs no other command.

PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist worksteal --durations=25
VENV := .venv
BIN := $(VENV)/bin
PREFIX ?= $(HOME)/.local
PLACE := $(PREFIX)/lib/zmesh-agents
STAMP := $(VENV)/installed

# Debian's python3 comes without ensurepip, which `python3 -m venv` needs; python3-venv brings it.
define CHECK_PYTHON
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo 'zmesh needs Python 3.11 or newer: make PYTHON=/path/to/python3' >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip' 2>/dev/null || ./.ci/setup python3-venv
@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	|| { echo 'This Python cannot make virtual environments: install python3-venv, or make PYTHON=/path/to/python3' >&2; exit 1; }
endef

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench soak clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## put the command zmesh into ~/.local/bin; PREFIX=DIR for another place than ~/.local
	$(CHECK_PYTHON)
	@echo 'Installing zmesh and what it needs into $(PLACE).'
	@$(PYTHON) -m venv '$(PLACE)'
	@rm -rf build
	@'$(PLACE)/bin/python' -m pip install --quiet --disable-pip-version-check .
	@rm -rf build
	@mkdir -p '$(PREFIX)/bin'
	@ln -sfn "$$(cd '$(PLACE)' && pwd)/bin/zmesh" '$(PREFIX)/bin/zmesh'
	@case ":$$PATH:" in *':$(PREFIX)/bin:'*) echo 'Done: zmesh --help' ;; \
		*) echo 'Done. $(PREFIX)/bin is not on your PATH: export PATH="$(PREFIX)/bin:$$PATH"' ;; esac

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

$(STAMP): setup.cfg pyproject.toml
	$(CHECK_PYTHON)
	@echo 'Setting up .venv: zmesh and what it, its tests and its tools need. About a minute, only this once.'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,dev,bench]'
	@echo 'Done.'
	@touch $@
