#!/usr/bin/env python3
"""Every stop signal, by every sender, at a fast and a slow step: exit code, newest checkpoint, steps lost.

    tests/faults/signals.py PROGRAM [--short]

A trial fails where a checkpoint is damaged, a process is left behind, or more is lost than the step in which the signal
arrived. Two ranks under Open MPI's mpirun, or under `foretoken run`. Open MPI 4.1.4 forwards SIGUSR1 from mpirun to its
ranks, 4.1.6 does not: two other processes find out what this one does. A run whose mpirun forwards nothing must go on.
"""
import os
import pty
import signal
import subprocess
import sys
import time

from faultlib import Lab, Sweep, alive, arguments, mpirun, newest_step, processes, ranks_of, stat_of, steps_in, wait_for

SPEEDS = {"fast": (20, {}),
          "slow": (3, {"model__hidden_size": 128, "model__intermediate_size": 256, "train__global_batch": 512})}


class Job:
    """Starts the command in its own session on its own terminal. Closing the terminal sends SIGHUP to the job."""

    def __init__(self, command):
        self.code = None
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            for number in [signal.SIGINT, signal.SIGHUP]:  # they are ignored if this sweep runs in the background
                signal.signal(number, signal.SIG_DFL)
            os.execvp(command[0], command)
        os.set_blocking(self.terminal, False)

    def drain(self):
        try:
            while self.terminal is not None and os.read(self.terminal, 65536):
                pass
        except OSError:
            pass

    def close(self):
        if self.terminal is not None:
            os.close(self.terminal)
        self.terminal = None

    def ended(self):
        self.drain()
        if self.code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def ranks(self):
        """Pids of the ranks by rank, also if a supervisor started mpirun."""
        below = [self.pid] + [pid for pid in processes() if (stat := stat_of(pid)) and stat[2] == self.pid]
        return {rank: pid for launcher in below for rank, pid in ranks_of(launcher).items()}


RECEIVER = """import os, pathlib, signal, sys, time
mark = pathlib.Path(sys.argv[1], os.environ["OMPI_COMM_WORLD_RANK"])
signal.signal(signal.SIGUSR1, lambda *_: (mark.with_suffix(".got").touch(), os._exit(0)))
mark.touch()
time.sleep(5)
"""


def forwards_usr1(folder):
    """Whether SIGUSR1 to mpirun reaches its processes, tried with two that are not ours."""
    folder.mkdir()
    job = subprocess.Popen([*mpirun(2), sys.executable, "-c", RECEIVER, str(folder)], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    try:
        if not wait_for(lambda: len(list(folder.glob("[01]"))) == 2, 60):
            raise RuntimeError("mpirun starts no processes")
        job.send_signal(signal.SIGUSR1)
        job.wait(60)
    finally:
        job.kill()
        job.wait()
    return len(list(folder.glob("*.got"))) == 2


def trial(lab, config, run, sender, name, wanted, forwarded):
    supervised = sender == "foretoken run"
    command = [lab.program, "run", config, "-n", "2"] if supervised else [*mpirun(2), lab.program, "train", config]
    job = Job([*map(str, command), "--run-directory", str(run)])
    wait_for(lambda: job.ended() or steps_in(run) >= wanted, 120)
    time.sleep(0.1)  # into the next step
    number, ranks, before = getattr(signal, name), job.ranks(), steps_in(run)
    if sender in ("mpirun", "foretoken run"):
        os.kill(job.pid, number)
        if not forwarded:  # the run goes on, until a rank is signalled
            wait_for(lambda: job.ended() or steps_in(run) >= before + 2, 60)
            if job.ended():
                return job.code, before, newest_step(run), 0, "ended, although mpirun does not forward the signal"
            before = steps_in(run)
            os.kill(ranks[1], number)
    elif sender == "one rank":
        os.kill(ranks[1], number)
    elif sender == "all ranks":
        for pid in ranks.values():
            os.kill(pid, number)
    else:
        job.close()
    hung = not wait_for(job.ended, 60)
    if hung:
        for pid in [job.pid, *ranks.values()]:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(job.pid, 0)
    job.close()
    left = not wait_for(lambda: not any(alive(pid) for pid in ranks.values()), 5)
    saved = newest_step(run)
    lost = max(0, before - (saved or 0))
    failure = ("hung" if hung else "ranks are left behind" if left else f"{lost} steps lost" if lost else
               "" if lab.verified(run) else "the checkpoint is damaged")
    return job.code, before, saved, lost, failure


def main():
    options = arguments(__doc__)
    signals = ["SIGTERM", "SIGUSR1"] if options.short else ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"]
    senders = ["mpirun", "one rank", "all ranks", "foretoken run"]
    cases = [(sender, name) for sender in senders for name in signals] + [("terminal closed", "SIGHUP")]
    speeds = ["fast"] if options.short else list(SPEEDS)
    trials = [(speed, number, *case) for speed in speeds for number, case in enumerate(cases)]
    with Lab(options.program, {"parallel.pp": 2, "train.microbatch": 2, "data.sequence_length": 64}) as lab:
        forwards = forwards_usr1(lab.path("receivers"))
        version = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=True).stdout.split()[3]
        sweep = Sweep(options, "TERM, INT, HUP and USR1 by mpirun, one rank, all ranks and `foretoken run`, a closed terminal; "
                      "fast and slow steps", "at most {lost} finished steps lost, checkpoints whole; this mpirun "
                      f"({version}) {'forwards USR1' if forwards else 'does not forward USR1: the run goes on'}")
        sweep.headings("sender", "signal", "steps", "exit code", "steps done", "newest checkpoint", "finished steps lost")
        for speed, number, sender, name in options.part.of(trials):
            wanted, changed = SPEEDS[speed]
            config = lab.write_config(f"{speed}.toml", **changed)
            forwarded = forwards or (sender, name) != ("mpirun", "SIGUSR1")
            code, before, saved, lost, failure = trial(lab, config, lab.path(f"{speed}{number}"), sender, name, wanted,
                                                       forwarded)
            sweep.most(lost=lost)
            sweep.detail(sender, name, speed, code, before, saved, lost)
            sweep.trial(failure and f"{sender}, {name}, {speed}: {failure}")
    return sweep.finish()


if __name__ == "__main__":
    sys.exit(main())
