# SPDX-License-Identifier: Apache-2.0
#
# Shortcuts. What the gate checks, and with which versions, is in .ci/run alone.

.PHONY: all fmt lint test race bench compare fuzz

all:
	bash .ci/run

fmt:
	gofmt -w .

lint race fuzz:
	bash .ci/run $@

test:
	go test ./...

bench:
	go test -run '^$$' -bench . -count 5 .

compare:
	cd benchmarks && go run .
