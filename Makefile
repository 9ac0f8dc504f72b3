# One door: `make help`. Every target sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
BUF := node_modules/.bin/buf
PROTOS := $(shell find protos/trireme -name '*.proto')
DATA ?= $(TRIREME_DATA)
SHARDS ?= 2
# Each test process starts clusters and loads PyTorch: more than two want more than 8 GB.
TEST_PROCESSES ?= 2

export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.ready ## Create .venv with everything that runs on one machine

$(VENV)/.ready: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 (Debian: apt-get install python3.11-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "cannot create $(VENV): install the venv module (Debian: apt-get install python3.11-venv)" >&2; exit 1; }
	@echo "installing packages into $(VENV); the first time takes some minutes"
	@$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cpu,local,dev]'
	@touch $@

.PHONY: models
models: setup ## Export the models for Triton, if they are not
	@$(BIN)/trireme models export

.PHONY: demo
demo: models ## Start a local cluster, index real documents, ask real questions, stop
	@$(BIN)/python -m deploy.local.demo

.PHONY: up
up: models ## Start a local cluster and leave it running until Ctrl-C
	@$(BIN)/trireme up --shards $(SHARDS)

.PHONY: test
test: models ## Run the tests
	@$(BIN)/python -m pytest -m "not faults" -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: faults
faults: models ## Kill every role while documents stream in (slow)
	@$(BIN)/python -m pytest -m faults -s

.PHONY: bench
bench: models ## Measure overhead, freshness, encoding, deadlines, pages (slow)
	@$(BIN)/python -m tests.load.overhead
	@$(BIN)/python -m tests.load.freshness
	@$(BIN)/python -m tests.load.encoding
	@$(BIN)/python -m tests.load.deadlines
	@$(BIN)/python -m tests.load.pages
	@$(BIN)/python -m tests.load.store
	@$(BIN)/python -m tests.load.scale --data $(DATA) --vectors $(or $(VECTORS),.trireme-bench/enwiki.npy)
	@$(BIN)/python -m tests.load.million
	@$(BIN)/python -m tests.load.corruption
	@$(BIN)/python -m tests.load.filters
	@$(BIN)/python -m tests.load.freshness_under_load
	@$(BIN)/python -m tests.load.overload
	@$(BIN)/python -m tests.load.rolling_restart
	@$(BIN)/python -m tests.load.workers
	@$(BIN)/python -m tests.load.rotation
	@$(BIN)/python -m tests.load.lancedb_side --data $(DATA)

.PHONY: gpu-check
gpu-check: setup ## Try this machine's GPUs as shards would use them
	@$(BIN)/python -m deploy.gpu_check

.PHONY: eval
eval: setup ## Measure quality on a BEIR folder: make eval DATA=path/to/scifact
	@test -n "$(DATA)" || { echo "give a folder: make eval DATA=path/to/scifact" >&2; exit 2; }
	@$(BIN)/trireme eval $(DATA)

.PHONY: load
load: setup ## Send an open-loop load to a running cluster: make load ARGS="--rate 20 ..."
	@$(BIN)/trireme load $(ARGS)

.PHONY: check
check: setup buf ## Format, lint, types, protos: nothing may be left to do
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BUF) lint
	@$(BUF) format --diff --exit-code
	@if git rev-parse --verify --quiet origin/main >/dev/null && git cat-file -e origin/main:buf.yaml 2>/dev/null; then \
	   $(BUF) breaking --against '.git#ref=origin/main'; fi
	@$(BIN)/python -m tests.guards.stubs --check

.PHONY: format
format: setup buf ## Format code and protos
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .
	@$(BUF) format --write

.PHONY: protos
protos: setup ## Regenerate protos/gen from the .proto files
	@$(BIN)/python -m tests.guards.stubs --write

.PHONY: buf
buf: $(BUF)

$(BUF):
	@command -v npm >/dev/null || { echo "npm is missing: buf, which checks the protos, comes from the npm registry (Debian: apt-get install npm)" >&2; exit 1; }
	@npm install --silent --no-save --no-package-lock --prefix . @bufbuild/buf@1.75.0 s3rver@3.7.1
