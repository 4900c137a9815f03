# The commands of this project. Each is a script in deploy, or two lines.
.DEFAULT_GOAL := help
.PHONY: help demo quick test test-versions check bench chaos soak fuzz up down

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## the standalone mode with real receivers; needs Rust and a C compiler only
	@echo "Building Hookline and the demo. The first build takes 5 to 15 minutes, the next ones seconds; cargo shows how far it is."
	@cargo build --locked -p hookline --bin hookline --example demo
	@cargo run --quiet --locked -p hookline --example demo

test: ## every test, also on a private PostgreSQL and RabbitMQ; ARGS="part of a name" for some
	@deploy/test $(ARGS)

quick: ## format, lints and unit tests of the crates that changed; BASE=main for all since that commit
	@deploy/quick $(BASE)

test-versions: ## tests that depend on the servers, on RabbitMQ 4 and PostgreSQL 17 and 18; as root; DURATION=30s of chaos on each
	@deploy/test-versions "$(or $(DURATION),30s)"

soak: ## fairness for minutes, with figures; ON=distributed, two, embedded or all, BESIDE=three, fifty, backlog, flood or all, DURATION=180s, BACKLOG=100000
	@deploy/soak "$(or $(ON),all)" "$(or $(DURATION),180s)" "$(or $(BACKLOG),100000)" "$(or $(BESIDE),all)"

bench: ## rates, latencies, CPU and memory; ON=distributed, embedded or both, SCENARIO=a,b,c, ARGS="--runs 5 --size 0.1"
	@deploy/bench --on "$(or $(ON),both)" $(if $(SCENARIO),--scenario "$(SCENARIO)") $(ARGS)

check: ## format, lints, documentation, layering, licences, unused dependencies, scripts, documents
	@deploy/check

chaos: ## kill, freeze, cut off every part under load; ON=distributed, cluster, embedded or full-disk, SEED=7 DURATION=10m ARGS="--report FILE"
	@deploy/chaos $(if $(ON),--scene $(ON)) $(if $(SEED),--seed $(SEED)) --duration $(or $(DURATION),60s) $(ARGS)

fuzz: ## libFuzzer on each reader of outside bytes; TARGET=name DURATION=30s
	@deploy/fuzz

up: ## start everything on this machine, and print the URL and a key
	@deploy/up

down: ## stop the services of `make up`; the data stays
	@deploy/down
