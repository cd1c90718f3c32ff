#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where src/python/layouts.c is not what tools/cpython-layouts.py makes
of tools/cpython-offsets.tsv."""
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

if __name__ == '__main__':
    sys.exit(subprocess.run(
        [sys.executable, ROOT / 'tools/cpython-layouts.py', '--check'], check=False).returncode)
