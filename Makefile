# SPDX-License-Identifier: Apache-2.0
#
# Shortcuts. What the gate checks, and with which versions, is in .ci/run alone.

.PHONY: all fmt lint test short race bench compare fuzz soak mutate release

all:
	bash .ci/run

fmt:
	gofmt -w .

lint race fuzz:
	bash .ci/run $@

test:
	go test ./...

short:
	go test -short ./...

# The long forms of what the gate bounds; some hours.
soak:
	go test -race -count 3 -timeout 2h ./...
	FUZZTIME=1000000x bash .ci/run fuzz
	UDSIPC_TEST_SOAK=yes go test -timeout 0 ./internal/journal ./spool
	go test -run '^TestModel$$' -model.schedules 500000 -timeout 0 ./internal/model
	go test -run '^TestModelScenarios$$' -model.scenarios 50000 -timeout 0 ./internal/model
	go test -run '^TestModelSockets$$' -model.sockets 500 -parallel 8 -timeout 0 ./internal/model
	go test -run '^TestModel$$' -model.schedules 5000 -timeout 0 ./rpc
	go test -run '^TestStreamModel$$' -model.streams 20000 -timeout 0 ./rpc
	go test -run '^TestTorture$$' -torture.time 1h -timeout 0 -v ./internal/torture
	go test -run '^TestHostileClients$$' -hostile.time 10s -timeout 0 -v ./internal/receiver
	go test -run '^TestHostileConversations$$' -hostile.time 10s -timeout 0 -v ./rpc
	cd contrib/nats && UDSIPC_NATS_FAULTS=50 go test -count 20 -run '^TestPublisher_Faults' -timeout 0 -v .

# Do the tests of a package notice that it was broken somewhere? Further flags are ARGS.
SEED ?= 1
PACKAGE ?= ./internal/wire ./internal/queue ./internal/transport ./internal/sender ./internal/receiver
mutate:
	go run ./internal/mutate -seed $(SEED) $(ARGS) $(PACKAGE)

bench:
	go test -run '^$$' -bench . -count 5 .

# In one process, then between two: about 12 minutes, with ARGS=-quick 2. The second writes its results and
# charts to RESULTS. ZeroMQ takes part where its library is (Debian: libzmq3-dev).
RESULTS ?= benchmarks/results
ZMQ := $(shell pkg-config --exists libzmq 2>/dev/null && echo -tags zmq)
compare:
	mkdir -p $(RESULTS)
	cd benchmarks && go run . $(ARGS)
	cd benchmarks && go run . -calls $(ARGS)
	cd benchmarks && go run $(ZMQ) ./between -json $(abspath $(RESULTS))/between.json -charts $(abspath $(RESULTS)) $(ARGS)

# Shows what a release of VERSION would be; with ARGS=--tag, commits and tags it.
release:
	bash scripts/release $(ARGS) $(VERSION)
