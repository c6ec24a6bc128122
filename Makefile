# nbledger: everything a person runs. `make` lists it.
#
# Set-up is automatic: a target that needs the environment builds it first, and builds it again
# only when pyproject.toml or a lock file changed. Nothing but make and Python 3.11+ is needed.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BENCH_VENV := .venv-bench
S3_VENV := .venv-s3
CRATE_VENV := .venv-crate
NODE_MODULES := .venv-node
CONSUMERS := .venv-consumers
BIN := $(VENV)/bin
ROOTS := domain infrastructure application projections audit workers http cli schemas client sdk

# Which Python builds the environment (default: the first suitable one on PATH).
PYTHON ?=
# Handed to the command of a target: make test ARGS="-k store", make up ARGS="--help".
ARGS ?=
# Parallel test processes: tests wait much, so that three keep two cores busy.
JOBS ?= 3

# Where this is set nothing keeps what it has compiled, so each process compiles our modules and
# the tests anew, and they start by the hundred.
unexport PYTHONDONTWRITEBYTECODE

# Work is handed out module by module in the order that tests/conftest.py gives them.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder

.PHONY: help
help: ## List these targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- environment -----------------------------------------------------------------------------

# Install from lock files, hashes checked. uv does in 5 s what takes pip 45; pip is the way out
# where uv cannot reach the package index (a proxy or a mirror configured for pip alone).
define install
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes $(1) \
		|| { echo "uv could not install; trying pip"; \
		     $(BIN)/python -m pip install --quiet --no-deps --require-hashes $(1); }
endef

# Compile what is installed, but for its tests. Kernels may not write here, so each would compile
# scikit-learn, four seconds, for itself alone.
define compile
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests/' $(VENV)/lib/python*/site-packages || true
endef

$(BIN)/python:
	@set -e; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python); do \
		if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
				>/dev/null 2>&1; then \
			echo "Creating $(VENV) with $$("$$candidate" -V)"; \
			"$$candidate" -m venv --clear $(VENV); \
			exit 0; \
		fi; \
	done; \
	echo "nbledger needs Python 3.11 or newer with its venv module, and found none." >&2; \
	echo "Install it (on Debian and Ubuntu: apt install python3 python3-venv)," >&2; \
	echo "or name one: make PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.runtime: pyproject.toml requirements/setup.txt requirements/lock.txt | $(BIN)/python
	@echo "Installing what nbledger runs on"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		-r requirements/setup.txt
	$(call install,-r requirements/lock.txt)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable .
	$(compile)
	@touch $@

$(VENV)/.development: requirements/dev.txt $(VENV)/.runtime
	@echo "Installing what the tests and checks need"
	$(call install,-r requirements/dev.txt)
	@touch $@

$(BENCH_VENV)/.installed: requirements/bench.txt | $(VENV)/.runtime
	@echo "Installing what the benchmarks measure against"
	@test -x $(BENCH_VENV)/bin/python || $(BIN)/python -m venv --without-pip $(BENCH_VENV)
	@$(BIN)/uv pip install --quiet --python $(BENCH_VENV)/bin/python --require-hashes \
		-r requirements/bench.txt
	@touch $@

$(S3_VENV)/.installed: requirements/s3.txt | $(VENV)/.runtime
	@echo "Installing the S3 server that the tests use"
	@test -x $(S3_VENV)/bin/python || $(BIN)/python -m venv --without-pip $(S3_VENV)
	@$(BIN)/uv pip install --quiet --python $(S3_VENV)/bin/python --require-hashes \
		-r requirements/s3.txt
	@touch $@

$(CRATE_VENV)/.installed: requirements/crate.txt | $(VENV)/.runtime
	@echo "Installing the validator of RO-Crates that the tests use"
	@test -x $(CRATE_VENV)/bin/python || $(BIN)/python -m venv --without-pip $(CRATE_VENV)
	@$(BIN)/uv pip install --quiet --python $(CRATE_VENV)/bin/python --require-hashes \
		-r requirements/crate.txt
	@touch $@

