#!/usr/bin/env python3
"""Flips single bits of weights and moments in the memory of running ranks; the run must name the tensor and the rank.

    tests/faults/memory_flips.py PROGRAM [--flips 10] [--short] [--layout NAME]...

A trial trains with a checkpoint after every step, stops all ranks (SIGSTOP) inside a step, finds a tensor of the newest
checkpoint in the memory of one of them, flips one of its bits and lets them continue. The run must end with code 4 and
name the tensor and the rank. Ranks are stopped in the first EARLY of a step's time: at its end lies a window in which a
flip becomes part of the update and is not seen (launch/docs/numerical_guard.md). Linux: memory is read and written through
/proc/PID/mem.
"""
import json
import os
import signal
import subprocess
import sys
import time

from faultlib import (Lab, Sweep, alive, arguments, checkpoints, manifest_of, newest_step, random_of, ranks_of, set_flags,
                      wait_for)

LAYOUTS = {
    "1 rank": (1, []),
    "dp 2, replicated optimizer": (2, ["parallel.dp=2"]),
    "dp 2, sharded optimizer": (2, ["parallel.dp=2", "parallel.sharded_optimizer=true"]),
    "pp 2": (2, ["parallel.pp=2"]),
    "pp 2, dp 2, sharded optimizer": (4, ["parallel.pp=2", "parallel.dp=2", "parallel.sharded_optimizer=true"]),
}
KINDS = {"model": "master weights", "exp_avg": "first moments", "exp_avg_sq": "second moments"}
SIZES = {"f32": 4, "bf16": 2}
SHORTEST = 256  # bytes of a tensor that are searched for: enough to be unique
THREAD_HEAP = 64 << 20  # glibc's heaps of all threads but the main one start at multiples of it
SETTINGS = {
    "model.hidden_size": 64,
    "model.num_attention_heads": 4,
    "model.intermediate_size": 128,
    "mtp.depths": 1,
    "data.sequence_length": 128,
    "parallel.check_state_every": 1,
    "checkpoint.every": 1,
    "checkpoint.keep": 2,
}
ROWS = 32  # rows of a rank in a step: a step must last longer than a save
EARLY = 0.8  # of the fastest step's time


def places(pid, content):
    """Addresses of these bytes in a process's writable memory, without the buffers of its writer thread."""
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            fields = line.split()
            begin, end = (int(each, 16) for each in fields[0].split("-"))
            if not fields[1].startswith("rw") or begin % THREAD_HEAP == 0:
                continue
            try:
                memory.seek(begin)
                region = memory.read(end - begin)
            except (OSError, OverflowError):
                continue
            at = region.find(content)
            while at >= 0:
                found.append(begin + at)
                at = region.find(content, at + 1)
    return found


def early_in_step(run, step):
    """Whether ranks that were stopped now are far from the update of step + 1. The line of a step is written right after its
    update, and even the fastest step takes its time to come to the next one."""
    metrics = run / "metrics.jsonl"
    seconds = time.time() - metrics.stat().st_mtime
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    return steps[-1]["step"] == step and seconds < EARLY * min(line["milliseconds"] for line in steps) / 1000


def flip(pid, address, bit):
    with open(f"/proc/{pid}/mem", "r+b", 0) as memory:
        memory.seek(address)
        value = memory.read(1)[0]
        memory.seek(address)
        memory.write(bytes([value ^ (1 << bit)]))


def strike(run, pids, kind, chance):
    """Flips a bit in ranks that are stopped: (tensor, rank), or None if no rank is between two updates."""
    checkpoint = checkpoints(run)[-1]
    piece = chance.choice([piece for piece in manifest_of(checkpoint)["pieces"]
                           if piece["kind"] == kind and piece["count"] * SIZES[piece["dtype"]] >= SHORTEST])
    size = piece["count"] * SIZES[piece["dtype"]]
    with open(checkpoint / piece["file"], "rb") as shard:
        shard.seek(piece["address"])
        content = shard.read(size)
    if len({content[at : at + 4] for at in range(0, size, 4)}) < 8:
        return None  # a norm's weights may all be 1
    writer = int(piece["file"][len("shard_") : -len(".h5")])
    for rank in chance.sample(sorted(pids), len(pids)):
        found = places(pids[rank], content)
        if len(found) < (2 if rank == writer else 1):  # the writer also has the copy that it saved
            continue
        byte, bit = chance.randrange(size), chance.randrange(8)
        for address in found:
            flip(pids[rank], address + byte, bit)
        return piece["tensor"], rank
    return None


def strike_soon(job, run, pids, kind, chance):
    for _ in range(100):
        step = newest_step(run)
        wait_for(lambda: newest_step(run) != step or job.poll() is not None, 60, pause=0.001)
        if job.poll() is not None:
            return None
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)
        try:
            struck = strike(run, pids, kind, chance) if early_in_step(run, newest_step(run)) else None
        finally:
            for pid in pids.values():
                os.kill(pid, signal.SIGCONT)
        if struck:
            return struck
    return None


def trial(lab, layout, kind, chance):
    """Returns what is wrong; empty if the run found the flip and named tensor and rank."""
    ranks, sets = LAYOUTS[layout]
    run, log = lab.path("run"), lab.path("out.txt")
    subprocess.run(["rm", "-rf", str(run)], check=True)
    with open(log, "w") as output:
        job = lab.start("train", "train.toml", "--run-directory", run,
                        *set_flags([*sets, f"train.global_batch={ROWS * ranks}"]), ranks=ranks, output=output)
    pids = {}
    try:
        wait_for(lambda: (newest_step(run) or 0) >= 2 or job.poll() is not None, 60)
        pids = {0: job.pid} if ranks == 1 else ranks_of(job.pid)
        if job.poll() is not None or len(pids) != ranks:
            return f"the run did not start: {log.read_text(errors='replace')[-500:]}"
        struck = strike_soon(job, run, pids, kind, chance)
        if not struck:
            return "no tensor of a checkpoint was found in memory"
        name = struck[0] if kind == "model" else f"{kind} of {struck[0]}"
        code = job.wait(30)
    except subprocess.TimeoutExpired:
        return f"not found: {name} on rank {struck[1]}"
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
        wait_for(lambda: not any(alive(pid) for pid in pids.values()), 10)
    text = log.read_text(errors="replace")
    if code != 4 or f"memory: {name} has changed on rank {struck[1]} (" not in text:
        return f"code {code}, and not named: {name} on rank {struck[1]}: {text[-500:]}"
    return ""


def main():
    options = arguments(__doc__, flips={"type": int, "default": 10, "help": "of each kind of state in each layout"},
                        layout={"action": "append", "choices": list(LAYOUTS)})
    layouts = options.layout or (list(LAYOUTS)[1:3] if options.short else list(LAYOUTS))
    flips = 1 if options.short else options.flips
    chance = random_of(options)
    trials = [(layout, kind) for layout in layouts for kind in KINDS for _ in range(flips)]
    with Lab(options.program, SETTINGS) as lab:
        sweep = Sweep(options, "bits of master weights and moments flip in the memory of running ranks with a sharded and a "
                      "replicated optimizer", "{right} found, tensor and rank named, code 4")
        sweep.headings("layout", "flipped", "found, tensor and rank named")
        for layout, kind in options.part.of(trials):
            fault = trial(lab, layout, kind, chance)
            sweep.detail(layout, KINDS[kind], "NO" if fault else "yes")
            sweep.trial(fault and f"{layout}: {fault}")
    return sweep.finish()


if __name__ == "__main__":
    sys.exit(main())
