#!/usr/bin/env python3
"""Power losses at random moments: what the disk then has continues, with the bits of an undisturbed run.

    tests/faults/power_loss.py PROGRAM [--trials 60] [--seed 1] [--short]

The run's folder is on an XFS file system in a file (a loop device; root). At a random moment of a job's life, start-up and
saves included, XFS is shut down without flushing its log, as by a power loss (xfs_io -c shutdown): what was not synced is
lost. After a remount the newest checkpoint that the job had announced must be there, `inspect --verify` must accept the run,
and the same command must continue. Every tenth job goes back to the oldest checkpoint first, with the same data and settings,
so that the bits do not change. Every fifth trial starts a new run or writes a dataset instead: afterwards either is absent or
whole, and the same command succeeds.
"""
import re
import shutil
import subprocess
import sys
import time

from faultlib import (SKIPPED, Lab, Sweep, arguments, checkpoints, digests, enter_mount_namespace, newest_step, random_of,
                      step_numbers, steps_in)

EVERY = 3  # steps between checkpoints
IMAGE = 320 << 20  # bytes, sparse: the least that mkfs.xfs accepts


class Disk:
    def __init__(self, lab):
        self.image, self.path = lab.path("disk.img"), lab.path("disk")
        self.path.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(IMAGE)
        subprocess.run(["mkfs.xfs", "-q", str(self.image)], check=True)

    def mount(self):
        """Recovers from XFS's log what was committed. Returns the reason where this host may not mount."""
        done = subprocess.run(["mount", "-o", "loop", str(self.image), str(self.path)], capture_output=True, text=True, check=False)
        return done.stderr.strip()

    def unmount(self):
        subprocess.run(["umount", str(self.path)], check=True)

    def lose_power(self, job):
        """(whether the job was still running, its exit code, its output); the disk works again."""
        running = job.poll() is None
        subprocess.run(["xfs_io", "-x", "-c", "shutdown", str(self.path)], check=True)
        try:
            output = job.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            job.kill()
            output = job.communicate()[0] + "hung"
        self.unmount()
        if reason := self.mount():
            raise RuntimeError(f"the disk cannot be mounted again: {reason}")
        return running, job.returncode, output


def announced(output):
    """The newest checkpoint of a console's output."""
    return max((int(step) for step in re.findall(r"^checkpoint step_(\d+): ", output, re.MULTILINE)), default=0)


def continued(lab, disk, draw, number, sweep):
    """A power loss in a job of the long run; the failure, or nothing where the job had ended before."""
    run = disk.path / "run"
    words, found, before = ["train", "train.toml", "--run-directory", run, "--auto-resume"], checkpoints(run), newest_step(run) or 0
    went_back = number % 10 == 9 and len(found) > 1
    if went_back:
        words = ["train", "--resume", found[0]]
    job = lab.start(*words)
    time.sleep(draw.uniform(0.02, 2.5))
    done = steps_in(run)
    running, code, output = disk.lose_power(job)
    if not running:
        return f"code {code}: {output[-600:]}"
    newest, promised = newest_step(run) or 0, announced(output) or (0 if went_back else before)
    sweep.count(went_back=went_back)
    if not went_back:
        sweep.most(lost=max(0, done - newest))
    if code != 3 or str(run) not in output:
        return f"code {code}: {output[-600:]}"
    if newest < promised:
        return f"checkpoint {promised} was announced, the newest is {newest}"
    if newest and not lab.verified(run):
        return "damaged: " + lab.call("inspect", "--verify", run).stdout[-600:]
    end = lab.call("train", "train.toml", "--run-directory", run, "--auto-resume", "--stop-after", newest + 1)
    return "" if end.returncode == 75 else f"does not continue from {newest}: code {end.returncode}: {end.stdout[-600:]}"


def started(lab, disk, draw, number):
    """A power loss while a new run starts."""
    run = disk.path / f"new{number}"
    words = ["train", "train.toml", "--run-directory", run, "--auto-resume"]
    job = lab.start(*words)
    time.sleep(draw.uniform(0.0, 0.4))
    disk.lose_power(job)
    end = lab.call(*words, "--stop-after", (newest_step(run) or 0) + 2)
    shutil.rmtree(run)
    return "" if end.returncode == 75 else f"a new run does not start: code {end.returncode}: {end.stdout[-600:]}"


def tokenized(lab, disk, draw, number):
    """A power loss while a dataset is written, or just after: once tokenize has ended, its dataset is there."""
    data = disk.path / f"data{number}.h5"
    words = ["tokenize", "text", "-o", data]
    job = lab.start(*words)
    time.sleep(draw.uniform(0.0, 0.3))
    ended = job.poll() == 0
    disk.lose_power(job)
    if (ended or data.exists()) and not lab.verified(data):
        return "a dataset is damaged: " + lab.call("inspect", "--verify", data).stdout[-600:]
    end = lab.call(*words)
    whole = end.returncode == 0 and lab.verified(data)
    data.unlink(missing_ok=True)
    return "" if whole else f"tokenize: code {end.returncode}: {end.stdout[-600:]}"


def main():
    options = arguments(__doc__, trials={"type": int, "default": 60}, seed={"type": int, "default": 1})
    if reason := enter_mount_namespace("mkfs.xfs", "xfs_io"):
        print(f"skipped: {reason}")
        return SKIPPED
    draw = random_of(options)
    with Lab(options.program, {"train.global_batch": 64, "checkpoint.every": EVERY, "checkpoint.keep": 3}) as lab:
        disk = Disk(lab)
        if reason := disk.mount():
            print(f"skipped: a file cannot be mounted as XFS here: {reason}")
            return SKIPPED
        try:
            sweep = Sweep(options, f"XFS shut down without a flush at random moments of a run (a checkpoint every {EVERY} steps), of "
                          "a new run's start and of `tokenize`, then resume", "the newest announced checkpoint is there each time, "
                          "at most {lost} steps lost, {went_back} jobs went back; final weights and moments bitwise equal, "
                          "metrics have each step once")
            for number in options.part.of(10 if options.short else options.trials):
                other = {3: started, 8: tokenized}.get(number % 10)
                failure = other(lab, disk, draw, number) if other else continued(lab, disk, draw, number, sweep)
                sweep.trial(failure and f"trial {number}: {failure}")
            run, whole = disk.path / "run", lab.path("whole")
            steps = (newest_step(run) or 0) + 5
            lab.must("train", "train.toml", "--run-directory", run, "--auto-resume", "--stop-after", steps, code=75)
            lab.must("train", "train.toml", "--run-directory", whole, "--stop-after", steps, code=75)
            if digests(run) != digests(whole):
                sweep.check("the final weights or moments DIFFER")
            if step_numbers(run) != list(range(1, steps + 1)):
                sweep.check("metrics.jsonl does not have each step once")
        finally:
            disk.unmount()
    return sweep.finish()


if __name__ == "__main__":
    sys.exit(main())
