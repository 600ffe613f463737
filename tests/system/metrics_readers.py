#!/usr/bin/env python3
"""Reads what a run writes for other programs with those programs' own readers, and compares it with metrics.jsonl.

    tests/system/metrics_readers.py PROGRAM

TensorBoard's reader must show exactly the steps of the current lineage: after a resume, after the run went back to an
earlier checkpoint, and after it returned to the branch that it had left. The Prometheus client's parser must read the
text file. Ends with 77 (skipped) without the Python packages tensorboard and prometheus_client, which .ci/run installs.
"""
import json
import math
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "build/python"))
try:
    from prometheus_client.parser import text_string_to_metric_families
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError as error:
    print(f"metrics_readers: {error}")
    sys.exit(77)

CONFIG = """[model]
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 2
head_dim = 8
intermediate_size = 24
vocab_size = 257

[mtp]
depths = 1
diagnose_every = 4

[data]
path = "{data}"
validation_path = "{data}"
sequence_length = 16

[train]
steps = 20
global_batch = 4
microbatch = 1
evaluate_every = 3
evaluate_rows = 2

[parallel]
threads = 1

[checkpoint]
every = 5
keep = 10

[run]
log_every = 2

[metrics]
tensorboard = true
prometheus = "out.prom"
"""


def expect(condition, *what):
    if not condition:
        sys.exit(f"metrics_readers: {' '.join(map(str, what))}")


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120)
    expect(done.returncode in (0, 75), words, done.returncode, done.stdout, done.stderr)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def shown(folder):
    """{tag: [(step, value), ...]} as TensorBoard shows it."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def compare(folder, what):
    scalars = shown(folder)
    tags = {("step", "lr"): "lr", ("step", "grad_norm"): "grad_norm", ("step", "loss"): "loss/objective",
            ("step", "main_loss"): "loss/main", ("step", "mtp1_loss"): "loss/mtp1",
            ("step", "tokens_per_second"): "tokens_per_second", ("step", "mtp1_acceptance"): "acceptance/mtp1",
            ("evaluation", "main_loss"): "evaluation/loss/main"}
    for (kind, name), tag in tags.items():
        written = [(line["step"], line[name]) for line in lines_of(folder) if line["kind"] == kind and name in line]
        expect(len(written) > 0, what, name, "is in no line")
        expect([step for step, _ in written] == [step for step, _ in scalars[tag]], what, tag, written, scalars[tag])
        for (_, value), (step, read) in zip(written, scalars[tag]):
            expect(math.isclose(value, read, rel_tol=1e-6), what, tag, step, value, read)


def read_prometheus(file, run_name):
    families = {family.name: family for family in text_string_to_metric_families(file.read_text())}
    for family in families.values():
        expect(family.documentation and family.type in ("gauge", "counter"), family)
        expect(all(sample.labels["run"] == run_name for sample in family.samples), family)
    return families


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="foretoken-readers-") as name:
        folder = pathlib.Path(name)
        (folder / "text").mkdir()
        (folder / "text/a.txt").write_text("".join(f"line {i} of a text that repeats itself\n" for i in range(200)))
        run(program, "tokenize", folder / "text", "-o", folder / "data.h5")
        (folder / "train.toml").write_text(CONFIG.format(data=folder / "data.h5"))
        path = folder / "run"
        checkpoints = path / "checkpoints"
        run(program, "train", folder / "train.toml", "--run-directory", path, "--stop-after", 12)
        compare(path, "a new run:")
        run(program, "train", "--resume", path, "--stop-after", 17)
        compare(path, "a resumed run:")
        run(program, "train", "--resume", checkpoints / "step_00000010", "--stop-after", 14, "--set", "optimizer.lr=1e-3")
        expect(max(line["step"] for line in lines_of(path)) == 14, "the run did not go back")
        compare(path, "a run that went back:")
        run(program, "train", "--resume", checkpoints / "abandoned/branch_1/step_00000017")
        compare(path, "a run that returned to its first branch:")

        families = read_prometheus(folder / "out.prom", "run")
        value = {name: family.samples[0].value for name, family in families.items()}
        last = [line for line in lines_of(path) if line["kind"] == "step"][-1]
        expect(value["foretoken_step"] == 20 and value["foretoken_running"] == 0, value)
        expect(math.isclose(value["foretoken_loss"], last["main_loss"]), value, last)
        expect(value["foretoken_tokens_seen"] == last["tokens_seen"], value, last)


main()
