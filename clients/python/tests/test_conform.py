# SPDX-License-Identifier: Apache-2.0
"""The cases of udsipc conform, with the programs in testdata."""

import os
import subprocess
import sys

from conftest import ROOT

PROGRAMS = ROOT / "clients/python/testdata"


def test_conform(folder):
    """All at once: most of the time they wait."""
    runs = []
    for flags in ((), ("--asyncio",)):
        path = f"{folder}/{len(runs)}"
        runs.append((start([path, "--", sys.executable, PROGRAMS / "handled.py", *flags, path]), 30))
    for flags, least in (((), 15), (("--asyncio",), 15), (("--plain",), 3), (("--plain", "--asyncio"), 3)):
        path = f"{folder}/{len(runs)}"
        args = ["--listen", "--messages", "5000", path, "--", sys.executable, PROGRAMS / "lines.py", *flags, path]
        runs.append((start(args), least))
    for process, least in runs:
        table, errors = process.communicate(timeout=100)
        assert process.returncode == 0, table + errors
        passed = [line for line in table.splitlines() if line.endswith(" ok")]
        assert len(passed) >= least and " 0 failed, 0 skipped" in table


def start(args):
    return subprocess.Popen([os.environ["UDSIPC_TOOL"], "conform", *args], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
