#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Tests the Python client: types, lint, and pytest against the Go library. It needs Go, and Debian's pytest, mypy
# and pyflakes, which it installs as root. The package itself needs only Python.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The system's Python has Debian's packages.
python=/usr/bin/python3
missing() { ! "$python" -c 'import pytest, mypy, pyflakes, pip, venv, ensurepip' 2>/dev/null; }

if missing && ((EUID == 0)) && command -v apt-get >/dev/null; then
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
		python3 python3-pip python3-pytest python3-venv mypy pyflakes3
fi
if missing; then
	if [[ ${CI:-} == true ]]; then
		echo 'missing: pytest, mypy, pyflakes, pip or venv' >&2
		exit 1
	fi
	echo 'missing, nothing is tested: pytest, mypy, pyflakes, pip or venv'
	exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1 MYPY_CACHE_DIR=$work/mypy

"$python" -m pyflakes src build tests testdata
"$python" -m mypy src build

# As a user installs it: without a network, into an environment of its own. The tests use that copy.
"$python" -m venv --system-site-packages "$work/venv"
"$work/venv/bin/pip" install --quiet --no-input --no-index .
(cd ../.. && go build -o "$work/" ./clients/python/testdata/peer ./cmd/udsipc)
cd "$work"
UDSIPC_PEER=$work/peer UDSIPC_TOOL=$work/udsipc "$work/venv/bin/python" -m pytest -p no:cacheprovider "$OLDPWD/tests" "$@"
