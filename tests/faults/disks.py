#!/usr/bin/env python3
"""Full, failing, read-only and slow disks under a run: saved checkpoints stay complete, and the run continues with the same bits.

    tests/faults/disks.py PROGRAM [--trials 100] [--seed 1] [--short]

Full: a tmpfs is filled while the run saves (root). Failing: one call of the run fails, or every call from then on, with EIO,
ENOSPC, EROFS or EDQUOT (tests/support/failing_disk.cpp, preloaded; needs g++). Read-only: a run starts on a tmpfs mounted so.
Slow: every fsync of one rank takes longer than parallel.timeout_seconds. After each fault the run ends with code 3 and names
a file, or goes on unharmed; its checkpoints pass `inspect --verify`; and once the disk works again the same command ends
with the bits of an undisturbed run.
"""
import errno
import os
import pathlib
import subprocess
import sys

from faultlib import SKIPPED, Lab, Sweep, arguments, digests, enter_mount_namespace, newest_step, random_of, wait_for

SUPPORT = pathlib.Path(__file__).resolve().parents[1] / "support"
STEPS = 30
CALLS = {"open": 30, "write": 400, "sync": 60, "rename": 40, "mkdir": 8, "read": 60}  # about as many as a run makes


class Bench:
    def __init__(self, lab):
        self.lab, self.run = lab, lab.path("disk/run")
        lab.must(*self.words(lab.path("whole")))
        self.whole = digests(lab.path("whole"))

    def words(self, run):
        return ["train", "train.toml", "--run-directory", run, "--auto-resume"]

    def library(self, name):
        built = self.lab.path(name + ".so")
        if not built.exists():
            subprocess.run(["g++", "-std=c++20", "-O1", "-shared", "-fPIC", str(SUPPORT / (name + ".cpp")), "-o", str(built)],
                           check=True)
        return str(built)

    def after(self, code, output):
        """Resumes the run that a fault ended with this code. Returns what is wrong; empty if nothing is."""
        if code not in (0, 3):
            return f"code {code}: {output[-600:]}"
        if code == 3 and str(self.run) not in output:
            return f"no file is named: {output[-600:]}"
        if newest_step(self.run) is not None and not self.lab.verified(self.run):
            return "a checkpoint is damaged: " + self.lab.call("inspect", "--verify", self.run).stdout[-600:]
        end = self.lab.call(*self.words(self.run))
        if end.returncode != 0:
            return f"does not go on: code {end.returncode}: {end.stdout[-600:]}"
        return "" if digests(self.run) == self.whole else "weights or moments DIFFER"


def full(bench, draw):
    """Fills the disk at a random step, up to a random number of free bytes."""
    filler = bench.lab.path("disk/filler")
    job = bench.lab.start(*bench.words(bench.run))
    until = draw.randrange(1, STEPS - 5)
    wait_for(lambda: (newest_step(bench.run) or 0) >= until or job.poll() is not None, 60, pause=0.001)
    file = os.open(filler, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(file, bytes(65536)):
            pass
    except OSError:  # full
        os.ftruncate(file, max(0, os.fstat(file).st_size - draw.randrange(0, 300000)))
    os.close(file)
    output = job.communicate()[0]
    filler.unlink()
    return job.returncode, bench.after(job.returncode, output)


def failing(bench, draw):
    """One call fails, or that call and all later ones."""
    call = draw.choice(list(CALLS))
    error = errno.EIO if call == "read" else draw.choice([errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT])
    environment = dict(os.environ, LD_PRELOAD=bench.library("failing_disk"), FAILING_DISK_CALL=call,
                       FAILING_DISK_NTH=str(draw.randrange(1, CALLS[call])), FAILING_DISK_ERROR=str(error),
                       FAILING_DISK_BELOW=str(bench.run))
    if draw.random() < 0.5:
        environment["FAILING_DISK_ONCE"] = "1"
    if call == "read":  # a resumed job reads a checkpoint
        bench.lab.must(*bench.words(bench.run), "--stop-after", draw.randrange(2, STEPS - 2), code=75)
    done = bench.lab.call(*bench.words(bench.run), env=environment)
    failure = bench.after(done.returncode, done.stdout)
    once = "once" if "FAILING_DISK_ONCE" in environment else "from then on"
    number = environment["FAILING_DISK_NTH"]
    return done.returncode, failure and f"{call} no. {number}, {errno.errorcode[error]} {once}: {failure}"


def read_only(bench, _):
    """A run, new or half done, starts on a disk that is mounted read-only."""
    if newest_step(bench.run) is None:
        bench.lab.must(*bench.words(bench.run), "--stop-after", 10, code=75)
    disk = bench.lab.path("disk")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    done = bench.lab.call(*bench.words(bench.run))
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    if done.returncode != 3 or "ead-only" not in done.stdout:
        return done.returncode, f"code {done.returncode}: {done.stdout[-600:]}"
    return done.returncode, bench.after(3, done.stdout)


def slow(bench, _):
    """Every fsync of rank 1 takes 1.2 s; steps have a limit of 1 s."""
    settings = ["--set", "parallel.pp=2", "--set", "parallel.timeout_seconds=1", "--set", "checkpoint.every=10"]
    whole = bench.lab.path("whole2")
    if not whole.exists():
        bench.lab.must(*bench.words(whole), *settings, ranks=2)
    environment = dict(os.environ, LD_PRELOAD=bench.library("slow_disk"), SLOW_DISK_RANK="1", SLOW_DISK_MILLISECONDS="1200")
    done = bench.lab.call(*bench.words(bench.run), *settings, ranks=2, env=environment)
    if done.returncode != 0:
        return done.returncode, f"code {done.returncode}: {done.stdout[-600:]}"
    return done.returncode, "" if digests(bench.run) == digests(whole) else "weights or moments DIFFER"


def main():
    options = arguments(__doc__, trials={"type": int, "default": 100}, seed={"type": int, "default": 1})
    if reason := enter_mount_namespace("g++"):
        print(f"skipped: {reason}")
        return SKIPPED
    draw = random_of(options)
    trials = 10 if options.short else options.trials
    kinds = [(full, trials // 5), (failing, trials - trials // 5), (read_only, 1 if options.short else 5),
             (slow, 1 if options.short else 3)]
    settings = {"train.steps": STEPS, "optimizer.warmup_steps": 2, "checkpoint.every": 1, "checkpoint.keep": 2,
                "train.global_batch": 4}
    with Lab(options.program, settings) as lab:
        sweep = Sweep(options, "disk filled, calls that fail with EIO, ENOSPC, EROFS, EDQUOT, mounted read-only, fsync slower "
                      "than the limit", "{ended} ended with code 3 and a file named, {unharmed} unharmed; checkpoints whole, "
                      "continued with the undisturbed run's bits")
        disk = lab.path("disk")
        disk.mkdir()
        bench = Bench(lab)
        sweep.headings("disk", "trials", "ended with code 3", "unharmed")
        for kind, count in kinds:
            codes = []
            for _ in options.part.of(count):
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32M", "tmpfs", str(disk)], check=True)
                try:
                    code, failure = kind(bench, draw)
                finally:
                    subprocess.run(["umount", str(disk)], check=True)
                codes.append(code)
                sweep.trial(failure and f"{kind.__name__}: {failure}")
            sweep.detail(kind.__name__, len(codes), codes.count(3), codes.count(0))
            sweep.count(ended=codes.count(3), unharmed=codes.count(0))
    return sweep.finish()


if __name__ == "__main__":
    sys.exit(main())
