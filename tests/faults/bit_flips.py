#!/usr/bin/env python3
"""Flips one random bit at a time in datasets, checkpoints and the text files of a run, and counts what
`foretoken inspect --verify` finds. A flip counts as found where the program ends with code 3 and names the
file. Where it ends with 0 the flip is either in space that nothing reads or missed; for files whose every
byte is covered by a digest a 0 is a miss.

    tests/faults/bit_flips.py FORETOKEN [--flips 1000] [--seed 1] [--short]

Prints a Markdown table. Exit code 1 where a flip was missed.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

CONFIG = """[model]
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 2
head_dim = 8
intermediate_size = 24
vocab_size = 257
[mtp]
depths = 2
[data]
path = "{data}"
sequence_length = 16
[train]
steps = 4
global_batch = 8
microbatch = 2
[optimizer]
warmup_steps = 2
[parallel]
threads = 1
sharded_optimizer = true
"""


def call(*command):
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)


def must(*command):
    done = call(*command)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: code {done.returncode}\n{done.stdout}{done.stderr}")


def make_run(program, folder):
    text = folder / "text"
    text.mkdir()
    words = random.Random(7)
    for i in range(40):
        (text / f"{i:02}.txt").write_text(" ".join(words.choice(["foretoken", "text", "row", "of"]) for _ in range(900)))
    data, run = folder / "data.h5", folder / "run"
    must(program, "tokenize", str(text), "-o", str(data))
    (folder / "train.toml").write_text(CONFIG.format(data=data))
    must(program, "train", str(folder / "train.toml"), "--run-directory", str(run))
    return data, run


def targets(data, run):
    """(row of the table, path to inspect, file, every byte is covered)"""
    checkpoint = run / "checkpoints" / "step_00000004"
    yield "token dataset", data, data, True
    for name in sorted(os.listdir(checkpoint)):
        kind = "manifest.json" if name == "manifest.json" else "model.h5" if name == "model.h5" else "shards"
        yield f"checkpoint: {kind}", run, checkpoint / name, True
    yield "config.toml", run, run / "config.toml", True
    yield "metrics.jsonl", run, run / "metrics.jsonl", False


def flip(path, position, bit):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))


def harmless(path, before):
    """Whether a JSON file still means the same: a space of it became another one."""
    try:
        return path.suffix == ".json" and json.loads(path.read_bytes()) == json.loads(before)
    except ValueError:
        return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="60 flips")
    arguments = parser.parse_args()
    flips = 60 if arguments.short else arguments.flips
    choice = random.Random(arguments.seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="foretoken-flips-"))
    missed = []
    try:
        data, run = make_run(arguments.program, folder)
        files = list(targets(data, run))
        table = {}
        for number in range(flips):
            # Datasets and checkpoints in turn; the text files, which are small, every tenth time.
            group = ["token dataset"] if number % 2 == 0 else ["checkpoint"]
            if number % 10 == 9:
                group = ["config.toml", "metrics.jsonl"]
            row, inspected, file, covered = choice.choice([f for f in files if f[0].startswith(tuple(group))])
            before = file.read_bytes()
            position, bit = choice.randrange(len(before)), choice.randrange(8)
            flip(file, position, bit)
            done = call(arguments.program, "inspect", "--verify", str(inspected))
            counts = table.setdefault(row, {"flips": 0, "found": 0, "unused": 0, "missed": 0})
            counts["flips"] += 1
            if done.returncode == 3 and file.name in done.stdout + done.stderr:
                counts["found"] += 1
            elif done.returncode == 0 and harmless(file, before):
                counts["unused"] += 1
            else:
                counts["missed"] += 1
                if covered:
                    missed.append(f"{file}: byte {position} bit {bit}: code {done.returncode}")
            flip(file, position, bit)
            assert file.read_bytes() == before
        done = call(arguments.program, "inspect", "--verify", str(run))
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("| file | flips | found | unused | missed |")
    print("|---|---|---|---|---|")
    for row, counts in sorted(table.items()):
        print(f"| {row} | {counts['flips']} | {counts['found']} | {counts['unused']} | {counts['missed']} |")
    for line in missed:
        print("missed: " + line, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
