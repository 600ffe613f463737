#!/usr/bin/env python3
"""Stops every rank in every layout (SIGSTOP) and compares the rank that the run names with the one that was stopped.

    tests/faults/stopped_ranks.py PROGRAM [--short] [--layout NAME]... [--moment steps|save|start-up|none]...

A trial fails where a wrong rank or none is named, a process is left behind or the exit code is not 5.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from faultlib import Lab, Sweep, alive, arguments, ranks_of, set_flags, steps_in, wait_for

LIMIT = 3  # seconds, of steps, saves and start-up
LAYOUTS = {
    "dp 2": (2, ["parallel.dp=2"]),
    "pp 2": (2, ["parallel.pp=2"]),
    "pp 4": (4, ["parallel.pp=4"]),
    "pp 2 × dp 2": (4, ["parallel.pp=2", "parallel.dp=2"]),
    "interleaved": (2, ["parallel.pp=2", "parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b"]),
}
MOMENTS = {
    "steps": [],
    "save": ["checkpoint.every=1", f"checkpoint.timeout_seconds={LIMIT}"],
    "start-up": [f"parallel.startup_seconds={LIMIT}"],
    "none": ["train.steps=30"],
}


def trial(lab, layout, moment, rank):
    """Returns (rank that the run named, exit code, seconds to the end, failure)."""
    ranks, sets = LAYOUTS[layout]
    run = lab.path("run")
    for folder in [run, lab.path("run.flight")]:
        shutil.rmtree(folder, ignore_errors=True)
    words = ["train", "train.toml", "--run-directory", run, *set_flags(sets + MOMENTS[moment])]
    with open(lab.path("out.txt"), "wb") as out:
        job = lab.start(*words, ranks=ranks, output=out)
    ended = lambda: job.poll() is not None
    wait_for(lambda: len(ranks_of(job.pid)) == ranks or ended(), 30)
    pids = ranks_of(job.pid)
    if moment == "steps":
        wait_for(lambda: steps_in(run) >= 5 or ended(), 60)
    elif moment == "save":
        wait_for(lambda: steps_in(run) >= 3 and any((run / "checkpoints").glob("*.tmp")) or ended(), 60, pause=0.001)
    start = time.monotonic()
    if rank is not None:
        os.kill(pids[rank], signal.SIGSTOP)
    try:
        code = job.wait(90)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        code = job.wait() and None
    seconds = time.monotonic() - start
    left = not wait_for(lambda: not any(alive(pid) for pid in pids.values()), 5)
    for pid in filter(alive, pids.values()):
        os.kill(pid, signal.SIGKILL)
    text = lab.path("out.txt").read_text(errors="replace")
    found = re.findall(r"^\[rank \d+[^\]]*\] rank (\d+)(?: \(|,| )[^\n]*(?:did not|left no)", text, re.M)
    named = int(found[-1]) if found else None
    failure = ""
    if code != (0 if rank is None else 5) or named != rank or left:
        failure = (f"{layout}, {moment}, rank {rank}: code {code}, named {named}{', ranks left behind' if left else ''}\n"
                   f"{text[-3000:]}")
    return named, code, seconds, failure


def main():
    options = arguments(__doc__, layout={"action": "append", "choices": list(LAYOUTS)},
                        moment={"action": "append", "choices": list(MOMENTS)})
    layouts = options.layout or (["pp 4", "pp 2 × dp 2"] if options.short else list(LAYOUTS))
    moments = options.moment or (["steps"] if options.short else list(MOMENTS))
    trials = []
    for layout in layouts:
        ranks = range(LAYOUTS[layout][0])
        if options.short:
            ranks = [ranks[0], ranks[-1]]
        for moment in moments:
            trials += [(layout, moment, rank) for rank in ([None] if moment == "none" else ranks)]
    settings = {"model.hidden_size": 16, "model.head_dim": 8, "model.intermediate_size": 24, "model.num_hidden_layers": 8,
                "mtp.depths": 1, "data.sequence_length": 16, "parallel.timeout_seconds": LIMIT}
    with Lab(options.program, settings) as lab:
        sweep = Sweep(options, f"each rank of {len(layouts)} layouts stopped (SIGSTOP), moments: {', '.join(moments)}; limit {LIMIT} s",
                      "{named} of {stopped} stopped ranks named, ended after at most {longest} s, no process left")
        sweep.headings("layout", "moment", "stopped", "named", "exit code", "seconds to the end")
        for layout, moment, rank in options.part.of(trials):
            named, code, seconds, failure = trial(lab, layout, moment, rank)
            sweep.detail(layout, moment, rank, named, code, f"{seconds:.1f}")
            if rank is not None:
                sweep.count(stopped=1, named=named == rank)
                sweep.most(longest=round(seconds))
            sweep.trial(failure)
    return sweep.finish()


if __name__ == "__main__":
    sys.exit(main())
