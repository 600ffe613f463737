#!/usr/bin/env python3
"""Two jobs in one run folder: exactly one trains, the other is refused with a typed error, nothing is damaged.

    tests/faults/two_jobs.py PROGRAM [--trials 100] [--short]

PROGRAM is build/PRESET/bin/foretoken. In every trial two `train --resume` start at once in one run of one rank; every
fourth trial leaves the stale lock of a killed job first. Prints one Markdown table.
"""
import argparse, json, os, pathlib, signal, subprocess, sys, tempfile, time

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("--trials", type=int, default=100)
parser.add_argument("--short", action="store_true", help="8 trials")
arguments = parser.parse_args()
trials = 8 if arguments.short else arguments.trials
program = os.path.abspath(arguments.program)

CONFIG = """[model]
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
intermediate_size = 64
vocab_size = 257
[mtp]
depths = 2
[data]
path = "data.h5"
sequence_length = 32
[train]
steps = 1000000
global_batch = 4
[checkpoint]
every = 3
keep = 3
[parallel]
threads = 1
"""


def foretoken(*words):
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def start(*words):
    return subprocess.Popen([program, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def metric_steps(run):
    steps = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["kind"] == "step":
            steps.append(entry["step"])
    return steps


counts = {"one winner": 0, "typed refusal": 0, "takeover said": 0, "checkpoints whole": 0, "metrics whole": 0}
failures = []
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    pathlib.Path("text").write_text("".join(f"line {i} of a text that repeats itself, {i % 7} times\n" for i in range(2000)))
    pathlib.Path("s.toml").write_text(CONFIG)
    assert foretoken("tokenize", "text", "-o", "data.h5").returncode == 0
    run = pathlib.Path("run")
    assert foretoken("train", "s.toml", "--run-directory", "run", "--stop-after", "5").returncode == 75
    stale_trials = 0
    for trial in range(trials):
        stale = trial % 4 == 3
        if stale:
            stale_trials += 1
            dead = start("train", "--resume", "run")
            while not (run / "run.lock").exists() and dead.poll() is None:
                time.sleep(0.005)
            dead.kill()
            dead.communicate()
        step = int(json.loads(max((run / "checkpoints").glob("step_*[0-9]/manifest.json")).read_text())["checkpoint"]["step"])
        until = str(step + 8)
        jobs = [start("train", "--resume", "run", "--stop-after", until) for _ in range(2)]
        try:
            outputs = [job.communicate(timeout=120)[0] for job in jobs]
        except subprocess.TimeoutExpired:
            failures.append(f"trial {trial}: hung")
            for job in jobs:
                job.kill()
            break
        codes = [job.returncode for job in jobs]
        winners = [i for i in range(2) if codes[i] == 75]
        # A job that starts when the other has ended may train as well, or find nothing left: no harm is done.
        refused = [i for i in range(2) if codes[i] == 2 and "in use by pid" in outputs[i]]
        counts["one winner"] += len(winners) >= 1 and len(winners) + len(refused) == 2
        counts["typed refusal"] += len(refused)
        counts["takeover said"] += any("taken over from pid" in output for output in outputs)
        if len(winners) + len(refused) != 2 or not winners:
            failures.append(f"trial {trial}: codes {codes}: {outputs[0][-300:]} / {outputs[1][-300:]}")
        whole = foretoken("inspect", "--verify", "run").returncode == 0
        whole = whole and not list((run / "checkpoints").glob("*.tmp"))
        counts["checkpoints whole"] += whole
        steps = metric_steps(run)
        counts["metrics whole"] += steps == list(range(1, len(steps) + 1))
        if not whole or steps != list(range(1, len(steps) + 1)):
            failures.append(f"trial {trial}: damage")

print("| two jobs in one folder | trials | one winner | refused, typed | stale locks taken over and said | checkpoints whole | metrics whole |")
print("|---|---|---|---|---|---|---|")
print(f"| pp 1 × dp 1 | {trials} | {counts['one winner']} | {counts['typed refusal']} | {counts['takeover said']} of {stale_trials} | "
      f"{counts['checkpoints whole']} | {counts['metrics whole']} |")
for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(1 if failures else 0)
