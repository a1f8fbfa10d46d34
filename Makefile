# `make demo` and `make test` need nothing but Python 3.11 and make; the first of them sets .venv up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test test-slow check docs bench clean
demo: $(VENV)/.ready
	$(BIN)/convx demo --out .demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

test-slow: $(VENV)/.ready
	$(BIN)/python -m pytest -q -n 2

check: $(VENV)/.dev
	$(BIN)/ruff check core plugins templates tests docs
	$(BIN)/ruff format --check core plugins templates tests docs
	$(BIN)/mypy -p convx -p convx_gemma4 -p convx_qwen35 -p convx_generic -p convx_affine -p convx_mxfp4 -p convx_mxfp8 -p convx_nvfp4 -p convx_recipes

docs: $(VENV)/.ready
	$(BIN)/python docs/generate.py

bench: $(VENV)/.ready
	$(BIN)/python tests/benchmarks/convert.py

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("convx needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

$(VENV)/.dev: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
