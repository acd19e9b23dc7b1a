# What people and CI run. Everything is built for the whole workspace at once, and with the tests' own
# dependencies: cargo then chooses one set of features, and no crate is built twice.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Built from source once and kept apart from the build; `make check` takes one on PATH if there is one.
CARGO_DENY_VERSION := 0.20.2
TOOLS := $(TARGET)/tools
# How far the protocol's model is searched by `make model-long`, in states.
MODEL_STATES ?= 28000000
# How long `make fuzz` runs.
SECONDS ?= 60
# How many clusters `make sim` simulates.
SEEDS ?= 500

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' \
	  | while IFS='|' read -r target what; do printf '  make %-16s %s\n' "$$target" "$$what"; done

.PHONY: deps
deps: ## Install what building and testing needs (protoc, etcd, MariaDB), if it is missing
	@deploy/install-deps.sh

.PHONY: build
build: ## Build every program and test, for development
	$(CARGO) build --workspace --all-targets --locked

.PHONY: check
check: lint deny ## Check format, lints, documentation, licences and banned crates

.PHONY: lint
lint: ## Check format, lints and documentation
	@echo "== format, lints, documentation"
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

.PHONY: deny
deny: $(TOOLS)/cargo-deny ## Check licences, banned crates and sources
	@echo "== licences, banned crates, sources (deny.toml)"
	$(TOOLS)/cargo-deny --locked check --hide-inclusion-graph licenses bans sources

.PHONY: advisories
advisories: $(TOOLS)/cargo-deny ## Look for known vulnerabilities; fetches the advisory database from GitHub
	$(TOOLS)/cargo-deny --locked check advisories

# A link to the one on PATH, or a build of our own: two to three minutes of processor time.
$(TOOLS)/cargo-deny:
	@mkdir -p $(TOOLS)
	@if found=$$(command -v cargo-deny); then echo "== cargo-deny is $$found"; ln -sf "$$found" $@; else \
	  echo "== cargo-deny is not installed: building $(CARGO_DENY_VERSION) into $(TOOLS)"; \
	  CARGO_TARGET_DIR=$(TOOLS)/build $(CARGO) install cargo-deny --version $(CARGO_DENY_VERSION) --locked --root $(TOOLS); \
	  rm -rf $(TOOLS)/build; ln -sf bin/cargo-deny $@; fi

.PHONY: test
test: deps build ## Run all tests, also those with real etcd and MariaDB servers
	@echo "== all tests"
	$(TARGET)/debug/with-mariadb $(CARGO) test --workspace --locked

.PHONY: test-fast
test-fast: ## Run the unit tests without etcd and MariaDB; those that need them say that they are skipped
	@echo "== unit tests"
	CI= FOREST_TEST_ETCD=none FOREST_TEST_MARIADBD=none $(CARGO) test --workspace --lib --bins --locked

.PHONY: oracle
oracle: $(TOOLS)/oracle/installed ## Compare the fires of 20,000 expressions with Python's croniter; needs python3 and PyPI
	@echo "== fires against croniter"
	FOREST_CRONITER=$(abspath $(TOOLS))/oracle/bin/python \
	  $(CARGO) test --workspace --locked --lib -- --exact tests::croniter::fires_in_zones_are_those_of_croniter --nocapture

$(TOOLS)/oracle/installed: tests/oracle/requirements.txt
	python3 -m venv $(TOOLS)/oracle
	$(TOOLS)/oracle/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.PHONY: openapi
openapi: ## Write proto/api/openapi.json anew from the code
	FOREST_WRITE_OPENAPI=1 $(CARGO) test -p forest-server --lib --locked -- --exact http::api::tests::the_stored_document_is_that_of_the_code

.PHONY: alerts
alerts: ## Check the alert rules with promtool (Debian's package prometheus has it)
	@echo "== alert rules"
	promtool check rules deploy/monitoring/forest-alerts.yaml
	promtool test rules deploy/monitoring/forest-alerts-test.yaml

.PHONY: transcript
transcript: ## Write anew what forest-cli prints (forest-cli/transcript.txt); read the difference
	FOREST_WRITE_TRANSCRIPT=1 $(CARGO) test -p forest-cli --locked -- transcript

.PHONY: settings
settings: ## Write the example configuration and the README's table of settings anew from the code
	FOREST_WRITE_SETTINGS=1 $(CARGO) test -p forest-server --lib --locked -- config::example

.PHONY: openapi-fuzz
openapi-fuzz: build $(TOOLS)/openapi/installed ## Ask the REST API with schemathesis whether it is as its document says; SEED=1 CASES=20; needs python3 and PyPI
	@echo "== REST API against its document"
	FOREST_SCHEMATHESIS=$(abspath $(TOOLS))/openapi/bin/schemathesis FOREST_OPENAPI_SEED=$(or $(SEED),1) FOREST_OPENAPI_CASES=$(or $(CASES),20) \
	  $(CARGO) test --workspace --locked --test suite -- http::fuzz --nocapture

$(TOOLS)/openapi/installed: tests/openapi/requirements.txt
	python3 -m venv $(TOOLS)/openapi
	$(TOOLS)/openapi/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.PHONY: fuzz
fuzz: ## Read and walk broken cron expressions and calendars for SECONDS=60, from SEED=1 on
	@echo "== broken schedules"
	FOREST_FUZZ_SECONDS=$(SECONDS) FOREST_FUZZ_SEED=$(or $(SEED),1) \
	  $(CARGO) test --workspace --locked --lib -- --exact tests::fuzz::no_text_makes_the_schedules_panic_or_hang --nocapture

.PHONY: model-long
model-long: ## Search the protocol's model far: a good while, and several GB of memory
	FOREST_MODEL_STATES=$(MODEL_STATES) $(CARGO) test --workspace --release --locked --test suite protocol_model -- --nocapture

# The simulator is optimised, and built with tokio's own seed: hence a folder of its own.
SIM = CARGO_TARGET_DIR=$(TARGET)/sim RUSTFLAGS="--cfg tokio_unstable" $(CARGO) run --quiet --profile sim --locked -p forest-simulation --bin sim --

.PHONY: sim
sim: ## Simulate SEEDS=500 clusters with faults, and look whether each planted defect is found
	@echo "== simulation"
	$(SIM) run --seeds $(SEEDS)
	$(SIM) mutants

.PHONY: sim-long
sim-long: ## Simulate 50,000 clusters
	$(SIM) run --seeds 50000

.PHONY: sim-replay
sim-replay: ## Tell the story of one seed, SEED=n, without what does not matter
	$(SIM) replay $(SEED)

.PHONY: demo
demo: deps ## Show a cluster at work, losing its leader and a worker
	$(CARGO) build --workspace --release --bins --locked
	$(CARGO) run --release --locked --bin demo

.PHONY: bench
bench: deps ## Measure a cluster on this machine
	$(CARGO) build --workspace --release --bins --locked
	$(CARGO) run --release --locked --bin bench

.PHONY: soak
soak: ## Load the embedded mode for ten minutes, and look what grows
	$(CARGO) build --workspace --release --bins --locked
	$(CARGO) run --release --locked --bin soak

.PHONY: clean-test-data
clean-test-data: ## Remove the folders that interrupted tests left behind
	rm -rf $(TARGET)/test-data
