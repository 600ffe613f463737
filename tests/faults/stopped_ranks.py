#!/usr/bin/env python3
"""Stops every rank in every layout (SIGSTOP) and compares the rank that the run names with the one that was stopped.

    tests/faults/stopped_ranks.py PROGRAM [--short] [--layout NAME]... [--moment steps|save|start-up|none]...

PROGRAM is the built foretoken. Prints a Markdown table; ends with 1 where a wrong rank or none was named, a process was
left behind or the exit code is not 5.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 3  # seconds, parallel.timeout_seconds
LAYOUTS = {
    "dp 2": (2, ["parallel.dp=2"]),
    "pp 2": (2, ["parallel.pp=2"]),
    "pp 4": (4, ["parallel.pp=4"]),
    "pp 2, dp 2": (4, ["parallel.pp=2", "parallel.dp=2"]),
    "interleaved": (2, ["parallel.pp=2", "parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b"]),
}
MOMENTS = ["steps", "save", "start-up", "none"]
CONFIG = """
[model]
hidden_size = {hidden}
num_hidden_layers = 8
num_attention_heads = 2
num_key_value_heads = 2
head_dim = 8
intermediate_size = 24
vocab_size = 257
[mtp]
depths = 1
[data]
path = "{data}"
sequence_length = 16
[train]
steps = 1000000
global_batch = 8
microbatch = 1
[parallel]
threads = 1
timeout_seconds = {limit}
"""


def ranks_of(parent):
    """Pids of the ranks below mpirun, by rank."""
    ranks = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            if int(stat[stat.rindex(")") + 4 :].split()[0]) != parent:
                continue
            environment = (entry / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        for variable in environment:
            if variable.startswith(b"OMPI_COMM_WORLD_RANK="):
                ranks[int(variable.split(b"=")[1])] = int(entry.name)
    return ranks


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.002)
    return False


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat[stat.rindex(")") + 2] not in "ZX"
    except OSError:
        return False


def steps_in(run):
    try:
        return (run / "metrics.jsonl").read_text().count('"kind":"step"')
    except OSError:
        return 0


def trial(arguments, folder, layout, moment, rank):
    ranks, sets = LAYOUTS[layout]
    run = folder / "run"
    subprocess.run(["rm", "-rf", str(run), str(run) + ".flight"], check=True)
    command = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none", arguments.program, "train",
               str(folder / "train.toml"), "--run-directory", str(run)]
    if moment == "save":
        sets = sets + ["checkpoint.every=1"]
    if moment == "start-up":
        sets = sets + [f"parallel.startup_seconds={LIMIT}"]
    if moment == "none":
        sets = sets + ["train.steps=30"]
    for value in sets:
        command += ["--set", value]
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    with open(folder / "out.txt", "wb") as out:
        job = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    pids = {}
    try:
        wait_for(lambda: len(ranks_of(job.pid)) == ranks or job.poll() is not None, 30)
        pids = ranks_of(job.pid)
        if moment == "steps":
            wait_for(lambda: steps_in(run) >= 5 or job.poll() is not None, 60)
        elif moment == "save":
            saving = lambda: list((run / "checkpoints").glob("*.tmp")) if run.exists() else []
            wait_for(lambda: steps_in(run) >= 3 and saving() or job.poll() is not None, 60)
        stopped_at = time.monotonic()
        if moment != "none":
            if rank not in pids:
                return "rank not found", 0, None, []
            os.kill(pids[rank], signal.SIGSTOP)
        code = job.wait(90)
        seconds = time.monotonic() - stopped_at
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        code, seconds = None, 90
    wait_for(lambda: not any(alive(pid) for pid in pids.values()), 5)
    left = [pid for pid in pids.values() if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    text = (folder / "out.txt").read_text(errors="replace")
    named = re.findall(r"^\[rank \d+[^\]]*\] rank (\d+)(?: \(|,| )[^\n]*(?:did not|left no)", text, re.M)
    return code, seconds, (int(named[-1]) if named else None), left


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--short", action="store_true", help="the first and the last rank of two layouts, during steps")
    parser.add_argument("--layout", action="append", choices=list(LAYOUTS))
    parser.add_argument("--moment", action="append", choices=MOMENTS)
    arguments = parser.parse_args()
    layouts = arguments.layout or (["pp 4", "pp 2, dp 2"] if arguments.short else list(LAYOUTS))
    moments = arguments.moment or (["steps"] if arguments.short else MOMENTS)
    wrong = 0
    print("| layout | moment | stopped | named | exit code | seconds to the end | left behind |\n|---|---|---|---|---|---|---|",
          flush=True)
    with tempfile.TemporaryDirectory(prefix="stopped-ranks-") as name:
        folder = Path(name)
        (folder / "text").mkdir()
        (folder / "text" / "a.txt").write_text("".join(f"line {i} of a text, {i % 7} times\n" for i in range(400)))
        data = folder / "data.h5"
        subprocess.run([arguments.program, "tokenize", str(folder / "text"), "-o", str(data)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (folder / "train.toml").write_text(CONFIG.format(data=data, limit=LIMIT, hidden=16))
        for layout in layouts:
            for moment in moments:
                ranks = range(LAYOUTS[layout][0])
                if moment == "none":
                    ranks = [None]
                elif arguments.short:
                    ranks = [ranks[0], ranks[-1]]
                for rank in ranks:
                    code, seconds, named, left = trial(arguments, folder, layout, moment, rank)
                    right = code == (0 if moment == "none" else 5) and named == rank and not left
                    wrong += not right
                    print(f"| {layout} | {moment} | {'none' if rank is None else rank} | "
                          f"{'none' if named is None else named} | {code} | {seconds:.1f} | {len(left)} |"
                          f"{'' if right else ' wrong'}", flush=True)
                    if not right:
                        print((folder / "out.txt").read_text(errors="replace")[-3000:], file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
