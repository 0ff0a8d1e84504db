# `make` prints this help. Two commands matter to a newcomer: `make demo` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help demo test check cover bench soak dev lock clean

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do \
	$$each -c '$(NEW_ENOUGH)' 2>/dev/null && { command -v $$each; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

help:  ## this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

$(VENV)/made:
	@python=$(PYTHON); \
	test -n "$$python" && "$$python" -c '$(NEW_ENOUGH)' \
		|| { echo "Leadglass needs Python 3.11 or newer. Install it, or say where it is: make ... PYTHON=/path/to/python3.11"; exit 1; }; \
	"$$python" -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "$$python cannot make virtual environments. On Debian: apt-get install python3-venv"; exit 1; }; \
	test -x $(BIN)/python || { echo "making $(VENV) with $$python"; "$$python" -m venv $(VENV); }
	@touch $@

$(VENV)/demo: requirements-demo.lock pyproject.toml $(VENV)/made
	@echo "installing what the demo needs into $(VENV)"
	@$(PIP) install --require-hashes -r requirements-demo.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: requirements-dev.lock pyproject.toml $(VENV)/made
	@echo "installing what the tests need into $(VENV)"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/demo

demo: $(VENV)/demo  ## a site on loopback with real images, then six attacks; stays up until Ctrl-C (CHECK=1: ends by itself)
	@$(BIN)/python -m leadglass.lab demo $(if $(CHECK),--check)

check: $(VENV)/dev  ## format, lint, types, import contracts
	$(BIN)/ruff format --check src tests bench tools
	$(BIN)/ruff check src tests bench tools
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The tests of the wire are run once, measured; the other tests without them, unmeasured, for measuring slows them down.
BRANCHES_MIN := 95

test: check cover  ## everything that CI runs
	$(BIN)/python -m pytest -n 2 --dist loadgroup --ignore=tests/wire

cover: $(VENV)/dev  ## tests/wire, and how many branches of src/leadglass/wire it takes: 95 % at least
	$(BIN)/coverage run --branch --source=src/leadglass/wire -m pytest -q tests/wire
	@$(BIN)/coverage report --show-missing
	@$(BIN)/coverage json -q -o - | $(BIN)/python -c 'import json, sys; totals = json.load(sys.stdin)["totals"]; \
		taken, of = totals["covered_branches"], totals["num_branches"]; \
		print(f"branch coverage of src/leadglass/wire: {100 * taken / of:.1f} % ({taken} of {of}), $(BRANCHES_MIN) % at least"); \
		sys.exit(100 * taken < $(BRANCHES_MIN) * of)'

bench: $(VENV)/dev  ## interleaved with Orthanc and storescp (Debian's orthanc and dcmtk); about an hour, ARGS="--rounds 1" for less
	$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/dev  ## the long runs, resumable; their counts add up in .soak/ (ARGS="--seconds 600 --only kills", or --report)
	$(BIN)/python -m tests.siege.soak $(ARGS)

dev: $(VENV)/dev  ## the virtual environment with everything a change needs, and the command leadglass in it
	@echo "ready: . $(BIN)/activate"

lock: $(VENV)/dev  ## writes the lock files anew, from pyproject.toml
	@$(PIP) install uv
	tools/lock $(BIN)/uv

clean:  ## removes what make made
	rm -rf $(VENV) demo-site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
