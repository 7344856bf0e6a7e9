# The two main commands: `make demo` shows the whole flow on a new machine, `make test` tests it.
# Python 3.11 or newer and make are needed, and everything else is set up in .venv and the cache, except Chromium, its driver and npm
# for the browser tests of `make test`: root on Debian gets them by apt-get, others are told what to install.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CHAOS_USERS ?= 2000
CHAOS_KILLS ?= 20
CHAOS_WAY ?= both
STAMP := $(VENV)/.installed
SHIP := $(VENV)/.ship

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all unit integration chaos e2e check lint types contracts format coverage \
	screenshots export-realm dist docs site bench bench-check bench-scale profile lock audit \
	test-image test-compose test-deploy test-dependencies matrix clean

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.12"; exit 2; }
	@echo "setting up $(VENV) (once; a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade "pip>=24" "setuptools>=77"
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(SHIP): $(STAMP)
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[ship]'
	@touch $@

venv: $(STAMP)  ## set up the environment in .venv

demo: $(STAMP)  ## show the whole flow on a real Kafka and Keycloak; KEEP=1 leaves the services running
	@$(BIN)/keycloak-bridge demo $(if $(KEEP),--keep)

test: $(STAMP)  ## run unit, docs, contract, integration and browser tests and a short chaos run; at most 15 minutes
	@$(BIN)/python -m tests.browser
	@$(BIN)/python -m tests.prometheus
	@$(BIN)/python -m tests.run

test-all: $(STAMP)  ## run all tests: also all chaos scenarios, the sandbox's life cycle, Hypothesis in full, and bench-check
	@$(BIN)/python -m tests.browser
	@$(BIN)/python -m tests.prometheus
	@$(BIN)/python -m tests.run --all
	@$(BIN)/python -m bench --check

test-image: $(SHIP)  ## build the image and run it, with and without Kafka and Keycloak (Linux, root; podman is installed where it may)
	@$(BIN)/python -m tests.ship.image

test-compose: $(STAMP)  ## bring compose/ up, the demo's events through it, and down (Linux, root; podman is installed where it may)
	@$(BIN)/python -m tests.ship.compose

test-deploy: $(STAMP)  ## render deploy/ in every combination, check it and run the Pod (Linux, root; podman is installed where it may)
	@$(BIN)/python -m tests.ship.deploy

unit: $(STAMP)  ## run the fast tests, which need no service
	@$(BIN)/python -m pytest tests/unit tests/docs -m "not integration and not e2e"

integration: $(STAMP)  ## run the tests on a real Kafka and Keycloak
	@$(BIN)/python -m pytest -m "integration and not chaos"

chaos: $(STAMP)  ## run the chaos suite with 2,000 users (CHAOS_USERS=, CHAOS_KILLS=, CHAOS_WAY=); updates docs/reliability.md
	@rm -f .chaos.jsonl
	@CHAOS_USERS=$(CHAOS_USERS) CHAOS_KILLS=$(CHAOS_KILLS) CHAOS_WAY=$(CHAOS_WAY) CHAOS_REPORT=$(CURDIR)/.chaos.jsonl \
		$(BIN)/python -m pytest -m chaos
	@$(BIN)/python -m tests.chaos.report .chaos.jsonl
	@rm -f .chaos.jsonl

e2e: $(STAMP)  ## run the tests in a real browser
	@$(BIN)/python -m tests.browser
	@$(BIN)/python -m pytest -m e2e

check: lint types contracts unit  ## run all checks that must pass before each commit

lint: $(STAMP)  ## run ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)  ## run mypy in strict mode
	@$(BIN)/mypy

contracts: $(STAMP)  ## check that imports point downwards, and that new schema versions accept what older ones accepted
	@$(BIN)/lint-imports
	@$(BIN)/keycloak-bridge --config /dev/null schemas check --published tests/unit/validation/published_schemas.json

format: $(STAMP)  ## format, and fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

coverage: $(STAMP)  ## measure the branch coverage of the unit tests
	@$(BIN)/coverage run -m pytest tests/unit
	@$(BIN)/coverage combine
	@$(BIN)/coverage report

bench: $(STAMP)  ## compare with a bare client and Redpanda Connect (bench/README.md); updates docs/benchmark and README.md
	@$(BIN)/python -m bench --write

bench-scale: $(STAMP)  ## measure each kind of event in realms of up to a million users on PostgreSQL; updates docs/scaling.md
	@$(BIN)/python -m bench.scale --write

bench-check: $(STAMP)  ## run the benchmark briefly; fails if a ratio is far below the recorded one
	@$(BIN)/python -m bench --check

profile: $(STAMP)  ## show which packages the bridge's CPU goes to, by single writes and in batches
	@$(BIN)/python -m bench --profile

dist: $(STAMP)  ## build the release in dist/, twice, and run the demo from its wheel alone
	@$(BIN)/python -m tests.ship.dist

docs: $(STAMP)  ## generate the parts of the documentation that come from the code
	@$(BIN)/python -m tests.docs.generate

site: $(STAMP)  ## build the documentation as a searchable site in site/
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@$(BIN)/python -m tests.ship.site

screenshots: $(STAMP)  ## take the pictures of docs/first-login.md and docs/page.md again
	@$(BIN)/python -m tests.browser
	@SCREENSHOTS=docs/images $(BIN)/python -m pytest -q -m e2e -k 'event_to_token or page_in_browser and not running'

export-realm: $(STAMP)  ## export the realm of the running sandbox (make demo KEEP=1) to keycloak-config/
	@environment="$$($(BIN)/keycloak-bridge sandbox env)" \
		&& env $$environment $(BIN)/python keycloak-config/export_realm.py

lock: $(SHIP)  ## lock the image's dependencies again, to the newest versions that setup.cfg allows, with hashes
	@$(BIN)/python -m tests.ship.lock

audit: $(SHIP)  ## ask PyPI for known vulnerabilities of what the image has (needs access to pypi.org)
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement compose/requirements.lock

matrix: $(SHIP)  ## run the bridge on a choice of Keycloak, Kafka and Python (ROW=number, TESTS=group); updates README.md
	@$(BIN)/python -m tests.browser
	@$(BIN)/python -m tests.ship.matrix $(if $(ROW),--row $(ROW)) $(if $(TESTS),--tests "$(TESTS)")

test-dependencies: $(SHIP)  ## run the unit tests with the oldest and with the newest dependencies that setup.cfg allows
	@$(BIN)/python -m tests.ship.environments

clean:  ## remove everything that was built here, but not the download cache
	@rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