# The lock has names, versions and hashes alone. No package runs anything while it is installed.
$(NODE_MODULES)/.installed: requirements/node.json requirements/node-lock.json | $(VENV)/.development
	@echo "Installing the validator of AsyncAPI that the tests use"
	@$(BIN)/python tests/node_packages.py install $(NODE_MODULES)
	@touch $@

# The consumers that others copy, each with its own packages. Java is not everywhere.
EXAMPLES := examples/consumers
$(CONSUMERS)/.installed: $(EXAMPLES)/librdkafka/requirements.txt $(EXAMPLES)/node/package.json \
		$(EXAMPLES)/node/lock.json $(wildcard $(EXAMPLES)/java/*) | $(VENV)/.development
	@echo "Installing what the examples of consumers need"
	@mkdir -p $(CONSUMERS)
	@test -x $(CONSUMERS)/librdkafka/bin/python || \
		$(BIN)/python -m venv --without-pip $(CONSUMERS)/librdkafka
	@$(BIN)/uv pip install --quiet --python $(CONSUMERS)/librdkafka/bin/python --require-hashes \
		-r $(EXAMPLES)/librdkafka/requirements.txt
	@$(BIN)/python tests/node_packages.py install $(CONSUMERS)/node consumer
	@$(EXAMPLES)/java/build.sh $(CONSUMERS)/java
	@touch $@

# What the tests run in environments of their own, as it needs other packages than nbledger.
TEST_VENVS := $(S3_VENV)/.installed $(CRATE_VENV)/.installed $(NODE_MODULES)/.installed \
	$(CONSUMERS)/.installed

.PHONY: setup
setup: $(VENV)/.development $(TEST_VENVS) ## Build the environment (every other target does it when needed)

# --- run -------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.runtime ## Start everything, run a notebook, show results, serve (DEMO_EXIT=1: end then)
	@$(BIN)/nbledger demo $(ARGS)

.PHONY: up
up: $(VENV)/.runtime ## Start everything on this machine and serve until Ctrl-C
	@$(BIN)/nbledger up $(ARGS)

.PHONY: kafka
kafka: $(VENV)/.runtime ## Start Apache Kafka on one node (needs Java and Maven)
	@$(BIN)/python -m nbledger.embedded.apache_kafka $(ARGS)

# --- kernels of other languages --------------------------------------------------------------

.PHONY: kernel-r
kernel-r: $(VENV)/.runtime ## Install R with IRkernel from Debian's packages, for notebooks in R
	@deploy/r/install.sh $(VENV)

.PHONY: kernel-scala
kernel-scala: $(VENV)/.runtime ## Install a Scala kernel (needs Java and Maven)
	@deploy/scala/install.sh $(VENV)

.PHONY: browser
browser: ## Install Chromium from Debian's packages, for reports as PDF
	@deploy/browser/install.sh

# --- check -----------------------------------------------------------------------------------

.PHONY: test
test: $(VENV)/.development $(TEST_VENVS) ## Run all tests, fast ones first (ARGS="-k name" chooses)
	@$(PYTEST) $(ARGS)

.PHONY: test-kafka
test-kafka: $(VENV)/.development $(TEST_VENVS) ## Run what needs a broker on Apache Kafka (needs Java and Maven)
	@NBLEDGER_TEST_KAFKA=apache $(PYTEST) tests/integration -m kafka $(ARGS)

.PHONY: test-bench
test-bench: $(VENV)/.development $(BENCH_VENV)/.installed ## Run what tests the benchmarks (minutes; not part of `test`)
	@$(BIN)/python -m pytest -m benchmark tests/acceptance/test_bench_quick.py $(ARGS)

.PHONY: campaign
campaign: $(VENV)/.development $(TEST_VENVS) ## Run the counted campaigns of faults at full length (twenty minutes)
	@NBLEDGER_CAMPAIGN=$(or $(NBLEDGER_CAMPAIGN),full) \
		$(BIN)/python -m pytest -m campaign --timeout 3600 $(ARGS)

.PHONY: isolation-table
isolation-table: $(VENV)/.development ## Write into the docs what each level of isolation stops (as root)
	@NBLEDGER_REWRITE_ISOLATION_TABLE=1 \
		$(BIN)/python -m pytest -m "campaign or not campaign" \
		tests/acceptance/test_hostile_notebook.py $(ARGS)

.PHONY: check
check: $(VENV)/.development ## Lint, formatting, dead code, types, layers, guarantees
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/python tests/dead_code.py
	@$(BIN)/mypy
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports
	@PYTHONPATH=tests $(BIN)/python tests/support/guarantees.py

.PHONY: guarantees
guarantees: $(VENV)/.development ## Print which tests stand behind which promise of docs/guarantees.md
	@PYTHONPATH=tests $(BIN)/python tests/support/guarantees.py --list

.PHONY: format
format: $(VENV)/.development ## Format the code and sort imports
	@$(BIN)/ruff check --fix-only --exit-zero --quiet
	@$(BIN)/ruff format

.PHONY: bench
bench: $(VENV)/.runtime $(BENCH_VENV)/.installed ## Measure against peers; print a table, write bench.json
	@$(BIN)/python -m benchmarks $(ARGS)

# --- maintain --------------------------------------------------------------------------------

# Locks hold names, versions and hashes for every platform, and no address.
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-config --no-emit-index-url --no-emit-find-links --no-annotate --quiet \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

.PHONY: lock
lock: $(VENV)/.development ## Write the lock files anew (UPGRADE=1: to the newest versions)
	@$(COMPILE) --group build -o requirements/setup.txt
	@$(COMPILE) pyproject.toml --all-extras -c requirements/setup.txt -o requirements/lock.txt
	@$(COMPILE) --group dev -c requirements/setup.txt -c requirements/lock.txt \
		-o requirements/dev.txt
	@$(COMPILE) pyproject.toml --extra client -c requirements/lock.txt -o requirements/client.txt
	@$(COMPILE) pyproject.toml --extra core -c requirements/lock.txt -o requirements/core.txt
	@$(COMPILE) pyproject.toml --extra witness -c requirements/lock.txt -o requirements/witness.txt
	@$(COMPILE) pyproject.toml --extra api -c requirements/lock.txt -o requirements/api.txt
	@$(COMPILE) pyproject.toml --extra worker --extra kernel -c requirements/lock.txt \
		-o requirements/worker.txt
	@$(COMPILE) requirements/bench.in -o requirements/bench.txt
	@$(COMPILE) requirements/s3.in -o requirements/s3.txt
	@$(COMPILE) requirements/crate.in -o requirements/crate.txt
	@$(COMPILE) $(EXAMPLES)/python/requirements.in -c requirements/lock.txt \
		-o $(EXAMPLES)/python/requirements.txt
	@$(COMPILE) $(EXAMPLES)/librdkafka/requirements.in -o $(EXAMPLES)/librdkafka/requirements.txt
	@$(BIN)/python tests/node_packages.py lock

.PHONY: schemas
schemas: $(VENV)/.runtime ## Write the schemas of the events and their pages anew, from the types
	@$(BIN)/python -m nbledger_schemas
	@$(BIN)/python -m nbledger_projections.state_topics.schemas

.PHONY: schemas-release
schemas-release: schemas ## Promise readers the schemas as they are now (part of a release)
	@$(BIN)/python -m nbledger_schemas release
	@$(BIN)/python -m nbledger_projections.state_topics.schemas release

.PHONY: client-models
client-models: $(VENV)/.development ## Write the client's types anew, from the API's description
	@PYTHONPATH=tests $(BIN)/python tests/client_models.py

.PHONY: dist
dist: $(VENV)/.runtime ## Build the wheel into dist/
	@$(BIN)/python -m hatchling build --target wheel

.PHONY: clean
clean: ## Remove build output and caches (keeps environments and data)
	@rm -rf dist reports .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find $(ROOTS) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

.PHONY: distclean
distclean: clean ## Remove the environments too
	@rm -rf $(VENV) $(BENCH_VENV)
