#!/usr/bin/env python3
"""SIGKILL at random moments, resume each time: the final weights are bitwise those of an undisturbed run.

    tests/faults/sigkill.py PROGRAM [--kills 300] [--ranks 1|4] [--seed 1] [--short]

Every step saves, so that most moments lie in a save; delays are drawn from the whole life of a job, so that some lie in
start-up, in loading and in the going back that every tenth job is asked for. Several ranks are started by mpirun, and one
of them, or mpirun, is killed.
"""
import os
import random
import signal
import sys
import time

from faultlib import Lab, Sweep, alive, arguments, checkpoints, digests, newest_step, processes, stat_of, step_numbers, wait_for


def main():
    options = arguments(__doc__, kills={"type": int, "default": 300}, ranks={"type": int, "default": 1, "choices": [1, 4]},
                        seed={"type": int, "default": 1})
    kills, ranks = 20 if options.short else options.kills, options.ranks
    draw = random.Random(options.seed)
    steps = (4 if ranks == 1 else 40) * kills  # more than the kills leave time for
    layout = {"parallel.pp": 2, "parallel.sharded_optimizer": True} if ranks == 4 else {}
    settings = {"train.steps": steps, "train.global_batch": 4, "checkpoint.every": 1, "checkpoint.keep": 3, **layout}
    went_back = in_save = 0
    with Lab(options.program, settings) as lab:
        sweep = Sweep(f"SIGKILL at random moments, {'one rank' if ranks == 1 else 'pp 2 × dp 2 or its mpirun'}, then resume")
        whole, killed = lab.path("whole"), lab.path("killed")
        lab.must("train", "train.toml", "--run-directory", whole, "--set", f"checkpoint.every={steps}", ranks=ranks)
        life = 1.5 if ranks == 1 else 6.0
        while sweep.trials < kills and newest_step(killed) != steps:
            words = ["train", "train.toml", "--run-directory", killed, "--auto-resume"]
            found = checkpoints(killed)
            if sweep.trials % 10 == 9 and len(found) > 1:  # the same data and settings: the bits must not change
                words = ["train", "--resume", found[0]]
                went_back += 1
            job = lab.start(*words, ranks=ranks)
            time.sleep(draw.uniform(0.02, life))
            victims = [pid for pid in processes() if (stat := stat_of(pid)) and stat[2] == job.pid] if ranks > 1 else []
            hit = job.poll() is None
            if hit:
                in_save += any((killed / "checkpoints").glob("*.tmp"))
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
        end = lab.call("train", "train.toml", "--run-directory", killed, "--auto-resume", ranks=ranks)
        same = end.returncode == 0 and digests(killed) == digests(whole)
        if not same:
            sweep.failures.append(f"the end: code {end.returncode}, {end.stdout[-400:]}")
        once = step_numbers(killed) == list(range(1, steps + 1))
        if not once:
            sweep.failures.append("metrics.jsonl does not hold each step once")
    return sweep.finish(f"{in_save} in a save, {went_back} jobs went back; final weights and moments "
                        f"{'bitwise equal' if same else 'DIFFER'}, metrics hold each step {'once' if once else 'NOT once'}")


if __name__ == "__main__":
    sys.exit(main())
