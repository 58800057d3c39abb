# One command for a person and for CI. `make quickstart` needs Python 3.11 or newer, and nothing else.
#
#   make quickstart        train, measure, shrink and ask a recommender, from nothing
#   make setup             .venv with what training, serving and the tests need
#   make check test        what CI runs
#   make bench ID=T1       one benchmark of docs/scoreboard.md (LONG=1 for all its seeds and rounds)
#
# JOBS=2 runs the tests in two processes.
# TORCH_INDEX=URL adds a package index to take torch from, for instance one that holds CPU-only builds.

SHELL := bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
OUT ?= quickstart
ID ?=
JOBS ?= 1

BIN := .venv/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
PYTEST = $(BIN)/pytest

.PHONY: setup quickstart test test-long battery coverage check format bench docs constraints clean help

help:
	@sed -n 's/^#   //p' Makefile

setup: .venv/.stamp-dev

.venv/.stamp-base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "leanrec needs Python 3.11 or newer; $(PYTHON) is older: set PYTHON=/path/to/python3.11" >&2; exit 3; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e '.[train]'
	@touch $@

.venv/.stamp-dev: .venv/.stamp-base
	$(PIP) -e '.[train,dev]'
	@touch $@

quickstart: .venv/.stamp-base
	$(BIN)/leanrec quickstart --out $(OUT)

# a file of tests stays in one process, so that what its fixtures make is made once
test: setup
	$(PYTEST) -m "not long" $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist loadfile)

# the long column of the battery: thousands of kills, faults and hostile inputs
test-long battery: setup
	$(PYTEST) -m long --timeout 3600

# what may neither lose data nor let harm in: every branch (docs/architecture.md, Safety)
coverage: setup
	$(BIN)/coverage run --branch --include='src/leanrec/events/*,src/leanrec/runtime/bundle.py,src/leanrec/runtime/manifest.py,src/leanrec/runtime/packing.py,src/leanrec/core/tensors.py' \
	  -m pytest -m "not long" tests/battery tests/runtime tests/core tests/events tests/serving
	$(BIN)/coverage report --show-missing --fail-under=100

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup
	@test -n "$(ID)" || { echo "which benchmark? make bench ID=T1b" >&2; exit 2; }
	$(BIN)/python -m benchmarks $(ID)

docs: setup
	$(BIN)/python -m leanrec.cli.reference > docs/cli.md

constraints: setup
	{ echo "# Exact versions of everything that \`make setup\` installs; regenerate with \`make constraints\`."; \
	  $(BIN)/pip freeze --exclude leanrec | sed 's/+cpu$$//' | tr 'A-Z_' 'a-z-' | sort; } > constraints.tmp
	mv constraints.tmp constraints.txt
	@touch .venv/.stamp-base .venv/.stamp-dev

clean:
	rm -rf .venv .peers .cache build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
