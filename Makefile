# Two commands matter: `make serve` runs the product, `make test` proves it. Both install what they need into .venv first.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint requirements.lock
PROTOC := $(BIN)/python -m grpc_tools.protoc --fatal_warnings -Iprotos
PROTOS := $(wildcard protos/hedgespec/rpc/v1/*.proto)
GENERATED := hedgespec/rpc/v1

# One thread per process: the tests run many processes on few cores, and fixed thread counts make float sums repeatable.
export OMP_NUM_THREADS ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help serve test check format proto modules bench lock clean redis-server

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

serve: $(VENV)/.serve.stamp  ## install, serve SmolLM2 on http://127.0.0.1:8000 (options: ARGS="--model zoo --port 9000 ...")
	@$(BIN)/hedgespec serve $(ARGS)

test: $(VENV)/.dev.stamp redis-server  ## install, then run every test (options: ARGS="tests/unit -k ...")
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev.stamp  ## formatter, linter, types, layers, generated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(PROTOC) --python_out="$$fresh" --pyi_out="$$fresh" --grpc_python_out="$$fresh" $(PROTOS) && \
	for file in "$$fresh"/$(GENERATED)/*; do \
		diff -q "$$file" "$(GENERATED)/$$(basename "$$file")" || { echo "Generated code is stale: run 'make proto'."; exit 1; }; \
	done
	@echo "check: all clean"

format: $(VENV)/.dev.stamp  ## rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(VENV)/.dev.stamp  ## regenerate hedgespec/rpc/v1 from protos/
	$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

modules:  ## rewrite docs/modules.md from the modules' docstrings
	@$(PYTHON) -m tests.module_list

bench: $(VENV)/.serve.stamp  ## every drafter, learned selection and transformers side by side (options: ARGS="--json FILE")
	@$(BIN)/hedgespec bench decode $(ARGS)

lock:  ## renew requirements.lock from pyproject.toml in a throw-away environment
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install "torch==2.13.0" -e '.[dev]' "setuptools>=77"
	{ sed -n '/^#/p' requirements.lock; $(VENV)-lock/bin/python -m pip freeze --all --exclude-editable --exclude pip \
		| sed 's/+cpu$$//'; } > $(VENV)-lock/requirements.lock && mv $(VENV)-lock/requirements.lock requirements.lock
	rm -rf $(VENV)-lock

clean:  ## remove the environment and every cache
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second run start at once; a changed pyproject.toml or lock installs again.
$(VENV)/.serve.stamp: $(VENV)/.made.stamp pyproject.toml requirements.lock
	@echo "==> Installing HedgeSpec and its pinned dependencies into $(VENV) (a few minutes the first time)"
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.dev.stamp: $(VENV)/.made.stamp pyproject.toml requirements.lock
	@echo "==> Installing HedgeSpec, its pinned dependencies and the developer tools into $(VENV)"
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.serve.stamp

$(VENV)/.made.stamp:
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) found. Install Python 3.11 or newer, or name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "HedgeSpec needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory apt-install PACKAGE=$$($(PYTHON) -c \
		'import sys; print("python%d.%d-venv" % sys.version_info[:2])') WHY="to create $(VENV)"
	@echo "==> Creating $(VENV) with $$($(PYTHON) -V)"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@touch $@

redis-server:
	@command -v redis-server >/dev/null || $(MAKE) --no-print-directory apt-install PACKAGE=redis-server WHY="for the tests of the Redis store"

.PHONY: apt-install
apt-install:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "==> Installing $(PACKAGE) $(WHY)"; \
		apt-get update -qq; \
		RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(PACKAGE); \
	else \
		echo "$(PACKAGE) is missing ($(WHY)). Install it, e.g. with: sudo apt-get install -y $(PACKAGE)"; exit 1; \
	fi
