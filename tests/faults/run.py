#!/usr/bin/env python3
"""Runs every sweep of this folder and prints one table: a row a sweep.

    tests/faults/run.py PROGRAM [--short] [--only NAME]...

Each sweep is a program of its own, whose details go to stderr. A sweep that this host cannot run (no root, no Slurm, no
network namespaces) has a row that says so. Ends with 1 where a sweep failed.
"""
import pathlib
import subprocess
import sys

from faultlib import HEADER, SKIPPED, arguments

SWEEPS = [
    ["sigkill.py"],
    ["sigkill.py", "--ranks", "4", "--kills", "60"],
    ["signals.py"],
    ["bit_flips.py"],
    ["memory_flips.py"],
    ["stopped_ranks.py"],
    ["two_jobs.py"],
    ["cut_link.py"],
    ["disks.py"],
    ["layouts.py"],
    ["slurm.py"],
]


def run(program, sweep, short):
    """(row, whether it failed)"""
    folder = pathlib.Path(__file__).resolve().parent
    words = [sys.executable, str(folder / sweep[0]), program, *sweep[1:], *(["--short"] if short else [])]
    last = ""
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            last = line.strip() or last
            print(line, end="", file=sys.stderr, flush=True)
    name = sweep[0].removesuffix(".py")
    if process.returncode == SKIPPED:
        return f"| {name} | {last} | 0 | | |", False
    if not last.startswith(f"| {name} |"):
        return f"| {name} | ended with code {process.returncode} | | **no result** | |", True
    return last, process.returncode != 0


def main():
    names = sorted({sweep[0].removesuffix(".py") for sweep in SWEEPS})
    options = arguments(__doc__, only={"action": "append", "choices": names})
    rows, failures = [], 0
    for sweep in SWEEPS:
        if options.only and sweep[0].removesuffix(".py") not in options.only:
            continue
        row, failed = run(options.program, sweep, options.short)
        rows.append(row)
        failures += failed
    print(HEADER + "\n" + "\n".join(rows))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
