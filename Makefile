# EDCO. 'make' alone prints this help.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo stack test check bench clean

help: ## Print this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) ## Create .venv with every dependency pinned (constraints.txt)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "EDCO needs Python 3.11 or later; type: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## The whole loop on data and a model made here; no network, no GPU
	@$(BIN)/edco demo

stack: setup ## Postgres, Prefect server and worker on this machine; the demo runs on them (KEEP=1: they stay up)
	@$(BIN)/python -m flows.stack $(if $(KEEP),--keep)

test: setup ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: setup ## Lint, types and layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

bench: setup ## Benchmarks: a table, and JSON under benchmarks/results
	$(BIN)/python -m benchmarks

clean: ## Remove the environment and what tools left
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info
