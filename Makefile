# Needs only python3 (with venv), gcc and make: every target sets up what it uses in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILED := $(VENV)/.compiled
BENCHMARK := $(VENV)/.installed-benchmark
NATIVE := $(wildcard src/mukernel/*/*.pyx src/mukernel/*/*.pxd src/mukernel/*/*.h)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help .venv test lint typing demo bench clean

help:
	@echo "make test    set up .venv; run ruff, mypy --strict and the tests"
	@echo "make demo    set up .venv; run the demo"
	@echo "make bench   set up .venv; measure mukernel beside its peers"
	@echo "make .venv   set up .venv, and compile what changed"
	@echo "make clean   remove .venv and everything that was built"

# Phony, since the folder's own time says nothing about what was installed in it: the stamps do.
.venv: $(COMPILED)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mukernel: Python is %d.%d, wanted 3.11 or later" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

# Without build isolation the pinned setuptools and Cython build, the same ones every time.
$(INSTALLED): pyproject.toml setup.py constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt setuptools Cython
	$(PIP) install --quiet --no-build-isolation -c constraints.txt -e ".[dev]"
	@touch $@

# The installation compiled them too; this is for sources that changed since, and it says what is missing. The bytecode is
# for whoever has Python write none: without it each of the many processes of the tests would compile all that it imports.
$(COMPILED): $(INSTALLED) $(NATIVE)
	$(BIN)/python setup.py --quiet build_ext --inplace
	$(BIN)/python -m compileall -q src
	@touch $@

$(BENCHMARK): $(COMPILED)
	$(PIP) install --quiet --no-build-isolation -c constraints.txt -e ".[benchmark]"
	@touch $@

lint: $(COMPILED)
	$(BIN)/ruff check .

typing: $(COMPILED)
	$(BIN)/mypy --strict src

test: lint typing
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

demo: $(COMPILED)
	$(BIN)/mukernel demo

bench: $(BENCHMARK)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
