#!/usr/bin/env python3
"""SIGKILL at random moments, each time followed by a resume: the final weights equal an undisturbed run's bitwise.

    tests/faults/sigkill.py PROGRAM [--kills 300] [--ranks 1|4] [--seed 1] [--short]

Every step saves, so that most moments lie in a save; delays are drawn from the whole life of a job, so that some lie in
start-up, in loading and in the going back that every tenth job is asked for. Several ranks are started by mpirun, and one
of them, or mpirun, is killed.
"""
import os
import signal
import sys
import time

from faultlib import (Lab, Sweep, alive, arguments, checkpoints, digests, newest_step, processes, random_of, stat_of,
                      step_numbers, wait_for)


def main():
    options = arguments(__doc__, kills={"type": int, "default": 300}, ranks={"type": int, "default": 1, "choices": [1, 4]},
                        seed={"type": int, "default": 1})
    kills, ranks = len(options.part.of(20 if options.short else options.kills)), options.ranks
    draw = random_of(options)
    layout = {"parallel.pp": 2, "parallel.sharded_optimizer": True} if ranks == 4 else {}
    settings = {"train.global_batch": 4, "checkpoint.every": 1, "checkpoint.keep": 3, **layout}
    with Lab(options.program, settings) as lab:
        whom = "one rank" if ranks == 1 else "pp 2 × dp 2 or its mpirun"
        sweep = Sweep(options, f"SIGKILL at random moments, {whom}, then resume", "{in_save} in a save, {went_back} jobs went back; "
                      "final weights and moments bitwise equal, metrics have each step once")
        whole, killed = lab.path("whole"), lab.path("killed")
        life = 1.5 if ranks == 1 else 6.0
        while sweep.tally.trials < kills:
            words = ["train", "train.toml", "--run-directory", killed, "--auto-resume"]
            found = checkpoints(killed)
            if sweep.tally.trials % 10 == 9 and len(found) > 1:  # the same data and settings: the bits must not change
                words = ["train", "--resume", found[0]]
                sweep.count(went_back=1)
            job = lab.start(*words, ranks=ranks)
            time.sleep(draw.uniform(0.02, life))
            victims = [pid for pid in processes() if (stat := stat_of(pid)) and stat[2] == job.pid] if ranks > 1 else []
            hit = job.poll() is None
            if hit:
                sweep.count(in_save=any((killed / "checkpoints").glob("*.tmp")))
                try:
                    os.kill(draw.choice(victims + [job.pid]), signal.SIGKILL)
                except ProcessLookupError:
                    hit = False
            output = job.communicate()[0]
            # Ranks of a killed mpirun end by themselves.
            gone = wait_for(lambda: not any(alive(pid) for pid in victims), 60)
            failure = "" if gone else "ranks are left behind"
            if job.returncode in (1, 2, 3):
                failure = f"code {job.returncode}: {output[-400:]}"
            if hit or failure:
                sweep.trial(failure)
        steps = (newest_step(killed) or 0) + 20
        lab.must("train", "train.toml", "--run-directory", killed, "--auto-resume", "--stop-after", steps, ranks=ranks, code=75)
        lab.must("train", "train.toml", "--run-directory", whole, "--set", "checkpoint.every=1000000", "--stop-after", steps,
                 ranks=ranks, code=75)
        if digests(killed) != digests(whole):
            sweep.check("the final weights or moments DIFFER")
        if step_numbers(killed) != list(range(1, steps + 1)):
            sweep.check("metrics.jsonl does not have each step once")
    return sweep.finish()


if __name__ == "__main__":
    sys.exit(main())
