#!/usr/bin/env python3
"""Flips one random bit at a time in datasets, checkpoints and text files of a run, and counts what is found.

    tests/faults/bit_flips.py PROGRAM [--flips 1000] [--seed 1] [--short]

A flip is found where `foretoken inspect --verify` ends with code 3 and names the file. A flip in a JSON file that leaves
its meaning as it was (a space became another one) is unused; every other flip that is not found is missed.
"""
import json
import sys

from faultlib import Lab, Sweep, arguments, checkpoints, random_of


def targets(lab, run):
    """(row of the table, path to inspect, file)"""
    yield "token dataset", lab.path("data.h5"), lab.path("data.h5")
    for file in sorted(checkpoints(run)[-1].iterdir()):
        yield "checkpoint: " + ("shards" if file.name.startswith("shard") else file.name), run, file
    for name in ["config.toml", "metrics.jsonl"]:
        yield name, run, run / name


def flip(path, position, bit):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))


def harmless(path, before):
    try:
        return path.suffix == ".json" and json.loads(path.read_bytes()) == json.loads(before)
    except ValueError:
        return False


def main():
    options = arguments(__doc__, flips={"type": int, "default": 1000}, seed={"type": int, "default": 1})
    flips = 60 if options.short else options.flips
    draw = random_of(options)
    table = {}
    settings = {"model.hidden_size": 16, "model.head_dim": 8, "model.intermediate_size": 24, "train.steps": 4,
                "optimizer.warmup_steps": 2, "data.sequence_length": 16, "parallel.sharded_optimizer": True}
    with Lab(options.program, settings) as lab:
        sweep = Sweep(options, "one bit flipped in a dataset, a checkpoint, config.toml or metrics.jsonl, then `inspect "
                      "--verify`", "{found} found, {unused} without meaning, {wrong} missed")
        run = lab.path("run")
        lab.must("train", "train.toml", "--run-directory", run)
        files = list(targets(lab, run))
        for number in options.part.of(flips):
            # Datasets and checkpoints in turn; the text files, which are small, every tenth time.
            group = ("config.toml", "metrics.jsonl") if number % 10 == 9 else ["token dataset", "checkpoint"][number % 2]
            row, inspected, file = draw.choice([target for target in files if target[0].startswith(group)])
            before = file.read_bytes()
            position, bit = draw.randrange(len(before)), draw.randrange(8)
            flip(file, position, bit)
            done = lab.call("inspect", "--verify", inspected)
            found = done.returncode == 3 and file.name in done.stdout
            unused = not found and done.returncode == 0 and harmless(file, before)
            counts = table.setdefault(row, [0, 0, 0, 0])
            for place, counted in enumerate([True, found, unused, not found and not unused]):
                counts[place] += counted
            sweep.count(found=found, unused=unused)
            sweep.trial("" if found or unused else f"{file}: byte {position} bit {bit}: code {done.returncode}")
            flip(file, position, bit)
            assert file.read_bytes() == before
        lab.must("inspect", "--verify", run)
    sweep.headings("file", "flips", "found", "unused", "missed")
    for row, counts in sorted(table.items()):
        sweep.detail(row, *counts)
    return sweep.finish()


if __name__ == "__main__":
    sys.exit(main())
