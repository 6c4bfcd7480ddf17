# One command for each thing that a developer does. Every one sets up first what it lacks.
#   make test ARGS="tests/t2 -k salt"     arguments go on to the tool

VENV := $(or $(AMPEL_SPARK_VENV),$(CURDIR)/.venv)
PYTHON := "$(VENV)/bin/python"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup test long-test fuzz coverage lint format types notebooks bench kill-test clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup:  ## the environment for development: packages, jars, model data, tools
	@./setup.sh test dev

test:  ## all tests but the longest
	@./setup.sh test
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

long-test:  ## the tests that take minutes each, which `make test` leaves out
	@./setup.sh test
	$(PYTHON) -m pytest -m long $(ARGS)

fuzz:  ## odd values in all that is read: CHANGES (50000) of them a reader
	@./setup.sh test
	FUZZ_CHANGES=$(or $(CHANGES),50000) $(PYTHON) -m pytest -s tests/archive/reading/test_fuzz_values.py tests/archive/reading/test_photometry_fuzz.py tests/cases/test_fuzz_services.py $(ARGS)

coverage:  ## all tests, and how much of the package they reach
	@./setup.sh test
	AMPEL_SPARK_PROPERTIES="$(CURDIR)/tests/coverage.conf" $(PYTHON) -m pytest --cov --cov-report=term $(ARGS)

lint:  ## style, and likely bugs
	@./setup.sh test dev
	$(PYTHON) -m ruff check $(ARGS)
	$(PYTHON) -m ruff format --check

format:  ## put the code into its one form
	@./setup.sh test dev
	$(PYTHON) -m ruff check --fix-only --quiet
	$(PYTHON) -m ruff format

types:  ## mypy, strict
	@./setup.sh test dev
	$(PYTHON) -m mypy $(ARGS)

notebooks:  ## run every notebook from its first cell to its last
	@./setup.sh test
	$(PYTHON) -m pytest tests/test_notebooks.py $(ARGS)

bench:  ## the benchmarks, one after the other
	@./setup.sh
	@set -e; for script in benchmarks/[!_]*.py; do echo "== $$script"; $(PYTHON) $$script $(ARGS); done

kill-test:  ## drivers and executors killed at any moment, two drivers at once (ten minutes)
	@./setup.sh test
	$(PYTHON) -m tests.kill $(ARGS)

clean:  ## what tools and runs leave behind; the environment stays
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
	rm -rf spark-warehouse metastore_db derby.log "$(VENV)"/lib/python*/site-packages/pyspark/work
	rm -rf "$(VENV)"/share/ampel_spark/submit
	find . -name .venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
