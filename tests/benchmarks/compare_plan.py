#!/usr/bin/env python3
"""Compares the step time and memory that `foretoken plan` predicts with those of training runs.

    compare_plan.py PROGRAM CONFIG.toml --ranks N [--device cpu|cuda] [--layouts FILE] [--set KEY=VALUE ...]

Measures a profile of the device on all ranks at the same time and, with several ranks, the links (foretoken doctor);
predicts every layout; trains each for some steps; prints a Markdown table. A run is ended after its last step without a
checkpoint. Needs mpirun and nothing beside Python's standard library.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KEYS = {
    "pp": "parallel.pp",
    "dp": "parallel.dp",
    "v": "parallel.virtual_stages",
    "schedule": "parallel.schedule",
    "shard": "parallel.sharded_optimizer",
    "mb": "train.microbatch",
    "recompute": "train.recompute",
    "placement": "mtp.placement",
}
DEFAULTS = {"pp": "1", "dp": "1", "v": "1", "schedule": "1f1b", "shard": "false", "mb": "4", "recompute": "none",
            "placement": "last"}

LAYOUTS = {
    ("cpu", 1): ["mb=1", "mb=2", "mb=4", "mb=8", "mb=16", "mb=4 recompute=selective", "mb=4 recompute=full",
                 "mb=8 recompute=full"],
    ("cpu", 2): ["pp=2", "pp=2 schedule=gpipe", "pp=2 schedule=zero_bubble_h1", "pp=2 v=2 schedule=interleaved_1f1b",
                 "dp=2", "dp=2 shard=true", "pp=2 mb=2 recompute=full", "dp=2 mb=8 recompute=selective",
                 "pp=2 mb=2 placement=own_stage"],
    ("cuda", 1): ["mb=1 recompute=selective", "mb=2 recompute=selective", "mb=4 recompute=selective",
                  "mb=8 recompute=selective", "mb=2", "mb=4", "mb=4 recompute=full", "mb=8 recompute=full"],
    ("cuda", 2): ["pp=2 recompute=selective", "pp=2 schedule=gpipe mb=2 recompute=selective",
                  "pp=2 schedule=zero_bubble_h1 mb=2 recompute=selective",
                  "pp=2 v=2 schedule=interleaved_1f1b mb=2 recompute=selective", "dp=2 recompute=selective",
                  "dp=2 shard=true recompute=selective", "pp=2 mb=2 recompute=full", "dp=2 mb=2",
                  "pp=2 mb=2 recompute=selective"],
}


def sets_of(layout):
    return [f"{KEYS[key]}={value}" for key, value in layout.items()]


def flags(sets):
    return [word for one in sets for word in ("--set", one)]


def parse_layout(text):
    layout = dict(DEFAULTS)
    for word in text.split():
        key, _, value = word.partition("=")
        if key not in KEYS or not value:
            sys.exit(f"compare_plan: layout \"{text}\": expected words KEY=VALUE with KEY of {', '.join(KEYS)}")
        layout[key] = value
    return layout


def make_data(program, folder):
    """A dataset of random words, tokenized as bytes."""
    random.seed(1)
    words = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(2, 9))) for _ in range(5000)]
    text = folder / "text.txt"
    text.write_text("\n".join(" ".join(random.choices(words, k=12)) for _ in range(60000)))
    data = folder / "data.h5"
    subprocess.run([program, "tokenize", text, "-o", data], check=True, stdout=subprocess.DEVNULL)
    return data


def launcher(arguments):
    if os.getuid() == 0:
        os.environ["OMPI_ALLOW_RUN_AS_ROOT"] = os.environ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    bind = ["--bind-to", "core"] if arguments.device == "cpu" else ["--bind-to", "none"]
    return ["mpirun", "--oversubscribe", *bind, "-n", str(arguments.ranks)]


def children_of(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.name))
    return found


def end(process):
    """Kills the ranks, which are children of mpirun, so that they write no checkpoint; mpirun then ends."""
    for child in children_of(process.pid):
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def steps_of(run):
    steps = []
    try:
        for line in (run / "metrics.jsonl").read_text().splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if record.get("kind") == "step":
                steps.append(record)
    except OSError:
        pass
    return steps


def train(arguments, folder, sets):
    """The median step time in seconds and the largest rank's memory in bytes."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    log = folder / "train.log"
    command = [*launcher(arguments), arguments.program, "train", arguments.config, "--run-directory", str(run),
               *flags(sets)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        began = time.monotonic()
        while len(steps_of(run)) < arguments.steps and process.poll() is None:
            if time.monotonic() - began > arguments.limit:
                break
            time.sleep(0.1)
        steps = steps_of(run)
        end(process)
    shutil.rmtree(run, ignore_errors=True)
    if len(steps) < arguments.steps:
        last = [line for line in log.read_text().splitlines() if line.strip()][-5:]
        raise RuntimeError(f"only {len(steps)} steps in {time.monotonic() - began:.0f} s: " + " / ".join(last))
    times = [step["milliseconds"] / 1e3 for step in steps[arguments.warm_up:]]
    return statistics.median(times), max(step.get("memory_bytes", 0) for step in steps)


def predict(arguments, files, sets):
    command = [arguments.program, "plan", arguments.config, "--gpus", str(arguments.ranks), "--top", "1", "--json",
               *[word for file in files for word in ("--profile", str(file))], *flags(sets)]
    if arguments.device == "cuda":
        command += ["--memory", arguments.memory]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError((done.stderr or done.stdout).strip())
    plan = json.loads(done.stdout)["plans"][0]
    if not plan["best"]:
        raise RuntimeError("does not fit: " + plan["nearest"]["reason"])
    return plan["best"][0]


def percent(predicted, measured):
    return 100 * (predicted / measured - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="build/PRESET/bin/foretoken")
    parser.add_argument("config")
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--layouts", help="file with one layout per line, such as: pp=2 schedule=gpipe mb=2")
    parser.add_argument("--set", dest="sets", action="append", default=[], help="setting of all runs")
    parser.add_argument("--data", help="token dataset; default: random words")
    parser.add_argument("--steps", type=int, default=9, help="of a run")
    parser.add_argument("--warm-up", type=int, default=4, help="first steps that do not count")
    parser.add_argument("--memory", default="140GiB", help="of a GPU")
    parser.add_argument("--limit", type=float, default=60, help="seconds of a run")
    parser.add_argument("--keep", help="folder for profile.json, links.json and results.json")
    arguments = parser.parse_args()
    arguments.program = os.path.abspath(arguments.program)

    lines = (Path(arguments.layouts).read_text().splitlines() if arguments.layouts
             else LAYOUTS.get((arguments.device, arguments.ranks), []))
    layouts = [(line, parse_layout(line)) for line in lines if line.strip()]
    if not layouts:
        sys.exit(f"compare_plan: no list of layouts for {arguments.ranks} ranks on {arguments.device}; pass --layouts")

    with tempfile.TemporaryDirectory(prefix="compare_plan_") as name:
        folder = Path(name)
        kept = Path(arguments.keep) if arguments.keep else folder
        kept.mkdir(parents=True, exist_ok=True)
        data = Path(arguments.data).resolve() if arguments.data else make_data(arguments.program, folder)
        common = [f"run.device={arguments.device}", f"data.path={data}", "data.validation_path=",
                  "train.evaluate_every=0", "train.steps=1000", "checkpoint.every=0", "checkpoint.every_minutes=0",
                  *arguments.sets]
        profile, links = (kept / "profile.json").resolve(), (kept / "links.json").resolve()
        began = time.monotonic()
        subprocess.run([*launcher(arguments), arguments.program, "plan", arguments.config, "--measure", "-o",
                        str(profile), *flags(common)], check=True, stdout=sys.stderr)
        print(f"profile: {time.monotonic() - began:.0f} s", file=sys.stderr)
        files = [profile]
        if arguments.ranks > 1:
            subprocess.run([*launcher(arguments), arguments.program, "doctor", "--save", str(links)],
                           stdout=sys.stderr, check=False)
            if links.exists():
                files.append(links)

        rows, results = [], []
        for line, layout in layouts:
            sets = common + sets_of(layout)
            try:
                planned = predict(arguments, files, sets)
                began = time.monotonic()
                seconds, memory = train(arguments, folder, sets + [f"parallel.profile={profile}"])
            except RuntimeError as error:
                print(f"{line}: {error}", file=sys.stderr)
                rows.append(f"| {line} | {error} |||||||")
                continue
            step, size = planned["step_seconds"], planned["memory_bytes"]
            results.append({"layout": line, "predicted_seconds": step, "measured_seconds": seconds,
                            "predicted_bytes": size, "measured_bytes": memory, "planned": planned})
            rows.append(f"| {line} | {1e3 * step:.1f} | {1e3 * seconds:.1f} | {percent(step, seconds):+.1f} % "
                        f"| {size / 2**30:.3f} | {memory / 2**30:.3f} | {percent(size, memory):+.1f} % |")
            print(f"{rows[-1]}  ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
        (kept / "results.json").write_text(json.dumps(results, indent=1))

    print("| layout | step predicted, ms | measured | error | memory predicted, GiB | measured | error |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    if results:
        time_errors = [abs(percent(r["predicted_seconds"], r["measured_seconds"])) for r in results]
        memory_errors = [abs(percent(r["predicted_bytes"], r["measured_bytes"])) for r in results]
        print(f"\n{len(results)} layouts: step time within {max(time_errors):.1f} % (median "
              f"{statistics.median(time_errors):.1f} %), memory within {max(memory_errors):.1f} % (median "
              f"{statistics.median(memory_errors):.1f} %)")


if __name__ == "__main__":
    main()
