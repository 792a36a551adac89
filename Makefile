# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
CLUSTER ?= here
MINUTES ?= 30
SEED ?= 0
SOURCES := operator model-server tests e2e bench docs
# Tests start many short-lived Pythons, and pytest rewrites every assertion: compiled once, not each time.
unexport PYTHONDONTWRITEBYTECODE

##@ Use it
.PHONY: demo demo-down
demo: $(STAMP) ## Three releases of a real model on a throwaway cluster, with a live table (CLUSTER=kind: on kind)
	@$(BIN)/python -m e2e.demo --cluster $(CLUSTER)

demo-down: ## Remove every trace of the throwaway cluster
	@$(PYTHON) -m e2e.cluster down

##@ Work on it
.PHONY: help setup check test lint types unit generate verify
help: ## This list
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*##/ {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv from the hash-locked requirements

$(STAMP): requirements/dev.txt pyproject.toml model-server/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "installing the Debian package python3-venv"; apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; }
	@echo "creating .venv from requirements/dev.txt (1 to 5 minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation -e . -e model-server
	@touch $@

check: lint types unit ## The fast inner loop, under a minute: lint, types, unit tests

test: verify ## Everything that proves the project, the end-to-end suite on the real cluster included
	@$(BIN)/python -m e2e.cluster build
	@# Much of it is waited for: three processes for two processors, and the faults beside them, shown when these have ended.
	@said=$$(mktemp); failed=0; \
	  $(BIN)/pytest tests/faults -m faults -q -s > $$said 2>&1 & faults=$$!; trap "kill $$faults 2>/dev/null || true; rm -f $$said" EXIT; \
	  $(BIN)/pytest -m "not cluster and not faults" -n 3 --dist loadscope --no-loadscope-reorder || failed=$$?; \
	  wait $$faults || failed=$$?; cat $$said; exit $$failed
	@$(BIN)/pytest e2e -m cluster

lint: $(STAMP) ## ruff and import-linter
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check --quiet $(SOURCES) || { echo "run: $(BIN)/ruff format $(SOURCES)"; exit 1; }
	@$(BIN)/lint-imports

types: $(STAMP) ## mypy, strict
	@$(BIN)/mypy operator model-server/modelserver e2e bench docs

unit: $(STAMP) ## Tests that need no other part
	@$(BIN)/pytest -q -m "not cluster and not apiserver and not prometheus and not modelserver and not slow" -n 2

generate: $(STAMP) ## Write what is generated: crds/, the chart's copy, the tables of docs/spec
	@$(BIN)/python -m modelrelease.api.crd --out crds --chart charts/modelrelease-operator/crds
	@$(BIN)/python -m modelrelease.api.reference docs/spec/v1alpha1

verify: lint types ## What CI reads before it tests: lint, types, generated files
	@$(BIN)/python -m modelrelease.api.crd --out crds --chart charts/modelrelease-operator/crds --check
	@$(BIN)/python -m modelrelease.api.reference docs/spec/v1alpha1 --check

##@ Parts of it
.PHONY: cluster-up cluster-down cluster-status e2e kills faults soak-cluster bench-judge bench-truth bench-latency bench-scale lock
cluster-up: $(STAMP) ## Build (once) and start the throwaway cluster
	@$(BIN)/python -m e2e.cluster up

cluster-down: demo-down ## The same as demo-down

cluster-status: ## What of the cluster runs
	@$(PYTHON) -m e2e.cluster status

e2e: $(STAMP) ## The end-to-end suite alone
	@$(BIN)/pytest e2e -m cluster

kills: $(STAMP) ## End 200 leading operators under load: never two writers, no transition twice (KILLS=n)
	@KILLS=$(or $(KILLS),200) $(BIN)/pytest tests/engine/test_two_replicas.py -k leaders_killed -s

faults: $(STAMP) ## Every fault and every crash, each for its full time (hours), with the tables
	@FAULTS=full $(BIN)/pytest tests/faults -s -q

soak-cluster: $(STAMP) ## 30 minutes of good and bad releases on the cluster while things are killed (MINUTES=30 SEED=0)
	@$(BIN)/python -m e2e.soak --minutes $(MINUTES) --seed $(SEED)

bench-judge: $(STAMP) ## Time 100,000 verdicts
	@$(BIN)/python bench/bench_judge.py

bench-truth: $(STAMP) ## Error rates over simulated releases, side by side with other tools' rules
	@$(BIN)/python bench/bench_truth.py

bench-scale: $(STAMP) ## Processor time, memory and reaction of one operator with up to 200 releases at once
	@PYTHONPATH=. $(BIN)/python bench/bench_scale.py

bench-latency: $(STAMP) ## Time from "visible in Prometheus" to "route written", with a real operator, API server and Prometheus
	@PYTHONPATH=. $(BIN)/python bench/bench_latency.py

MODEL_RUNS ?= 5000
soak: $(STAMP) ## Random days of a release against its promises, other ones each time (MODEL_RUNS=5000); prints what happened
	@MODEL_RUNS=$(MODEL_RUNS) $(BIN)/pytest tests/reconcile/test_model.py -q

FUZZ_SPECS ?= 10000
fuzz: $(STAMP) ## Mutated specs against a real API server, the parser and the operator (FUZZ_SPECS=10000)
	@FUZZ_SPECS=$(FUZZ_SPECS) $(BIN)/pytest tests/api/test_fuzz.py tests/core/test_any_spec.py tests/core/test_injection.py -q

lock: $(STAMP) ## Lock the requirements anew
	@for part in operator model-server-runtime model-server dev; do \
	  $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 \
	    --no-emit-index-url --no-annotate --no-header requirements/$$part.in -o requirements/$$part.txt; done
