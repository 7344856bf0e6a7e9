# Two commands matter: `make demo` shows the main job from nothing, `make test` proves it.
# Nothing but Python >= 3.11 and make is needed; everything else is set up in .venv and the cache.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CHAOS_USERS ?= 2000
CHAOS_KILLS ?= 20
CHAOS_WAY ?= both
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all unit integration chaos e2e check lint types contracts format coverage \
	screenshots export-realm docs bench bench-check clean

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.12"; exit 2; }
	@echo "setting up $(VENV) (once; a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade "pip>=24" "setuptools>=77"
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

venv: $(STAMP)  ## set up the environment in .venv

demo: $(STAMP)  ## the whole flow on a real Kafka and Keycloak; KEEP=1 leaves it up
	@$(BIN)/python -m keycloak_bridge.sandbox.demo $(if $(KEEP),--keep)

test: $(STAMP)  ## unit, contract, integration, browser and a short chaos run; 15 minutes at most on two cores
	@$(BIN)/python -m tests.browser
	@$(BIN)/python -m tests.run

test-all: $(STAMP)  ## everything, with all chaos scenarios, the sandbox's life cycle and all of Hypothesis
	@$(BIN)/python -m tests.browser
	@$(BIN)/python -m tests.run --all

unit: $(STAMP)  ## the fast tests, without any service
	@$(BIN)/python -m pytest tests/unit tests/docs -m "not integration and not e2e"

integration: $(STAMP)  ## against real Kafka and Keycloak
	@$(BIN)/python -m pytest -m "integration and not chaos"

chaos: $(STAMP)  ## break everything with 2,000 users (CHAOS_USERS=, CHAOS_KILLS=, CHAOS_WAY=); renews docs/reliability.md
	@rm -f .chaos.jsonl
	@CHAOS_USERS=$(CHAOS_USERS) CHAOS_KILLS=$(CHAOS_KILLS) CHAOS_WAY=$(CHAOS_WAY) CHAOS_REPORT=$(CURDIR)/.chaos.jsonl \
		$(BIN)/python -m pytest -m chaos
	@$(BIN)/python -m tests.chaos.report .chaos.jsonl
	@rm -f .chaos.jsonl

e2e: $(STAMP)  ## in a real browser
	@$(BIN)/python -m tests.browser
	@$(BIN)/python -m pytest -m e2e

check: lint types contracts unit  ## what must be green before each commit

lint: $(STAMP)  ## ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy, strict
	@$(BIN)/mypy

contracts: $(STAMP)  ## imports point downwards; new schema versions accept what older ones accepted
	@$(BIN)/lint-imports
	@$(BIN)/keycloak-bridge --config /dev/null schemas check --published tests/unit/validation/published_schemas.json

format: $(STAMP)  ## format, and fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

coverage: $(STAMP)  ## branch coverage of the unit tests
	@$(BIN)/coverage run -m pytest tests/unit
	@$(BIN)/coverage combine
	@$(BIN)/coverage report

bench: $(STAMP)  ## measure against a bare client on a warmed Keycloak (bench/README.md); renews docs/benchmark
	@$(BIN)/python -m bench

bench-check: $(STAMP)  ## a short run; fails when a ratio is far below the recorded one
	@$(BIN)/python -m bench --check

docs: $(STAMP)  ## regenerate what the documentation derives from the code
	@$(BIN)/python -m tests.docs.generate

screenshots: $(STAMP)  ## take the pictures of docs/first-login.md again
	@$(BIN)/python -m tests.browser
	@SCREENSHOTS=docs/images $(BIN)/python -m pytest -q -m e2e -k event_to_token

export-realm: $(STAMP)  ## write keycloak-config/ again from the running sandbox (make demo KEEP=1)
	@environment="$$($(BIN)/keycloak-bridge sandbox env)" \
		&& env $$environment $(BIN)/python keycloak-config/export_realm.py

clean:  ## remove what was built here (not the download cache)
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
