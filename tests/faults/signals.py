#!/usr/bin/env python3
"""Every stop signal, by every sender, at a fast and a slow step: exit code, newest checkpoint, steps lost.

    tests/faults/signals.py PROGRAM [--short]

Prints one Markdown table. A row fails where a checkpoint is damaged, or where more is lost than the step in which
the signal arrived. Two ranks under Open MPI's mpirun; about 4 minutes, with --short half a minute.
"""

import argparse
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """
[model]
hidden_size = {hidden}
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 2
head_dim = 16
intermediate_size = 64
vocab_size = 257
[mtp]
depths = 1
[data]
path = "{data}"
sequence_length = 64
[train]
steps = 1000000
global_batch = {batch}
microbatch = 2
[optimizer]
warmup_steps = 2
[parallel]
pp = 2
threads = 1
"""


def ranks_of(launcher):
    """Processes below mpirun that run the program."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:
            continue
        name = text[text.index("(") + 1 : text.rindex(")")]
        parent = int(text[text.rindex(")") + 2 :].split()[1])
        if parent == launcher and name == "foretoken":
            found.append(int(text.split()[0]))
    return sorted(found)


def steps_done(run):
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return 0
    return sum(line.startswith('{"kind":"step"') and line.endswith("}") for line in lines)


def newest_checkpoint(run):
    steps = [int(path.name[5:]) for path in (run / "checkpoints").glob("step_*") if path.name[5:].isdigit()]
    return max(steps, default=None)


def step_seconds(run):
    for line in reversed((run / "metrics.jsonl").read_text().splitlines()):
        record = json.loads(line)
        if record.get("kind") == "step":
            return record.get("milliseconds", record.get("ms", 0)) / 1e3
    return 0


def start(command):
    """In a session of its own on a terminal of its own: closing it hangs the job up."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    return pid, terminal


def trial(program, config, folder, sender, name, wanted):
    run = folder / "run"
    command = ["mpirun", "-n", "2", "--oversubscribe", "--bind-to", "none", program, "train", str(config),
               "--run-directory", str(run)]
    launcher, terminal = start(command)
    os.set_blocking(terminal, False)

    def drain():
        try:
            while os.read(terminal, 65536):
                pass
        except (BlockingIOError, OSError):
            pass

    limit = time.time() + 120
    while steps_done(run) < wanted and time.time() < limit:
        drain()
        time.sleep(0.01)
    time.sleep(0.1)  # into the next step
    number = getattr(signal, name)
    ranks = ranks_of(launcher)
    before = steps_done(run)
    if sender == "mpirun":
        os.kill(launcher, number)
    elif sender == "one rank":
        os.kill(ranks[-1], number)
    elif sender == "all ranks":
        for rank in ranks:
            os.kill(rank, number)
    else:
        os.close(terminal)
    code, limit = None, time.time() + 60
    while code is None and time.time() < limit:
        if sender != "terminal closed":
            drain()
        done, status = os.waitpid(launcher, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    if code is None:
        for process in [launcher, *ranks]:
            os.kill(process, signal.SIGKILL)
        os.waitpid(launcher, 0)
    if sender != "terminal closed":
        os.close(terminal)
    left = [rank for rank in ranks if Path(f"/proc/{rank}").exists()]
    limit = time.time() + 5
    while left and time.time() < limit:
        time.sleep(0.05)
        left = [rank for rank in left if Path(f"/proc/{rank}").exists()]
    saved = newest_checkpoint(run)
    checked = subprocess.run([program, "inspect", "--verify", str(run)], capture_output=True, check=False)
    lost = max(0, before - (saved or 0))
    whole = checked.returncode == 0 and not left
    return {"code": "hung" if code is None else code, "at": before, "saved": saved, "lost": lost,
            "seconds": step_seconds(run), "good": whole and code is not None and lost == 0}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true", help="SIGTERM and SIGUSR1 at a fast step only")
    parser.add_argument("program")
    arguments = parser.parse_args()
    program = str(Path(arguments.program).resolve())
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    signals = ["SIGTERM", "SIGUSR1"] if arguments.short else ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"]
    speeds = [("fast", 32, 8, 20)] if arguments.short else [("fast", 32, 8, 20), ("slow", 128, 1024, 3)]
    rows, failures = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text.txt"
        text.write_text("".join(f"line {i} of a text that repeats itself, {i % 7} times\n" for i in range(3000)))
        data = folder / "data.h5"
        subprocess.run([program, "tokenize", str(text), "-o", str(data)], check=True, capture_output=True)
        for speed, hidden, batch, wanted in speeds:
            config = folder / f"{speed}.toml"
            config.write_text(CONFIG.format(hidden=hidden, data=data, batch=batch))
            cases = [(sender, each) for sender in ("mpirun", "one rank", "all ranks") for each in signals]
            cases.append(("terminal closed", "SIGHUP"))
            for number, (sender, each) in enumerate(cases):
                place = folder / f"{speed}{number}"
                place.mkdir()
                result = trial(program, config, place, sender, each, wanted)
                failures += not result["good"]
                rows.append(f"| {sender} | {each} | {result['seconds']:.2f} | {result['code']} | {result['at']} | "
                            f"{result['saved']} | {result['lost']} | {'yes' if result['good'] else 'NO'} |")
                print(rows[-1], file=sys.stderr, flush=True)
    print("| sender | signal | s a step | exit code | steps done | newest checkpoint | finished steps lost | good |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
