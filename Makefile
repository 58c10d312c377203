# Two commands do everything: `make demo` and `make test`. Both need only Python
# 3.10-3.12 with venv, and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
IMAGE ?=

.PHONY: demo test lint types unit clean

demo: $(INSTALLED)
	$(BIN)/python -m caezip_bench.demo $(IMAGE)

test: lint types unit

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

unit: $(INSTALLED)
	$(BIN)/pytest

# torch comes first and by itself: its exact version is the one with a CPU build
# at hand where there is one, and everything later finds it installed.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist
