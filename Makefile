# A fresh machine needs only Python 3.11, make and git for `make study` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?= quick
STUDY ?= studies/quick

.PHONY: install study notebook test lint docs clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev,docs]'
	touch $@

study: install
	$(BIN)/python study/run.py $(ARGS)

# Opens the notebooks on a study: make notebook STUDY=studies/small-data
notebook: install
	$(BIN)/python -m pip install --quiet --editable '.[notebook]'
	PRETEXT_STUDY="$(abspath $(STUDY))" $(BIN)/jupyter lab --ip 127.0.0.1 analysis/notebooks

test: install
	$(BIN)/python -m pytest -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/*/*.py
	$(BIN)/lint-imports --no-cache --no-logo

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
