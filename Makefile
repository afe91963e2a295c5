# install, demo, test, test-all, check and bench need no more than Python 3.11 or newer and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := gateway actors adapters tests

.PHONY: install demo test test-all check audit bench lab chaos clean

install: $(VENV)/.installed

# uv is installed by pip into an environment of its own; everything else is installed from the lock file.
$(VENV)/.installed: pyproject.toml uv.lock
	@command -v uv >/dev/null 2>&1 || [ -x .uv/bin/uv ] || { $(PYTHON) -m venv .uv && .uv/bin/python -m pip install --quiet uv; }
	@PATH="$(CURDIR)/.uv/bin:$$PATH" uv sync --frozen --quiet --python $(PYTHON)
	@touch $@

check: install
	@$(BIN)/ruff format --check --quiet $(SOURCES) && $(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/vulture

# Takes some minutes; `long` tests, and the cases that other tests only sample, are for test-all.
test: install
	@$(BIN)/python -m tests.system_parts --quick
	@$(BIN)/python -m tests.parts --quick

test-all: install
	@$(BIN)/python -m tests.system_parts
	@$(BIN)/python -m tests.parts

# Known vulnerabilities of the locked dependencies; needs an index of advisories, so it is no part of check. Runs pip-audit by uvx.
audit: install
	@PATH="$(CURDIR)/.uv/bin:$$PATH" uv export --frozen --no-emit-project --all-groups --quiet > .audit-requirements.txt
	@PATH="$(CURDIR)/.uv/bin:$$PATH" uvx pip-audit --disable-pip --require-hashes -r .audit-requirements.txt; \
		code=$$?; rm -f .audit-requirements.txt; exit $$code

demo: install
	@$(BIN)/python -m tests.sandbox.demo

# BENCH=name runs one benchmark; ARGS=--quick only checks that it runs.
bench: install
	@$(BIN)/python -m tests.benchmarks $(BENCH) $(ARGS)

lab: install
	@$(BIN)/python -m tests.lab.play

# SEED, EVENTS, KILLS, PG_STOPS, OTHERS, MINUTES, PBX_CALLS, TENANTS, INSTANCES: see tests/chaos/plan.py
chaos: install
	@$(BIN)/python -m tests.chaos.run

clean:
	rm -rf var $(VENV) .uv .mypy_cache .ruff_cache
