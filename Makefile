# Two commands do everything: `make demo` and `make test`. Both need only Python
# 3.10-3.12 with venv, and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
IMAGE ?=
SECONDS ?= 60
MUTATIONS ?= 10000

.PHONY: demo test lint types unit fuzz compare baseline clean

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

# Each target for SECONDS, then MUTATIONS of valid files; SECURITY.md says more. Inputs
# that break something are kept in build/fuzz.
fuzz: $(INSTALLED)
	mkdir -p build/fuzz
	for name in header entropy decode round_trip; do \
		$(BIN)/python tests/fuzz/fuzz_$$name.py -max_total_time=$(SECONDS) \
			-artifact_prefix=build/fuzz/ -print_final_stats=1 -verbosity=0 || exit 1; \
	done
	cd build/fuzz && $(abspath $(BIN))/python $(CURDIR)/tests/fuzz/fuzz_mutations.py $(MUTATIONS)

# Whether files grew since tests/pictures/baseline.json was made; `make baseline` accepts
# that they did.
SMALL_BENCH := bench tests/pictures -o build/compare --force --jobs 1 --pictures 0 \
	--peers caezip,caezip-archive,caezip-ssim,jpeg420 --qualities 5,25,50,75,95 --metrics psnr_db,ms_ssim

compare: $(INSTALLED)
	$(BIN)/caezip $(SMALL_BENCH) --compare tests/pictures/baseline.json

baseline: $(INSTALLED)
	$(BIN)/caezip $(SMALL_BENCH)
	cp build/compare/results.json tests/pictures/baseline.json

# torch comes first and by itself: its exact version is the one with a CPU build
# at hand where there is one, and everything later finds it installed.
$(INSTALLED): pyproject.toml constraints.txt hatch_build.py $(wildcard codec/caezip/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,fuzz]"
	touch $@

clean:
	rm -rf $(VENV) build dist
