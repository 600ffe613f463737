#!/usr/bin/env python3
"""Two jobs in one run folder: one trains, the other is refused with a typed error, no file is damaged.

    tests/faults/two_jobs.py PROGRAM [--trials 100] [--short]

In every trial two `train --resume` start at once in one run of one rank; every fourth trial leaves the stale lock of a
killed job first. Where one job has ended before the other starts, nothing had to be refused: the trial is repeated.
"""
import subprocess
import sys

from faultlib import Lab, Sweep, arguments, newest_step, step_numbers, wait_for


HUNG = "hung"


def trial(lab, run, killed_before):
    """(failure, counts), or nothing where the second job started after the first had ended."""
    if killed_before:
        dead = lab.start("train", "--resume", run)
        wait_for(lambda: (run / "run.lock").exists() or dead.poll() is not None, 30)
        dead.kill()
        dead.communicate()
    until = newest_step(run) + 8
    jobs = [lab.start("train", "--resume", run, "--stop-after", until) for _ in range(2)]
    try:
        outputs = [job.communicate(timeout=120)[0] for job in jobs]
    except subprocess.TimeoutExpired:
        for job in jobs:
            job.kill()
        return HUNG, {}
    codes = [job.returncode for job in jobs]
    if codes == [75, 75] and sum(f"resume     step {until} of" in output for output in outputs) == 1:
        return None
    refused = sum(code == 2 and "in use by pid" in output for code, output in zip(codes, outputs))
    taken_over = any("taken over from pid" in output for output in outputs)
    counts = {"refused": refused, "taken_over": taken_over, "stale": killed_before}
    if refused != 1 or codes.count(75) != 1:
        return f"codes {codes}: {outputs[0][-300:]} / {outputs[1][-300:]}", counts
    if killed_before and not taken_over:
        return "the takeover was not said", counts
    if not lab.verified(run) or list((run / "checkpoints").glob("*.tmp")):
        return "checkpoints are damaged", counts
    steps = step_numbers(run)
    return "" if steps == list(range(1, len(steps) + 1)) else "metrics.jsonl is damaged", counts


def main():
    options = arguments(__doc__, trials={"type": int, "default": 100})
    trials = 8 if options.short else options.trials
    with Lab(options.program, {"train.global_batch": 4, "checkpoint.every": 3, "checkpoint.keep": 3}) as lab:
        sweep = Sweep(options, "two jobs start at once in one run folder, in every fourth trial with a killed job's lock",
                      "one trained in each, {refused} refused with code 2, {taken_over} of {stale} stale locks taken over; "
                      "checkpoints and metrics whole")
        run = lab.path("run")
        lab.must("train", "train.toml", "--run-directory", run, "--stop-after", "5", code=75)
        for number in options.part.of(trials):
            while (outcome := trial(lab, run, killed_before=number % 4 == 3)) is None:
                sweep.count(repeated=1)
            failure, counts = outcome
            sweep.count(**counts)
            sweep.trial(failure)
            if failure == HUNG:
                break
    return sweep.finish()


if __name__ == "__main__":
    sys.exit(main())
