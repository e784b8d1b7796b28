# Two commands on a fresh machine: `make demo` and `make test`. Both set themselves up.
# Needed beforehand: Python 3.10+ (override with PYTHON=python3.12) and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CROSS_STAMP := $(VENV)/.installed-cross
# One BLAS/OMP thread a process keeps two cores busy without oversubscription (tests run in two workers).
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help setup browser demo studies test test-slow verify-theory docs lint format types check bench clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(STAMP)  ## Create .venv and install dcao with the lab

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "DCAO needs Python 3.10 or newer; run make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Setting up $(VENV), once: a minute or more, most of it to download torch"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[lab]'
	@touch $@

$(CROSS_STAMP): $(STAMP) requirements-cross.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[lab,data,cluster,plot,tensorboard,wandb,trackio,skorch,accelerate,lightning,transformers,theory,docs,test,dev]'
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-cross.txt
	@# The tests skip what is not installed; here everything has to be.
	$(BIN)/python -W ignore -c 'import PEPit, accelerate, build, curvlinops, expecttest, hessian_eigenthings, latex2mathml, lightning, material, mkdocs, mkdocstrings, playwright, pyhessian, pymdownx, skorch, sympy, tensorboard, trackio, transformers, twine, wandb; from importlib.util import find_spec; assert find_spec("timm")'
	@touch $@

demo: $(STAMP)  ## One run of DCAO from any lr against a sweep: a verdict and a page (under 5 minutes)
	$(BIN)/dcao-lab demo

studies: $(CROSS_STAMP)  ## The eight studies of embedded data (hours; stop and start again at will)
	for name in robustness transfer quantities ablation generalisation eos overhead headline; do $(BIN)/dcao-lab study $$name || exit 1; done

browser: $(CROSS_STAMP)  ## Chromium for the browser tests, where apt and root are there
	@$(BIN)/python tests/helpers/browser.py

test: $(CROSS_STAMP) browser  ## Lint, types and the whole test suite
	$(MAKE) --no-print-directory lint types
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -m 'not slow and not verify'

test-slow: $(CROSS_STAMP)  ## The tests that take longer than a minute each
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -m slow

verify-theory: $(CROSS_STAMP)  ## Every check of docs/theory, long ones too (under 20 minutes)
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 tests/theory

docs: $(CROSS_STAMP)  ## The documentation as a site: site/index.html, which needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(CROSS_STAMP)  ## ruff: lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(CROSS_STAMP)  ## ruff: fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(CROSS_STAMP)  ## mypy --strict on the library and the lab
	$(BIN)/mypy

check: test  ## The same as `make test`

bench: $(CROSS_STAMP)  ## Benchmarks of a step's way, probes, memory and the lab (writes benchmarks/results)
	$(BIN)/python benchmarks/step_trace.py
	$(BIN)/python benchmarks/probe_cost.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/lab_overhead.py

clean:  ## Remove the environment and everything generated
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-report site
