#!/usr/bin/env python3
"""SIGKILL at random moments, resume each time: the final weights are bitwise those of an undisturbed run.

    tests/faults/sigkill.py PROGRAM [--kills 300] [--ranks 1|4] [--seed 1] [--short]

PROGRAM is build/PRESET/bin/foretoken. Every step saves, so that most moments lie in a save; delays are drawn from the whole
life of a job, so that some lie in start-up, in loading and in the going back that every tenth job is asked for. Ranks are
started by mpirun and one of them, or mpirun, is killed. Prints one Markdown table.
"""
import argparse, json, os, pathlib, random, signal, subprocess, sys, tempfile, time

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("--kills", type=int, default=300)
parser.add_argument("--ranks", type=int, default=1, choices=[1, 4])
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--short", action="store_true", help="20 kills")
arguments = parser.parse_args()
kills = 20 if arguments.short else arguments.kills
program = os.path.abspath(arguments.program)
generator = random.Random(arguments.seed)
STEPS = (4 if arguments.ranks == 1 else 40) * kills  # more than the kills leave time for

CONFIG = f"""[model]
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
steps = {STEPS}
global_batch = 4
microbatch = 1
[checkpoint]
every = 1
keep = 3
[parallel]
threads = 1
pp = {2 if arguments.ranks == 4 else 1}
sharded_optimizer = {"true" if arguments.ranks == 4 else "false"}
"""
launcher = [] if arguments.ranks == 1 else ["mpirun", "-n", "4", "--oversubscribe", "--bind-to", "none"]


def start(*words):
    return subprocess.Popen([*launcher, program, "train", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, start_new_session=True)


def manifest_of(checkpoint):
    return json.loads((checkpoint / "manifest.json").read_text())["checkpoint"]


def digests(run):
    pieces = manifest_of(run / "checkpoints" / f"step_{STEPS:08}")["pieces"]
    return {(p["kind"], p["tensor"], p["offset"]): p["digest"] for p in pieces}


def children(pid):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat[stat.rindex(")") + 2:].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def complete(run):
    return sorted(p for p in (run / "checkpoints").glob("step_*") if p.name[5:].isdigit()) if run.exists() else []


failures, went_back, in_save, done = [], 0, 0, 0
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    pathlib.Path("text").write_text("".join(f"line {i} of a text that repeats itself, {i % 7} times\n" for i in range(2000)))
    pathlib.Path("s.toml").write_text(CONFIG)
    subprocess.run([program, "tokenize", "text", "-o", "data.h5"], check=True, capture_output=True)
    whole, killed = pathlib.Path("whole"), pathlib.Path("killed")
    begun = time.monotonic()
    job = start("s.toml", "--run-directory", "whole", "--set", f"checkpoint.every={STEPS}")
    assert "done" in job.communicate()[0]
    life = 1.5 if arguments.ranks == 1 else 6.0
    while done < kills:
        words = ["s.toml", "--run-directory", "killed", "--auto-resume"]
        checkpoints = complete(killed)
        if done % 10 == 9 and len(checkpoints) > 1:  # the same data and settings: the bits must not change
            words = ["--resume", str(checkpoints[0])]
            went_back += 1
        job = start(*words)
        time.sleep(generator.uniform(0.02, life))
        victims = children(job.pid) if launcher else []
        victim = generator.choice(victims + [job.pid])
        if job.poll() is None:
            in_save += any((killed / "checkpoints").glob("*.tmp"))
            try:
                os.kill(victim, signal.SIGKILL)
                done += 1
            except ProcessLookupError:
                pass
        output = job.communicate()[0]
        for pid in victims:  # ranks of a killed mpirun end by themselves; wait for them
            while pathlib.Path(f"/proc/{pid}").exists():
                time.sleep(0.05)
        if job.returncode in (1, 2, 3) and "in use" not in output:
            failures.append(f"kill {done}: code {job.returncode}: {output[-400:]}")
        if complete(killed) and complete(killed)[-1].name == f"step_{STEPS:08}":
            break
    job = start("s.toml", "--run-directory", "killed", "--auto-resume")
    output = job.communicate()[0]
    same = job.returncode == 0 and digests(killed) == digests(whole)
    if not same:
        failures.append(f"the end: code {job.returncode}, {output[-400:]}")
    steps = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    steps = [entry["step"] for entry in steps if entry["kind"] == "step"]
    metrics = steps == list(range(1, STEPS + 1))
    if not metrics:
        failures.append("metrics.jsonl does not hold each step once")
    seconds = time.monotonic() - begun

layout = "pp 1 × dp 1" if arguments.ranks == 1 else "pp 2 × dp 2, sharded"
print("| SIGKILL at random moments | kills | of them in a save | went back | untyped ends | final weights and moments bitwise | each step once in metrics | time |")
print("|---|---|---|---|---|---|---|---|")
print(f"| {layout} | {done} | {in_save} | {went_back} | {sum('code' in f for f in failures)} | {'yes' if same else 'NO'} | "
      f"{'yes' if metrics else 'NO'} | {seconds:.0f} s |")
for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(1 if failures else 0)
