# Everything a newcomer needs. Each target sets up what it lacks, so a fresh clone needs no other step.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run test check up down bench chaos proto images clean setup
.NOTPARALLEL:

export NODE_COMPILE_CACHE := $(CURDIR)/.build/compile-cache
export PATH := $(CURDIR)/node_modules/.bin:$(CURDIR)/.build/bin:$(HOME)/.cargo/bin:$(PATH)

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: images ## set up, start the mesh, run commands in a real sandbox, show the times, stop
	@tools/cli/bin/wrenn demo

test: ## set up and run every test; the last line is `N passed, N failed`
	@tools/setup/bootstrap.sh test
	@node tools/test/run.ts

check: setup ## format, lint, types, protos and Rust, under a minute
	@node tools/test/check.ts

up: images ## start the mesh and leave it running
	@tools/cli/bin/wrenn up

down: ## stop the mesh
	@tools/cli/bin/wrenn down

bench: images ## measure, print a table, write .bench/results.json; ONLY=snapshots for rows with that in their id
	@tools/setup/bootstrap.sh bench
	@node tools/bench/src/main.ts $(ONLY)

chaos: images ## break parts of a private mesh for 5 minutes; SEED=7 MINUTES=20 MODE=soak|pauses COUNT=200 to choose
	@node tools/chaos/src/main.ts $(MODE) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(COUNT),--count $(COUNT))

proto: setup ## generate code from proto/
	@buf generate

images: setup ## build the guest agent, kernel, initramfs and templates (cached)
	@node images/build.ts

clean: ## remove what was built here (the image cache in /var/cache/wrenn stays)
	@rm -rf .build .bench proto/gen services/guest-agent/target services/pager/target

setup:
	@tools/setup/bootstrap.sh
