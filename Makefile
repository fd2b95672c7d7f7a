# make demo      set up and run the demo
# make test      set up and run the tests; long ones run a sample
# make test-all  the same with the long ones in full
# make lint      formatting, lint and types
# make native    the runner for devices without Python, in build/native/; native-arm64 for 64-bit Arm Linux
# make docs      the documentation site, in site/
# make release   wheel and sdist in dist/, each tried in a new environment
# make benchmarks  the standing results of benchmarks/results and docs/benchmarks.md, made again
# make rivals    an environment with what fbkit bench train compares fbkit with
# make flower    an environment for fbkit's Flower app

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
RIVALS := .venv-rivals
FLOWER := .venv-flower
NATIVE := $(wildcard device_runtime/native/*/*.h device_runtime/native/*/*.cpp)

.PHONY: benchmarks demo docs release test test-all lint format native native-arm64 rivals flower

demo: $(READY)
	rm -rf demo-out
	$(BIN)/fbkit demo --out demo-out

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(READY) $(FLOWER)/ready $(RIVALS)/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --all

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

native:
	PYTHON=$(PYTHON) device_runtime/native/build.sh $$(uname -m) build/native/$$(uname -m)

native-arm64:
	PYTHON=$(PYTHON) device_runtime/native/build.sh aarch64 build/native/aarch64

docs: $(READY)
	$(BIN)/mkdocs build --quiet

release: $(READY)
	PYTHON=$(abspath $(BIN))/python .ci/release

benchmarks: $(READY)
	benchmarks/standing.sh

rivals: $(RIVALS)/ready

flower: $(FLOWER)/ready

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(NATIVE)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("fbkit needs Python 3.11 or later; try: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

$(RIVALS)/ready: benchmarks/rivals/requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "the rivals need Python 3.11 or 3.12; try: make rivals PYTHON=python3.11")'
	$(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/python -m pip install --quiet --requirement benchmarks/rivals/requirements.txt
	touch $@

$(FLOWER)/ready: pyproject.toml constraints-flower.txt
	$(PYTHON) -m venv $(FLOWER)
	$(FLOWER)/bin/python -m pip install --quiet --constraint constraints-flower.txt --editable '.[flower]' pytest
	touch $@
