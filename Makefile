# The commands of the clone. They need Python 3.9 or newer, Rust and a C compiler; everything they
# install lies in the clone: .venv/ (tools), .test/, .demo/, target/.

PYTHON ?= python3
BIN := .venv/bin
TOOLS := .venv/.complete
# What the tools see must not depend on an environment that happens to be active.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Links the extension's unit tests without libpython, which many Pythons don't have.
export PYO3_BUILD_EXTENSION_MODULE := 1

.PHONY: help demo test test-all test-rust test-python build lint bench clean

help:
	@echo "make demo      pack a real environment, run an MPI program on 4 ranks, show what it cost"
	@echo "make test      all tests but the slow ones, under real mpiexec, real Pythons, real wheels"
	@echo "make test-all  the slow ones too"
	@echo "make build     install this clone into .venv, editable"
	@echo "make lint      clippy, rustfmt, ruff"
	@echo "make bench     pack time and size, start time, file operations, memory, beside plain Python"
	@echo "make clean     remove what these commands made"

demo: $(TOOLS)
	$(BIN)/python examples/mpi4py_app/demo.py

test: test-rust
	$(MAKE) test-python PYTEST="-m 'not slow'"

test-all: test-rust
	$(MAKE) test-python

test-rust:
	cargo test --quiet

test-python: $(TOOLS)
	$(BIN)/python -m pytest $(PYTEST)

build: $(TOOLS)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable .

lint: $(TOOLS)
	cargo fmt --check
	cargo clippy --quiet --all-targets -- -D warnings
	cargo clippy --quiet -p readbench --all-targets -- -D warnings
	$(BIN)/python tests/tools/with_mpi.py mpich cargo clippy --quiet -p pybundle-mpi --all-targets -- -D warnings
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet

bench: $(TOOLS)
	$(BIN)/python tests/tools/measure.py

clean:
	rm -rf .venv .test .demo build target *.egg-info pyshim/*.egg-info
	rm -f pyshim/pybundle/*.so pyshim/pybundle/_mpi_*.json

$(TOOLS): tests/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || \
		{ echo "error: $(PYTHON) is older than 3.9: set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
		{ echo "error: $(PYTHON) has no ensurepip: install python3-venv, or set PYTHON"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet -r tests/requirements.txt
	@touch $@
