# The list of habits. `make test` and `make demo` need nothing but Python 3.11+ with venv.
PYTHON ?= python3
BIN := .venv/bin
# tests wait more than they work
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.PHONY: help demo test test-faults check audit fix bench bench-guard load openapi docs lock clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: .venv/.installed  ## Start a server, deploy the example agent, call it; Ctrl-C ends all
	@$(BIN)/python examples/demo.py $(DEMO_ARGS)

test: .venv/.installed  ## Run the tests, with a real supervisord, uv and agents
	$(BIN)/python -m pytest -m "not faults" --numprocesses $(WORKERS) --dist loadfile $(PYTEST_ARGS)

test-faults: .venv/.installed  ## Run the long tests that kill and break things on purpose
	$(BIN)/python -m pytest -m faults --numprocesses $(WORKERS) --dist worksteal $(PYTEST_ARGS) tests/faults

check: .venv/.installed  ## Lint, format, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

audit: .venv/.installed  ## Look for known holes in the dependencies, where an index can be asked
	$(BIN)/python .ci/audit.py

fix: .venv/.installed  ## Apply what the linter and formatter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Without matplotlib there are no pictures; everything else is measured all the same.
.venv/.bench: .venv/.installed requirements-bench.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

bench: .venv/.installed  ## Measure against the bare floor, as ratios within one run
	@$(MAKE) --silent .venv/.bench || echo "no matplotlib to be had: no --plot" >&2
	$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

bench-guard: .venv/.installed  ## Hold a few ratios to the recorded ones, below two minutes
	$(BIN)/python -m tests.benchmarks.guard $(GUARD_ARGS)

load: .venv/.installed  ## A minute of mixed traffic from 32 clients, and what must hold then
	$(BIN)/python -m tests.traffic $(LOAD_ARGS)

openapi: .venv/.installed  ## Write docs/openapi.json anew, after a change of the API
	$(BIN)/python -m tests.openapi_json

docs: .venv/.installed  ## Write what docs/ says of manifest, settings, problems and events anew
	$(BIN)/python docs/reference.py

lock: .venv/.installed  ## Resolve the dependencies anew, with hashes, for every platform
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras \
		--no-emit-index-url --no-header --no-config -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group bench \
		--no-emit-index-url --no-header --no-config --constraints requirements.lock -o requirements-bench.lock

clean:  ## Remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
