# The README's two commands are `make bench` and `make test`; `make help` lists the rest.

MANIFEST ?= manifests/quick.yaml
OUT ?= results
VENV_BIN := .venv/bin

# requirements/set_up.sh reads these.
export PYTHON TORCH_BUILD

.DEFAULT_GOAL := help
.PHONY: help bench test check format-check format lint types imports benchmark lock clean run-environment dev-environment

help: ## list the targets
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile
	@echo "Settings: MANIFEST=FILE OUT=DIR for bench; PYTHON=PATH and TORCH_BUILD=cpu|cuda|auto for the set-up."

bench: run-environment ## measure MANIFEST (manifests/quick.yaml) on the best device; write a record and a report to OUT
	@$(VENV_BIN)/sdbench run $(MANIFEST) --out $(OUT)

test: dev-environment ## run all tests that need no GPU, container engine or browser
	@$(VENV_BIN)/python -m pytest

check: format-check lint types imports test ## everything a change must pass

format-check: dev-environment ## see whether the format is the formatter's
	@$(VENV_BIN)/ruff format --check .

lint: dev-environment ## look for mistakes and breaches of style
	@$(VENV_BIN)/ruff check .

types: dev-environment ## check the types
	@$(VENV_BIN)/python -m mypy

imports: dev-environment ## check which package may import which
	@$(VENV_BIN)/lint-imports

format: dev-environment ## format the code and repair what can be repaired
	@$(VENV_BIN)/ruff format .
	@$(VENV_BIN)/ruff check --fix .

benchmark: dev-environment ## measure sdbench's own cost
	@$(VENV_BIN)/python tests/benchmarks/run.py

lock: dev-environment ## renew the lock files from pyproject.toml
	@$(VENV_BIN)/python requirements/lock.py

clean: ## remove the environment and the caches, not the results
	@rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist sdbench.egg-info
	@find sdbench tests requirements -name __pycache__ -prune -exec rm -rf {} +

run-environment:
	@requirements/set_up.sh run

dev-environment:
	@requirements/set_up.sh dev
