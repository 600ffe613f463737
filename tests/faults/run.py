#!/usr/bin/env python3
"""Runs every sweep of this folder and prints one table with one row per sweep.

    tests/faults/run.py PROGRAM [--short] [--only NAME]... [--cores N] [--limit SECONDS] [--logs FOLDER]

Each sweep is a program of its own. With --cores its trials are divided into parts, which run at once on that many cores and
whose counts are added; without it one sweep runs after the other. A sweep that this host cannot run (no root, no Slurm, no
network namespaces) has a row that says so. What has not ended after --limit seconds is ended and counts as wrong. Ends with 1
where a sweep failed.
"""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from faultlib import HEADER, SKIPPED, Tally, command_line

# (words, ranks of a trial, parts into which --cores divides it)
SWEEPS = [
    (["sigkill.py"], 1, 6),
    (["sigkill.py", "--ranks", "4", "--kills", "60"], 4, 6),
    (["signals.py"], 2, 8),
    (["bit_flips.py"], 1, 1),
    (["memory_flips.py"], 4, 6),
    (["stopped_ranks.py"], 4, 8),
    (["two_jobs.py"], 2, 2),
    (["cut_link.py"], 4, 4),
    (["disks.py"], 2, 4),
    (["power_loss.py"], 1, 2),
    (["layouts.py"], 4, 4),
    (["slurm.py"], 4, 5),
]
FOLDER = pathlib.Path(__file__).resolve().parent


class Part:
    """A process that runs one part of a sweep."""

    def __init__(self, options, words, ranks, index, count, logs):
        self.name = words[0].removesuffix(".py")
        self.cores = min(ranks, options.cores or 1)
        stem = "_".join([self.name, *words[1:], str(index)]).replace("--", "")
        self.log, self.tally = logs / (stem + ".log"), logs / (stem + ".json")
        self.words = [sys.executable, str(FOLDER / words[0]), options.program, *words[1:], "--part", f"{index}/{count}",
                      "--tally", str(self.tally), *(["--short"] if options.short else [])]
        self.process = None
        self.begin = self.end = time.monotonic()
        self.cut_off = ""

    def start(self):
        self.begin = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=subprocess.STDOUT)

    def ended(self):
        self.end = time.monotonic()
        return self.process.poll() is not None

    def wait(self, seconds):
        """Waits for a process that was asked to end."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def counted(self):
        """The counts of this part, or the reason why it was skipped."""
        if self.process is None:
            return Tally(self.name, "", "**no result**", wrong=[self.cut_off])
        last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        if self.process.returncode == SKIPPED:
            return last[0]
        failure = self.cut_off or f"ended with code {self.process.returncode}: {' '.join(last)}"
        if not self.tally.exists():
            return Tally(self.name, "", "**no result**", wrong=[failure])
        tally = Tally(**json.loads(self.tally.read_text()))
        if self.cut_off or self.process.returncode != (1 if tally.wrong else 0):
            tally.wrong.append(failure)
        return tally


def run_all(parts, cores, limit):
    waiting, running, end = list(parts), [], time.monotonic() + limit
    try:
        while waiting or running:
            for part in [part for part in running if part.ended()]:
                running.remove(part)
                print(part.log.read_text(errors="replace"), end="", file=sys.stderr, flush=True)
            if time.monotonic() > end:
                for part in waiting + running:
                    part.cut_off = f"not ended after {limit:.0f} s" if part.process else f"not started in {limit:.0f} s"
                return
            for part in list(waiting):
                if sum(each.cores for each in running) + part.cores <= cores:
                    waiting.remove(part)
                    running.append(part)
                    part.start()
            time.sleep(0.1)
    finally:
        for part in running:  # after SIGTERM a sweep cleans up as after an error
            part.process.terminate()
        for part in running:
            part.wait(30)


def row(parts):
    """(row of a sweep, whether it failed)"""
    counted = [part.counted() for part in parts]
    tallies = [each for each in counted if isinstance(each, Tally)]
    if not tallies:
        return f"| {parts[0].name} | {counted[0]} | 0 | | |", False
    whole = max(tallies, key=lambda tally: tally.trials)  # another part may have no result
    for tally in tallies:
        if tally is not whole:
            whole.add(tally)
    if any(part.cut_off for part in parts):
        whole.result = "unfinished; " + whole.result
    return whole.row(max(part.end for part in parts) - min(part.begin for part in parts)), bool(whole.wrong)


def main():
    names = sorted({words[0].removesuffix(".py") for words, _, _ in SWEEPS})
    options = command_line(__doc__, only={"action": "append", "choices": names}, cores={"type": int},
                        limit={"type": float, "default": 3600.0}, logs={"type": pathlib.Path})
    with tempfile.TemporaryDirectory(prefix="foretoken-faults-") as temporary:
        logs = options.logs or pathlib.Path(temporary)
        logs.mkdir(parents=True, exist_ok=True)
        sweeps = []
        for words, ranks, count in SWEEPS:
            if not options.only or words[0].removesuffix(".py") in options.only:
                count = count if options.cores else 1
                sweeps.append([Part(options, words, ranks, index, count, logs) for index in range(count)])
        run_all([part for parts in sweeps for part in parts], options.cores or 1, options.limit)
        rows = [row(parts) for parts in sweeps]
    print(HEADER + "\n" + "\n".join(text for text, _ in rows))
    return 1 if any(failed for _, failed in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
