# One command for each job; every one does its own set-up in .venv first.
# PYTHON=python3.12 make demo   uses another interpreter for a new environment.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SOURCES := rolegen_errors.py rolegen_agent graphs prompts backbone evals tests

# The tests start hundreds of processes: where nothing compiled may be kept, each of them compiles all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-long lint format clean help

help:
	@echo "make demo    awaken the dormant customers of the bundled shop"
	@echo "make test    lint, types and the whole suite"
	@echo "make test-long  benchmarks that run themselves, small"
	@echo "make lint    ruff and mypy"
	@echo "make format  rewrite the sources with ruff"
	@echo "make clean   remove the environment, caches and the demo's output"

demo: $(READY)
	$(BIN)/rolegen demo

# Files of tests side by side, one more than two cores, since some wait; each file stays in one process, so that what it made once is made
# once. They begin in the order of tests/conftest.py, the slow ones first, not with the file that holds most tests.
test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 20

# Benchmarks that run themselves, small: what is too much for every change.
test-long: $(READY)
	$(BIN)/python -m pytest -m long

lint: $(READY)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf .venv demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and pinned: an open range may take several GB of CUDA packages on a machine without a GPU.
# hatchling is there for the test that builds the wheel without an isolated environment.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "RoleGen needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	    echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "Could not make .venv (Debian and Ubuntu: apt-get install python3-venv)."; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[postgres,server,pages,serve,rqvae,index,bench,eval,optimize,otel,mcp,ray]' --group dev hatchling
	@touch $@
