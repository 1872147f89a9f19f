# Thin names for the commands in the README.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-quick bench proof lint deny sbom docs fuzz soak-verify measure-accounts measure-rebuild measure-verify standstill

help: ## list these targets
	@sed -n 's/^\([a-z-]*\): ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## find what is needed, install what is missing
	scripts/setup

demo: ## run the whole system on real files, show and prove the result (ARGS="--events 500 --json")
	scripts/setup
	cargo build --release --locked
	./target/release/artstore demo $(ARGS)

# Tests wait for servers more than they compute, and some wait for time to pass; those that compute take turns
# (tests/it/support/running.rs).
TEST_THREADS ?= 8
# What failed says so in its message; with RUST_BACKTRACE=1 on the command line also where it came from.
test: export RUST_BACKTRACE := 0
test: export TEST_TIMES := $(CURDIR)/target/test-times
# AREA: a part of the integration tests, by folder, file or name: make test AREA=rebuild
# A folder or a file is meant as a whole: AREA=relay is not every test with a relay in its name.
FILTER = $(if $(AREA),$(AREA)$(if $(strip $(foreach p,$(AREA) */$(AREA) */*/$(AREA),$(wildcard tests/it/$p tests/it/$p.rs))),::))
test: ## run every test, on real servers (AREA=rebuild: those of one area)
	scripts/setup --tests
	@rm -f $(TEST_TIMES)
	cargo test --profile tests --locked $(if $(AREA),--test it,--workspace) -- --test-threads=$(TEST_THREADS) $(FILTER); \
		status=$$?; [ ! -f $(TEST_TIMES) ] || { echo "the slowest tests:"; sort -rn $(TEST_TIMES) | head -n 20; }; exit $$status

# One test of each area that goes from a row to what people see, and everything that needs no servers.
QUICK = smoke:: documents::links documents::pages relay::crashes::a_frozen_relay_woken_past_its_lock_writes_nothing_in_atomic_batches \
	gaps::a_number_drawn_first projector::crashes::of_two_moves parking::discarded::an_event_is_given_up search::known::a_thousand \
	verify::command::the_command_says audit::export::an_export_is_whole rebuild::waiting republish::a_foreign_message \
	accept_source::a_healthy_source backfill::a_lock_that prune::the_last_thousand registry::what_administrators \
	bus_backup::restored::a_stream_that_a_limit migrations::position recovery::the_cache services::stops::a_stop_lets
test-quick: export RUST_BACKTRACE := 0
test-quick: ## unit tests, the contract, and one end-to-end test of each area, in minutes
	scripts/setup --tests
	cargo test --profile tests --locked --workspace --lib --bins
	cargo test --profile tests --locked --package artstore-schemas --test contract
	cargo test --profile tests --locked --test structure
	cargo test --profile tests --locked --test it -- --test-threads=$(TEST_THREADS) $(QUICK)

bench: ## measure speed beside the raw limit in the same run
	scripts/setup
	cargo build --release --locked
	./target/release/artstore bench $(ARGS)

proof: ## what verify costs at 100,000 and 1,000,000 files: takes minutes (PROOF_FILES=100000)
	scripts/setup --tests
	cargo test --release --locked --test it -- --ignored --nocapture verify::memory::memory_is_flat

lint: ## formatting, clippy and the API's documentation, warnings denied
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

deny: ## licences, sources and duplicates of the dependencies; advisories where their list can be had
	scripts/setup --deny
	scripts/deny

sbom: ## the bill of materials of the program, target/sbom/artstore.cdx.json (ARGS="--target TRIPLE")
	scripts/sbom $(ARGS)

docs: ## build the documents into a site, target/docs/site, and check its links
	scripts/setup --docs
	scripts/docs

fuzz: ## each fuzz target for a minute (FUZZ_SECONDS=3600: an hour; TARGETS="ranges token": some of them)
	scripts/setup --fuzz
	scripts/fuzz $(TARGETS)

soak-verify: ## ten minutes of mixed load with kills, checked all the time: no false alarm
	scripts/setup --tests
	cargo test --locked --test it -- --ignored --nocapture no_false_alarm_in_ten_minutes

standstill: ## the check beside a relay stands still for five minutes, is named and restarted
	scripts/setup --tests
	cargo test --locked --test it -- --ignored --nocapture a_check_that_stands_still

measure-rebuild: ## memory and time of a rebuild of 100,000, 300,000 and 1,000,000 events
	scripts/setup --tests
	cargo test --profile tests --locked --test it -- --ignored --nocapture rebuild::size::memory_is_flat

measure-accounts: ## throughput and latency with the accounts of NATS and without
	scripts/setup --tests
	cargo test --profile tests --locked --test it -- --ignored --nocapture accounts::speed

measure-verify: ## memory and time of a check of 100,000 and of 1,000,000 rows
	scripts/setup --tests
	cargo test --release --locked --test it -- --ignored --nocapture verify::size::memory_is_flat
