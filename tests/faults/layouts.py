#!/usr/bin/env python3
"""Every pair of 8 layouts: one layout loads a checkpoint that the other wrote, with the same bits.

    tests/faults/layouts.py PROGRAM [--short]

A run of every layout saves step 4. Every layout then resumes a copy of each and saves after one step whose learning rate
is 0 in f32, so that the weights that it saves are those that it loaded; they are compared bitwise. The step does move the
moments, by (1 - beta) of a gradient that differs by rounding between layouts; they are compared with those that the saving
layout itself has after that step, to 1e-4 of each tensor's largest.
"""
import array
import shutil
import sys

from faultlib import Lab, Sweep, arguments, manifest_of, set_flags

LAYOUTS = {
    "pp 1 × dp 1": (1, []),
    "pp 2": (2, ["parallel.pp=2"]),
    "pp 2 × dp 2, sharded": (4, ["parallel.pp=2", "parallel.sharded_optimizer=true"]),
    "dp 2": (2, []),
    "dp 2, sharded": (2, ["parallel.sharded_optimizer=true"]),
    "pp 2 × dp 2": (4, ["parallel.pp=2"]),
    "pp 4": (4, ["parallel.pp=4"]),
    "pp 2, interleaved": (2, ["parallel.pp=2", "parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b"]),
}
NEUTRAL = ["parallel.pp=1", "parallel.virtual_stages=1", "parallel.schedule=1f1b", "parallel.sharded_optimizer=false"]


def tensors(checkpoint):
    """Bytes of each whole tensor, from the shards themselves."""
    whole = {}
    for piece in manifest_of(checkpoint)["pieces"]:
        assert piece["dtype"] == "f32"
        elements = 1
        for dim in piece["shape"]:
            elements *= dim
        out = whole.setdefault((piece["kind"], piece["tensor"]), bytearray(4 * elements))
        with open(checkpoint / piece["file"], "rb") as file:
            file.seek(piece["address"])
            out[4 * piece["offset"] : 4 * (piece["offset"] + piece["count"])] = file.read(4 * piece["count"])
    return whole


def moments_differ(actual, expected):
    worst = 0.0
    for key, data in expected.items():
        if key[0] == "model":
            continue
        a, e = array.array("f", bytes(actual[key])), array.array("f", bytes(data))
        largest = max(abs(x) for x in e) or 1.0
        worst = max(worst, max(abs(x - y) for x, y in zip(a, e)) / largest)
    return worst


def pair(lab, saved, layout, before, expected):
    """Loads a copy of `saved` in the layout and saves it. Returns (failure, saved tensors)."""
    ranks, sets = layout
    copy = lab.path("copy")
    shutil.copytree(saved, copy)
    named = {value.split("=")[0] for value in sets}
    sets = sets + [value for value in NEUTRAL if value.split("=")[0] not in named] + ["optimizer.lr=1e-300"]
    try:
        lab.must("train", "--resume", copy, "--stop-after", "5", *set_flags(sets), ranks=ranks, code=75)
        loaded = tensors(copy / "checkpoints/step_00000005")
    except RuntimeError as error:
        return str(error), None
    finally:
        shutil.rmtree(copy)
    if loaded.keys() != before.keys() or any(loaded[key] != data for key, data in before.items() if key[0] == "model"):
        return "weights DIFFER", loaded
    difference = moments_differ(loaded, expected or loaded)
    return f"moments differ by {difference:.1e}" if difference > 1e-4 else "", loaded


def main():
    options = arguments(__doc__)
    layouts = dict(list(LAYOUTS.items())[:3]) if options.short else LAYOUTS
    with Lab(options.program, {"model.num_hidden_layers": 6, "train.steps": 40}) as lab:
        sweep = Sweep(options, f"a checkpoint of each of {len(layouts)} layouts loaded in each of them",
                      "weights bitwise equal, moments to 1e-4")
        for number, (saved, (ranks, sets)) in options.part.of(list(enumerate(layouts.items()))):
            run = lab.path(f"save{number}")
            lab.must("train", "train.toml", "--run-directory", run, "--stop-after", "4", *set_flags(sets), ranks=ranks,
                     code=75)
            before, expected = tensors(run / "checkpoints/step_00000004"), None
            for loading in [saved] + [name for name in layouts if name != saved]:  # the reference of the comparisons comes first
                failure, loaded = pair(lab, run, layouts[loading], before, expected)
                expected = expected or loaded
                sweep.trial(failure and f"{saved} -> {loading}: {failure}")
    return sweep.finish()


if __name__ == "__main__":
    sys.exit(main())
