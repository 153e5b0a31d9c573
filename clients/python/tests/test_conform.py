# SPDX-License-Identifier: Apache-2.0
"""The cases of udsipc conform, with the programs in testdata."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

PROGRAMS = ROOT / "clients/python/testdata"


@pytest.mark.parametrize("flags", [(), ("--asyncio",)])
def test_reader(path, flags):
    conform([path, "--", sys.executable, PROGRAMS / "handled.py", *flags, path], 30)


@pytest.mark.parametrize("flags", [(), ("--asyncio",), ("--plain",), ("--plain", "--asyncio")])
def test_writer(path, flags):
    conform(["--listen", path, "--", sys.executable, PROGRAMS / "lines.py", *flags, path], 3)


def conform(args, least):
    done = subprocess.run([os.environ["UDSIPC_TOOL"], "conform", *args], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = [line for line in done.stdout.splitlines() if line.endswith(" ok")]
    assert len(passed) >= least and " 0 failed, 0 skipped" in done.stdout
