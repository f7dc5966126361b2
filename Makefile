# `make help` lists the targets. The README needs two of them: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
RUST := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml)

.DEFAULT_GOAL := help
# Tests that are cheap enough to be run once more, slowed down by the count of lines, and the parts that they are about:
# a figure for the other parts would say that these tests are not theirs.
COVERED ?= $(addprefix tests/test_,$(addsuffix .py,arguments benchmarks compare evaluate hostile kernels_inputs \
	kernels_rerank notebook run run_ames run_files run_fusing run_pickle search search_backends search_files search_planes \
	store store_ames store_changes store_export store_formats store_hdf5 store_npy streaming sweep))
COVERED_PARTS ?= */kernels/*,*/store/*,*/run/*,*/search/*,*/evaluate/*,*/_arrays.py,*/_counting.py,*/_files.py,*/sweep.py

# How the wheel is linked: with zig against an old glibc, so that it runs on every Linux since 2014.
WHEEL_FLAGS ?= --zig --compatibility manylinux2014

.PHONY: help demo test test-rust test-python lint format docs licences memory coverage coverage-rust extras bench sdist wheel lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(VENV)/.installed ## Generate the demo benchmark, run all eight stages on it, write the report
	$(BIN)/ilias-fast demo --output $(DEMO)

test: test-rust test-python ## Run every test

test-rust: ## Run the tests of the core crate
	cargo test --workspace --quiet

test-python: $(VENV)/.installed-test ## Run the tests of the package
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(VENV)/.installed-test ## rustfmt, clippy, ruff, types, stubs against the binary, workflows
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- --deny warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest ilias_fast._core
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/jactionlint --profile correctness --strict-exit --no-hints

format: $(VENV)/.installed-test ## Format Rust and Python
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-bench ## Measure against the peers, side by side
	for script in bench/*.py; do $(BIN)/python $$script || exit 1; done

licences: $(VENV)/.installed-test ## List the licences of everything built in or installed with it
	$(BIN)/python packaging/licences.py

memory: ## The core under valgrind (its kernels at scalar and AVX2; it knows no AVX-512) and what Miri can run
	packaging/memory_check
	packaging/miri_check

coverage: $(VENV)/.installed-test ## Which lines of kernels, stores, runs, search and evaluation their own Python tests reach
	$(BIN)/python -m coverage run -m pytest --quiet $(COVERED)
	$(BIN)/python -m coverage report --skip-covered --sort cover --include '$(COVERED_PARTS)'

coverage-rust: ## Which lines of the core its own tests reach
	packaging/rust_coverage

extras: $(VENV)/.installed-wheel ## Resolve the wheel in dist/ with every extra, without installing anything
	$(BIN)/python packaging/extras.py dist/*.whl

docs: $(VENV)/.installed-docs ## Build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

sdist: $(VENV)/.installed-wheel ## Build an sdist into dist/
	rm -f dist/*.tar.gz
	$(BIN)/maturin sdist --out dist

wheel: sdist ## Build a wheel from the sdist into dist/, check it, try it in an empty environment
	rm -rf dist/*.whl target/from-sdist && mkdir -p target/from-sdist
	tar -xzf dist/*.tar.gz -C target/from-sdist --strip-components 1
	cd target/from-sdist && PATH="$(abspath $(BIN)):$$PATH" CARGO_TARGET_DIR=$(abspath target) \
		maturin build --release --locked $(WHEEL_FLAGS) --out $(abspath dist)
	$(BIN)/python packaging/check_wheel.py dist/*.whl

lock: $(VENV)/.installed-bench ## Rewrite constraints.txt from what is installed
	$(BIN)/python -m pip freeze --exclude-editable --exclude ilias-fast > constraints.txt

clean: ## Remove everything that can be made again
	rm -rf target dist site $(VENV) $(DEMO) python/ilias_fast/*.so

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'pip>=25.1'

# A stamp per set of dependencies: what the demo needs, then what the tests add, then the benchmark's peers.
$(VENV)/.installed: pyproject.toml constraints.txt $(RUST) | $(BIN)/python
	$(PIP) --editable '.[classical,hdf5,report]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[all]' --group lint --group test
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --group docs
	touch $@

$(VENV)/.installed-wheel: constraints.txt | $(BIN)/python
	$(PIP) --group wheel
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(PIP) --group bench
	touch $@
