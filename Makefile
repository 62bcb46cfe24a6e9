# Everything a developer runs. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/requirements.lock
PYTHON_CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3.10 python3)
# The environment is ready when it was made from exactly these files.
READY := $(VENV)/ready-$(shell cat requirements/*.lock pyproject.toml setup.py | cksum | tr ' ' '-')
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps
COMPILE := uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
	--custom-compile-command "make lock"

.PHONY: help setup demo test faults flink schedule lint format lock bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with every dependency at its locked version

$(READY):
	@set -e; \
	found=; for python in $(PYTHON_CANDIDATES); do \
	  if "$$python" -c 'import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; \
	  then found="$$python"; break; fi; done; \
	if [ -z "$$found" ]; then \
	  echo "python: expected 3.10, 3.11, 3.12 or 3.13 with ensurepip. Received: none of $(PYTHON_CANDIDATES)." \
	    "Name one: make setup PYTHON=/path/to/python3" >&2; exit 2; fi; \
	if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	  echo "Making $(VENV) with $$("$$found" --version)"; "$$found" -m venv --clear $(VENV); fi
	@echo "Installing the locked dependencies (about 3 GB, some minutes the first time)"
	@$(PIP) --require-hashes -r requirements/build.lock
	@$(PIP) --require-hashes --no-build-isolation -r $(LOCK)
	@$(PIP) --no-build-isolation --editable .
	@rm -f $(VENV)/ready-* && touch $@
	@echo "Ready: $(BIN)/latentstream --help"

demo: setup ## Train, stream and alert on real data, on a Kafka of its own
	@$(BIN)/python -m infra.local.demo

test: setup ## Run the tests, those on a real Kafka included
	@$(BIN)/python -m pytest -n 2 --dist loadfile

faults: setup ## Break brokers and workers on purpose, and print what was lost (half an hour)
	@$(BIN)/python -m pytest -m faults

flink: setup ## Run the tests on a real Flink: starts, kills, savepoints, with their figures
	@$(BIN)/python -m pytest -m 'flink or flink_faults'

schedule: setup ## Run the Airflow DAG for two days, in an environment of its own
	@$(BIN)/python -m pytest -m schedule -s

lint: setup ## Check style, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## Put the code into the house format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: ## Resolve the dependencies anew, for Python 3.10 to 3.13
	@command -v uv >/dev/null || { echo "uv is missing: pip install uv, or put $(BIN) on the PATH" >&2; exit 2; }
	$(COMPILE) --upgrade --override requirements/overrides.txt --extra dev \
	  pyproject.toml requirements/build.in --output-file $(LOCK)
	$(COMPILE) --upgrade --constraint $(LOCK) requirements/build.in --output-file requirements/build.lock

bench: setup ## Measure frames per second on this machine
	@$(BIN)/latentstream bench stream

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
