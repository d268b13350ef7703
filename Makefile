# The README's commands are `make bench`, `make bench-cpu`, `make bench-gpu` and `make test`; `make help` lists the rest.

OUT ?= results
VENV_BIN := .venv/bin

# requirements/set_up.sh reads these.
run-environment dev-environment: export PYTHON := $(PYTHON)
run-environment dev-environment: export TORCH_BUILD := $(TORCH_BUILD)

# containers/*.sh read these.
export DOCKER IMAGE CUDA GPUS CPUS MEMORY BASE_IMAGE PIP_INDEX_URL PIP_EXTRA_INDEX_URL

RUN_OPTIONS = $(if $(BUDGET),--budget $(BUDGET)) $(ARGS)
WHEELS ?= cpu
TORCH ?= 2.10.0

.DEFAULT_GOAL := help
.PHONY: help bench bench-cpu bench-gpu image-cpu image-cuda12 image-cuda13 wheels resolve-cuda sbom test test-torch test-docker test-browser test-fleet test-gpu test-python check format-check format lint types imports benchmark lock clean run-environment dev-environment

help: ## list the targets
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile
	@echo "Settings: MANIFEST=FILE OUT=DIR BUDGET=1h for bench, bench-cpu and bench-gpu; IMAGE GPUS CPUS MEMORY for the latter"
	@echo " two; CUDA=12|13 for bench-gpu; PYTHON=PATH and TORCH_BUILD=cpu|cuda12|cuda13|cuda|auto for the setup."

bench: run-environment ## measure MANIFEST (manifests/quick.yaml) on the best device; write a record and a report to OUT
	@$(VENV_BIN)/sdbench run $(or $(MANIFEST),manifests/quick.yaml) --out $(OUT) $(RUN_OPTIONS)

bench-cpu: ## the same in a container (docker is all it needs); ARGS='--only small' passes options to sdbench run
	@OUT=$(OUT) containers/bench.sh cpu $(or $(MANIFEST),manifests/quick.yaml) $(RUN_OPTIONS)

# The study of 2022 takes a night: MANIFEST=manifests/lambda-2022.yaml, which BUDGET shortens.
bench-gpu: ## the same on an NVIDIA GPU (needs the NVIDIA container toolkit too), with the image that its driver runs
	@OUT=$(OUT) containers/bench.sh cuda $(or $(MANIFEST),manifests/quick.yaml) $(RUN_OPTIONS)

image-cpu: ## build the image sdbench:cpu
	@containers/build.sh cpu sdbench:cpu

image-cuda12: ## build the image sdbench:cuda12, for NVIDIA drivers from 525 on
	@containers/build.sh cuda12 sdbench:cuda12

image-cuda13: ## build the image sdbench:cuda13, for NVIDIA drivers from 580 on
	@containers/build.sh cuda13 sdbench:cuda13

wheels: dev-environment ## gather the locked packages in requirements/wheels: images then build without a network
	@requirements/gather_wheels.sh $(WHEELS)

resolve-cuda: dev-environment ## check that every package of the CUDA locks is available, without downloading any
	@for lock in cuda12 cuda13; do \
		$(VENV_BIN)/uv pip install --system-certs --quiet --dry-run --no-deps --require-hashes --python $(VENV_BIN)/python \
			--python-platform x86_64-manylinux_2_28 --target build/$$lock -r requirements/$$lock.txt || exit $$?; done

sbom: dev-environment ## write CycloneDX software bills of materials of the images to build/
	@requirements/write_sbom.sh

test: dev-environment ## run all tests that need no GPU, container engine or browser
	@$(VENV_BIN)/python -m pytest

test-browser: dev-environment ## run the tests that look at pages; they need Chromium
	@$(VENV_BIN)/python -m pytest -m browser tests/browser

test-fleet: dev-environment ## run the tests of fleets; they start a Ray cluster, and Slurm where it is installed
	@$(VENV_BIN)/python -m pytest -m fleet tests/fleet

test-docker: dev-environment ## run the tests that need a container engine; they build sdbench:cpu
	@$(VENV_BIN)/python -m pytest -m docker tests/containers

test-gpu: dev-environment ## run the tests that need an NVIDIA GPU, in about 15 minutes; they write build/gpu-report.json
	@$(VENV_BIN)/python -m pytest -W default -m gpu tests/gpu tests/backends

test-torch: dev-environment ## run the tests of what calls torch with the torch of the CUDA 12 image
	@requirements/test_torch.sh $(TORCH)

test-python: ## run the tests that need no torch on another Python: make test-python PYTHON=python3.13
	@requirements/test_python.sh $(PYTHON)

check: format-check lint types imports test ## everything a change must pass

format-check: dev-environment ## check the format
	@$(VENV_BIN)/ruff format --check .

lint: dev-environment ## lint
	@$(VENV_BIN)/ruff check .

types: dev-environment ## check the types
	@$(VENV_BIN)/python -m mypy

imports: dev-environment ## check which package may import which
	@$(VENV_BIN)/lint-imports

format: dev-environment ## format the code and fix what can be fixed automatically
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
