# Everything is done in .venv, from python3.11 and a package registry: make demo, make test; then faults, lab, bench, lint, lock.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SANDBOX := data/sandbox/SANDBOX.json
NOTEBOOKS := $(wildcard notebooks/[0-9][0-9]_*.ipynb)
# 06, 09 and 10 take what 05 made, so one process executes them in this order, beside the others; 01, 07 and 08 make the two
# processes about as long
CHAIN := $(wildcard $(addprefix notebooks/,$(addsuffix _*.ipynb,01 05 06 07 08 09 10)))

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# what the notebooks are tested on, whatever the user's own archive is
SANDBOXED := env -u SMNB_DATA -u SMNB_RUN_DIR -u SMNB_NOTEBOOK_DIR

.PHONY: help demo test faults lab bench lint lock clean

help:
	@echo "make demo | test | faults | lab | bench | lint | lock | clean"

# the first of these that is a working Python 3.11 (a pyenv shim may be there and not work)
define find_python
for candidate in python3.11 python3 python; do \
  if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then \
    python=$$candidate; break; fi; done; \
if [ -z "$${python:-}" ]; then echo "error: Python 3.11 with venv is needed and was not found" >&2; exit 2; fi
endef

$(INSTALLED): requirements.lock pyproject.toml
	@$(find_python); echo "installing into $(VENV) with $$($$python --version)"; \
	if ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then \
	  $$python -m venv --clear $(VENV); fi
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

# written again when the code that writes it changes
$(SANDBOX): $(wildcard smnb_sandbox/*.py smnb_sandbox/data/* smnb/models/physics/*.py smnb/grids/*.py) | $(INSTALLED)
	$(SANDBOXED) $(BIN)/smnb sandbox --preset quick
	@touch $@

demo: $(INSTALLED) $(SANDBOX)
	$(SANDBOXED) $(BIN)/smnb run --name demo --preset quick
	@echo "open $(CURDIR)/runs/demo/index.html"

# Three steps: the library with doctests; the notebooks' stored outputs; the numbers in the records that the second step
# wrote, against tests/expected. All are made, and each must pass. The first two use two processes, with a thread each.
test: export OMP_NUM_THREADS := 1
test: $(INSTALLED) $(SANDBOX)
	@status=0; rm -rf runs/nbval; mkdir -p runs; \
	echo "== 1/3 library"; $(BIN)/python -m pytest -n 2 --dist loadfile || status=1; \
	echo "== 2/3 notebooks"; \
	check() { $(SANDBOXED) SMNB_RUN_DIR="$(CURDIR)/runs/nbval" $(BIN)/python -m pytest -p no:cacheprovider --nbval-lax \
	  --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg "$$@"; }; \
	check $(CHAIN) >runs/nbval.log 2>&1 & chain=$$!; \
	check $(filter-out $(CHAIN),$(NOTEBOOKS)) || status=1; \
	wait $$chain || status=1; cat runs/nbval.log; \
	echo "== 3/3 numbers of the notebooks"; \
	SMNB_RECORDS="$(CURDIR)/runs/nbval" $(BIN)/python -m pytest tests/test_notebooks.py || status=1; \
	exit $$status

# kills, failing I/O, races and damaged inputs, 20 minutes of two processes; SMNB_FAULTS_SEED and SMNB_FAULTS_SCALE say which
# and how many
faults: export OMP_NUM_THREADS := 1
faults: export SMNB_FAULTS_SEED ?= $(shell date +%s)
faults: $(INSTALLED) $(SANDBOX)
	$(SANDBOXED) $(BIN)/python -m pytest tests/faults -m faults -n 2 --dist loadfile

lab: $(INSTALLED) $(SANDBOX)
	$(BIN)/jupyter lab --notebook-dir notebooks

# as the processes of smnb run have it: freed memory is kept for the next step
bench: export MALLOC_MMAP_MAX_ := 0
bench: export MALLOC_TRIM_THRESHOLD_ := 1000000000000
bench: $(INSTALLED)
	@status=0; for file in benchmarks/bench_*.py; do \
	  echo "== $$file"; $(BIN)/python -m "benchmarks.$$(basename $$file .py)" || status=1; done; exit $$status

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The release of torch that has a small CPU build for pip; the range of pyproject.toml alone would bring gigabytes of CUDA.
TORCH := torch==2.13.0
# from 3 on it wants Python 3.11.5, and Debian 12 has 3.11.2
SOUPSIEVE := soupsieve<3

# resolve the bounds of pyproject.toml anew; a local version such as +cpu is not on the registry under that name
lock:
	@$(find_python); folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$$python -m venv "$$folder"; \
	"$$folder/bin/python" -m pip install --quiet "$(TORCH)" "$(SOUPSIEVE)" ".[test,bench]"; \
	"$$folder/bin/python" -m pip freeze --exclude smnb | sed -E 's/\+[a-z0-9.]+$$//' > requirements.lock.new; \
	mv requirements.lock.new requirements.lock; wc -l requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
