# Two commands on a fresh machine: `make demo` and `make test`. `make docs` builds the documentation as a site; `make bench`
# is for what is too slow for them.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# A worker more than there are cores, since tests wait for processes, too.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(min(4, 1 + len(os.sched_getaffinity(0))))" 2>/dev/null || echo auto)

# Tests start hundreds of processes; each would compile the same sources.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint format docs bench fuzz neon clean

demo: .venv/package
	$(BIN)/mimo-convert tiny --with decoder --fuse-qkv --outtype q4_k --out demo --force

test: .venv/extras lint
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

lint: .venv/extras
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/extras
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Without a network, once .venv/docs is there. Everything is made anew, so that no page is left of an earlier build.
docs: .venv/docs
	rm -rf build/site
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env --doctree-dir build/doctrees \
		--conf-dir tools/site . build/site

bench: .venv/extras
	$(BIN)/python -m benchmarks.gates
	$(BIN)/python -m benchmarks.types
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.calibration.feedback
	$(BIN)/python -m benchmarks.products
	$(BIN)/python -m benchmarks.harness.repacking
	$(BIN)/python -m benchmarks.full_size
	$(BIN)/python -m benchmarks.validation
	$(BIN)/python -m benchmarks.tiny_speaks
	$(BIN)/python -m benchmarks.fidelity
	$(BIN)/python -m benchmarks.agreement
	$(BIN)/python -m benchmarks.nightly
	$(BIN)/python -m benchmarks.faults

# Damaged files through every command, for an hour: make fuzz FUZZ='--seconds 60 gguf-run', make fuzz FUZZ='--seed 1 --cases 1000'
FUZZ ?= --seconds 3600
fuzz: .venv/extras
	$(BIN)/python -m tests.fuzz --jobs 2 --keep fuzz-failures $(FUZZ)

# The kernels for ARM: cross-built, and run by an emulator. Debian: apt install g++-aarch64-linux-gnu qemu-user
neon: .venv/extras
	LANES_TARGET=aarch64 $(BIN)/pytest tests/quantize/test_lanes.py tests/quantize/feedback/test_driver.py \
		tests/runtime_check/products/test_driver.py

clean:
	rm -rf .venv build demo

.venv/package: pyproject.toml constraints.txt CMakeLists.txt $(wildcard quantize/lanes/* quantize/feedback/kernels/* runtime_check/products/kernels/* runtime_check/products/kernels/layers/*)
	@echo "installing into .venv, which takes a minute or two: ggml and our kernels are compiled"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

.venv/extras: .venv/package
	$(PIP) --editable '.[reference,test]'
	touch $@

.venv/docs: .venv/package
	$(PIP) --editable '.[docs]'
	touch $@
