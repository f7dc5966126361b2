# `make help` lists the targets. The README needs two of them: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
RUST := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml)

.DEFAULT_GOAL := help
.PHONY: help demo test test-rust test-python lint format bench wheel lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(VENV)/.installed ## Generate the demo benchmark, run all eight stages on it, write the report
	$(BIN)/ilias-fast demo --output $(DEMO)

test: test-rust test-python ## Run every test

test-rust: ## Run the tests of the core crate
	cargo test --workspace --quiet

test-python: $(VENV)/.installed-test ## Run the tests of the package
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(VENV)/.installed-test ## rustfmt, clippy, ruff, types, stubs against the binary
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- --deny warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest ilias_fast._core

format: $(VENV)/.installed-test ## Format Rust and Python
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-bench ## Measure against the peers, side by side
	for script in bench/*.py; do $(BIN)/python $$script || exit 1; done

wheel: $(VENV)/.installed-test ## Build a wheel into dist/
	$(BIN)/maturin build --release --locked --out dist

lock: $(VENV)/.installed-bench ## Rewrite constraints.txt from what is installed
	$(BIN)/python -m pip freeze --exclude-editable --exclude ilias-fast > constraints.txt

clean: ## Remove everything that can be made again
	rm -rf target dist $(VENV) $(DEMO) python/ilias_fast/*.so

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

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(PIP) --group bench
	touch $@
