# `make help` lists the targets. Everything runs from .venv, made from requirements-dev.lock.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export PYTHONPATH := operator
COMPILE := --quiet --strip-extras --allow-unsafe --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

.PHONY: help install check verify generate test test-unit test-cluster demo cluster cluster-down bench faults lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

install: .venv/.installed ## Make .venv from the lock file
.venv/.installed: requirements-dev.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make install: there is no $(PYTHON); install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make install: $(PYTHON) is older than 3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq python3-venv; } || \
	  { echo "make install: $(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

check: install ## Lint, types, layers: quick, no tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

generate: install ## Write the CRDs, their copies in chart and manifests, and the reference documentation
	$(BIN)/python tools/generate_crds.py
	$(BIN)/python tools/generate_manifests.py
	$(BIN)/python tools/generate_docs.py

verify: check generate ## check, and what is generated is what is committed
	@git diff --exit-code -- crds charts manifests docs || \
	  { echo "make verify: generated files were not current; commit what make generate has written"; exit 1; }

test-unit: install ## Unit and component tests: no cluster, two minutes
	$(BIN)/pytest tests/unit tests/component

test: install ## All tests; the cluster tests on the Kubernetes of `make cluster`, which it starts if need be
	@$(PYTHON) tools/cluster up || echo "make test: there is no cluster here, the cluster tests are left out (see above)"
	$(BIN)/python tools/run_tests.py

test-cluster: install cluster ## The cluster tests alone
	$(BIN)/pytest tests/cluster

cluster: ## A real Kubernetes here; its kubeconfig is build/kubeconfig
	@$(PYTHON) tools/cluster up

cluster-down: ## Stop it; what was built stays in the cache
	@$(PYTHON) tools/cluster down

demo: install cluster ## A ticket through the high-priority-ticket Workflow, on a real cluster
	@$(BIN)/python tools/demo

bench: install cluster ## Our rate beside a raw client's, in one run
	$(BIN)/python -m tests.bench

faults: install cluster ## The operator under faults on a real API server: all of them, a quarter of an hour
	$(BIN)/python -m tests.faults

lock: ## Resolve the lock files anew
	$(BIN)/pip-compile $(COMPILE) --extra speed --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile $(COMPILE) --extra speed --extra rich --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml requirements-dev.in

clean: ## Remove what was made here (not the cache, not the cluster)
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
