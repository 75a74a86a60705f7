# make demo    set everything up and compare the methods on built-in data
# make check   set everything up; style, types and the quick tests: about two minutes
# make test    set everything up; style, types, all tests and their coverage: what CI runs
# make test-gpu  the tests that need a GPU, on a machine that has one; without, they are skipped
# make docs    the pages as a site, in site/
# make lint    mend the style of the code
# Another interpreter: make demo PYTHON=python3.12. Another place for the environment: make test VENV=/tmp/env.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What two cores train within four minutes: the cheapest methods, one CLAM and HMIL. The other seven (clam-mb, dtfd, ilra,
# rrt, transformer, transmil, wikg) take one to six minutes of CPU time each: results/published/digits-quick.md
DEMO := mean-pool max-pool mean-mlp linear-probe knn-probe simple-mil detector dsmil abmil abmil-gated acmil clam-sb hmil

.PHONY: demo check test test-gpu docs lint clean

demo: $(VENV)/installed
	$(BIN)/mil-bench run --methods $(DEMO) --dataset digits --preset quick

# Tests run on all cores at once: more threads per test would only get in the way.
check test: export OMP_NUM_THREADS = 1

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto -m "not slow"

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --cov --cov-report=term:skip-covered

# One after another: they look at the memory of the GPU.
test-gpu: $(VENV)/installed
	$(BIN)/python -m pytest -m gpu -rs

docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

lint: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(not ok and \
	  "mil-bench needs Python 3.11 to 3.13, this is %d.%d. Name one: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
