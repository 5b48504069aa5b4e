# Each target makes what it needs; `make help` (the default) lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash

PYTHON ?= python3
VENV := .venv
DEV := .venv-dev
AUDIT := .venv-audit
DEV_PYTHON ?= $(DEV)/bin/python
PROTO_OUT ?= .
DOCS_OUT ?= docs/cli.md
RECIPE ?= tinysafe
OUT ?= runs/$(RECIPE)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- running -----------------------------------------------------------------------------------------------------

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.PHONY: install
install: $(VENV)/.installed ## install what serving needs (no torch) into .venv

.PHONY: serve
serve: install ## install, then serve on 127.0.0.1:50051; options: make serve ARGS="--port 0"
	@exec $(VENV)/bin/cascade serve $(ARGS)

# --- developing --------------------------------------------------------------------------------------------------

# torch goes first and pinned alone: a range, or another package asking for it, may bring a build several GB larger.
$(DEV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(DEV)" >&2
	@$(PYTHON) -m venv $(DEV)
	@$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	@$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,parquet,otel,dev]'
	@touch $@

# One thread a worker: torch's threads spin while they wait, and those of two workers starve each other on two cores.
.PHONY: test
test: export OMP_NUM_THREADS = 1
test: $(DEV)/.installed ## run all tests; options: make test ARGS="tests/repo -x"
	@$(DEV_PYTHON) -m pytest -n 2 --dist worksteal $(ARGS)

.PHONY: bench
bench: $(DEV)/.installed ## measure start-up, memory and latency of the server against an echo RPC and a bare session
	@$(DEV_PYTHON) -m tests.bench.latency

.PHONY: overload
overload: $(DEV)/.installed ## send five times what the server can answer; options: make overload ARGS="20"
	@$(DEV_PYTHON) -m tests.bench.overload $(ARGS)

.PHONY: analogues
analogues: $(DEV)/.installed ## train each seed's recipe on a tiny backbone, score it alone and as either stage
	@$(DEV_PYTHON) -m pytest tests/training/analogues.py $(ARGS)

.PHONY: lint
lint: $(DEV)/.installed ## check style and the contract: ruff, buf
	@$(DEV_PYTHON) -m ruff check .
	@$(DEV_PYTHON) -m ruff format --check .
	@$(DEV)/bin/buf lint protos
	@$(DEV)/bin/buf format protos --exclude-path protos/google --diff --exit-code

# Apart from the rest: it brings much, and it asks PyPI for advisories. --strict fails on what PyPI cannot tell about.
$(AUDIT)/.installed:
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit==2.10.1'
	@touch $@

.PHONY: audit
audit: $(AUDIT)/.installed ## ask PyPI for known vulnerabilities of everything in constraints.txt; needs its JSON API
	@$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r constraints.txt

.PHONY: format
format: $(DEV)/.installed ## rewrite the sources in the house style
	@$(DEV_PYTHON) -m ruff check --fix .
	@$(DEV_PYTHON) -m ruff format .
	@$(DEV)/bin/buf format protos --exclude-path protos/google --write

.PHONY: typecheck
typecheck: $(DEV)/.installed ## check types: mypy, strict
	@$(DEV_PYTHON) -m mypy

.PHONY: proto
proto: $(DEV)/.installed ## regenerate the gRPC stubs in cascade/v1 from protos/
	@$(DEV_PYTHON) -m grpc_tools.protoc -Iprotos --python_out=$(PROTO_OUT) --pyi_out=$(PROTO_OUT) \
		--grpc_python_out=$(PROTO_OUT) protos/cascade/v1/*.proto

.PHONY: proto-breaking
proto-breaking: $(DEV)/.installed ## refuse changes of protos/ that break clients of branch main
	@$(DEV)/bin/buf breaking protos --against '.git#branch=main,subdir=protos'

.PHONY: docs
docs: $(DEV)/.installed ## regenerate docs/cli.md from the commands' own help
	@$(DEV_PYTHON) -m typer cascade.cli utils docs --name cascade --output $(DOCS_OUT)

.PHONY: train
train: $(DEV)/.installed ## train a model: make train RECIPE=tinysafe DATA=dir OUT=dir (hours on a CPU)
	@test -n "$(DATA)" || { echo "make train needs DATA=, the folder with the training sets" >&2; exit 2; }
	@$(DEV)/bin/cascade train $(RECIPE) --data "$(DATA)" --out "$(OUT)" $(ARGS)

.PHONY: clean
clean: ## remove the environments and all caches
	@rm -rf $(VENV) $(DEV) $(AUDIT) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
