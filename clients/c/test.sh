#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Tests the C client: warnings, the protocol's vectors under the sanitizers, the cases of "udsipc conform", the programs of
# the README, and both ends against the Go library. It needs gcc, Python and Go; clang and g++ take part if they are there.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

has() { command -v "$1" >/dev/null; }

if ! { has gcc && has g++ && has python3; } && ((EUID == 0)) && has apt-get; then
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends gcc g++ libc6-dev python3
fi
if ! has gcc || ! has python3; then
	if [[ ${CI:-} == true ]]; then
		echo 'missing: gcc or python3' >&2
		exit 1
	fi
	echo 'missing, nothing is tested: gcc or python3'
	exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
readonly warnings='-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror'
readonly sanitizers='-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all'

# The header alone, by each compiler, also optimized and as declarations of C++.
echo '#include "udsipc.h"' >"$work/declarations.cc"
printf '#define UDSIPC_IMPLEMENTATION\n#include "udsipc.h"\n' >"$work/implementation.c"
for compiler in gcc clang; do
	if ! has $compiler; then continue; fi
	for flags in -O0 -O3 '-O2 -DNDEBUG'; do
		$compiler -std=c11 $warnings $flags -I. -c "$work/implementation.c" -o "$work/implementation.o"
	done
done
for compiler in g++ clang++; do
	if ! has $compiler; then continue; fi
	$compiler -std=c++11 $warnings -I. -fsyntax-only "$work/declarations.cc"
done

# The programs of the README: the first one is the writer, the second one the reader.
awk -v dir="$work" '/^```c$/ { n++; on = 1; next } /^```/ { on = 0 } on { print > (dir "/readme" n ".c") }' README.md
for n in 1 2; do gcc -std=c11 $warnings $sanitizers -I. "$work/readme$n.c" -o "$work/readme$n"; done

python3 test/vectors.py ../../testdata >"$work/vectors.h"
for program in unit handled lines; do
	gcc -std=c11 $warnings $sanitizers -I"$work" "test/$program.c" -o "$work/$program"
done
go build -o "$work/udsipc" ../../cmd/udsipc

timeout 60 "$work/unit" "$work"
UDSIPC_TEST_C=$work go test -count 1 -timeout 100s .
