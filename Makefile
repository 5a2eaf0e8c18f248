# `make up` and `make test` install what they need by themselves. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed


# Of the development cluster and of the tests on it: 1.35, 1.34, or nothing for the newest one.
KUBERNETES ?=
export DEVCLUSTER_KUBERNETES := $(KUBERNETES)

# A folder is called docs, another web.
.PHONY: help images sizes docs docs-serve migration up down test lint unit web control-plane chart checkov security node node-load devcluster faults mutants format generate lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=…"; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || { echo "the venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "installing the Python packages into $(VENV)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements/dev.txt
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

up: $(STAMP) ## From a bare machine to a chatbot that answers; again: bring changed code in; KIND=1: on kind
	@$(RUN) -m devcluster.demo $(if $(KIND),--engine kind)

down: $(STAMP) ## Remove the cluster and everything that `make up` made
	@$(RUN) -m devcluster down

test: $(STAMP) ## Everything that must pass: lint, unit, control-plane, chart, fault, node, page and security tests
	@$(RUN) -m tests.run

lint: $(STAMP) ## Format, lint, types, layers, generated files
	@$(RUN) -m tests.run lint

unit web control-plane chart security node node-load: $(STAMP) ## One level of the tests
	@$(RUN) -m tests.run $@

devcluster: $(STAMP) ## The tests of the development cluster itself, which a change of devcluster/ must pass (5 minutes)
	@$(RUN) -m tests.run $@

migration: $(STAMP) ## From phase to phase while people ask, in the cluster of `make up`
	@CHATBOT_TEST_KUBECONFIG="$$($(RUN) -m devcluster status --output json \
		| $(RUN) -c 'import json, sys; print(json.load(sys.stdin)["kubeconfig"])')" \
		$(RUN) -m pytest -q tests/node/test_chatbots_hosted.py

SHARD ?= 1/1
faults: $(STAMP) ## Every row of the fault table in full, with a report; SHARD=2/4 runs a quarter (hours)
	@$(RUN) -m tests.faults --full --shard $(SHARD) --report .faults/report-$(subst /,-of-,$(SHARD)).md

mutants: $(STAMP) ## Plant each seeded bug of the core and see a test notice it (half an hour)
	@$(RUN) -m tests.faults.mutate --rows --report .faults/mutants.md

stress: $(STAMP) ## Load, slow clients, random input, and kills at random moments, in full size (10 minutes)
	@CHATBOT_STRESS=full $(RUN) -m pytest -q tests/stress tests/unit/runtime/test_fuzz.py tests/unit/runtime/test_download_process.py \
		tests/control_plane/test_operator_crashes.py tests/control_plane/test_operator_writes.py

CHECKOV := .venv-checkov
$(CHECKOV)/.installed: requirements/checkov.txt
	@test -x $(CHECKOV)/bin/python || $(PYTHON) -m venv $(CHECKOV)
	@echo "installing Checkov into $(CHECKOV)"
	@$(CHECKOV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

DOCS := .venv-docs
$(DOCS)/.installed: requirements/docs.txt
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	@echo "installing MkDocs into $(DOCS)"
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

docs: $(DOCS)/.installed ## The documentation site, into site/; a link that leads nowhere is an error
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict
	@echo "site/index.html"

docs-serve: $(DOCS)/.installed ## The same on http://127.0.0.1:8000, built again when a page changes
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs serve --strict

checkov: $(STAMP) $(CHECKOV)/.installed ## Checkov on the chart and on what the operator makes (seconds, after an install of 300 MB)
	@$(RUN) -m tests.chart.checkov $(CHECKOV)/bin/checkov

REGISTRY ?= localhost
TAG ?= dev
images: $(STAMP) ## All images by Docker or Podman; REGISTRY=… TAG=… PLATFORMS=linux/amd64,linux/arm64 PUSH=1 PIN=1
	@$(RUN) -m devcluster.dockerfiles --registry $(REGISTRY) --tag $(TAG) --platforms "$(PLATFORMS)" \
		$(if $(PUSH),--push) $(if $(PIN),--pin)

sizes: $(STAMP) ## Measure the images and write their sizes into the README
	@$(RUN) -m devcluster.images.sizes

format: $(STAMP) ## Format the code
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

generate: $(STAMP) ## Write the CRD, the chart's generated files and the reference pages anew
	@$(RUN) -m chatbot_operator.api.crd
	@$(RUN) -m chatbot_operator.api.reference
	@$(RUN) -m tests.reference
	@$(RUN) -m charts.generate

LOCK := $(RUN) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock"
lock: $(STAMP) ## Resolve the requirements anew
	@for name in runtime operator cli; do $(LOCK) pyproject.toml --extra $$name -o requirements/$$name.txt; done
	@$(LOCK) --group llama-server -o requirements/llama-server.txt
	@$(LOCK) --group checkov -o requirements/checkov.txt
	@$(LOCK) --group docs -o requirements/docs.txt
	@$(LOCK) pyproject.toml --all-extras --group dev -o requirements/dev.txt

clean: ## Remove the virtual environment and caches (not the built programs)
	@rm -rf $(VENV) $(CHECKOV) $(DOCS) site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
