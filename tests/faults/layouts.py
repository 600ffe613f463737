#!/usr/bin/env python3
"""Every pair of 8 layouts: a checkpoint that one wrote is loaded by the other with the same bits.

    tests/faults/layouts.py PROGRAM [--short]

PROGRAM is build/PRESET/bin/foretoken. A run of every layout saves step 4. Every layout then resumes a copy of each and saves
after one step whose learning rate is 0 in f32, so that the weights that it saves are those that it loaded; they are compared
bitwise. The step does move the moments, by (1 - beta) of a gradient that differs by rounding between layouts; they are compared
with those that the saving layout itself has after that step, to 1e-4 of each tensor's largest. Prints one Markdown table.
"""
import argparse, array, json, os, pathlib, shutil, subprocess, sys, tempfile, time

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("--short", action="store_true", help="3 layouts")
arguments = parser.parse_args()
program = os.path.abspath(arguments.program)

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
if arguments.short:
    LAYOUTS = dict(list(LAYOUTS.items())[:3])

CONFIG = """[model]
hidden_size = 32
num_hidden_layers = 6
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
steps = 40
global_batch = 8
microbatch = 1
[parallel]
threads = 1
"""


def train(ranks, *words):
    command = [] if ranks == 1 else ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"]
    done = subprocess.run([*command, program, "train", *words], capture_output=True, text=True, check=False)
    if done.returncode != 75:
        raise RuntimeError(f"code {done.returncode}: {(done.stdout + done.stderr)[-500:]}")


def tensors(checkpoint):
    whole = {}
    for piece in json.loads((checkpoint / "manifest.json").read_text())["checkpoint"]["pieces"]:
        assert piece["dtype"] == "f32"
        elements = 1
        for dim in piece["shape"]:
            elements *= dim
        out = whole.setdefault((piece["kind"], piece["tensor"]), bytearray(4 * elements))
        with open(checkpoint / piece["file"], "rb") as file:
            file.seek(piece["address"])
            out[4 * piece["offset"]:4 * (piece["offset"] + piece["count"])] = file.read(4 * piece["count"])
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


def sets(values):
    return [word for value in values for word in ("--set", value)]


failures, bitwise, pairs, worst = [], 0, 0, 0.0
begun = time.monotonic()
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    pathlib.Path("text").write_text("".join(f"line {i} of a text that repeats itself, {i % 7} times\n" for i in range(2000)))
    pathlib.Path("s.toml").write_text(CONFIG)
    subprocess.run([program, "tokenize", "text", "-o", "data.h5"], check=True, capture_output=True)
    for i, (ranks, layout) in enumerate(LAYOUTS.values()):
        train(ranks, "s.toml", "--run-directory", f"save{i}", "--stop-after", "4", *sets(layout))
    neutral = ["parallel.pp=1", "parallel.virtual_stages=1", "parallel.schedule=1f1b", "parallel.sharded_optimizer=false"]
    for i, saved in enumerate(LAYOUTS):
        before = tensors(pathlib.Path(f"save{i}/checkpoints/step_00000004"))
        after = {}
        order = [i] + [j for j in range(len(LAYOUTS)) if j != i]
        for j in order:
            ranks, layout = list(LAYOUTS.values())[j]
            shutil.copytree(f"save{i}", "copy")
            named = {value.split("=")[0] for value in layout}
            changed = layout + [value for value in neutral if value.split("=")[0] not in named]
            try:
                train(ranks, "--resume", "copy", "--stop-after", "5", *sets(changed + ["optimizer.lr=1e-300"]))
                loaded = tensors(pathlib.Path("copy/checkpoints/step_00000005"))
                if j == i:
                    after = loaded
                same = all(loaded[key] == data for key, data in before.items() if key[0] == "model")
                difference = moments_differ(loaded, after)
                worst = max(worst, difference)
                if same and loaded.keys() == before.keys() and difference <= 1e-4:
                    bitwise += 1
                else:
                    failures.append(f"{saved} -> {list(LAYOUTS)[j]}: weights {'same' if same else 'DIFFER'}, moments {difference:.1e}")
            except RuntimeError as error:
                failures.append(f"{saved} -> {list(LAYOUTS)[j]}: {error}")
            pairs += 1
            shutil.rmtree("copy")

print("| save layout × load layout | pairs | weights bitwise, moments agree | largest difference of moments | time |")
print("|---|---|---|---|---|")
print(f"| {len(LAYOUTS)} × {len(LAYOUTS)} | {pairs} | {bitwise} | {worst:.1e} | {time.monotonic() - begun:.0f} s |")
for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(1 if failures else 0)
