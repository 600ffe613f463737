#!/usr/bin/env python3
"""Cuts the link between two hosts under a run: two network namespaces of this machine, joined by a veth pair.

    tests/faults/cut_link.py PROGRAM [--trials N] [--short]

The link is down for some seconds and heals: the final weights must have the same bits as without. It is cut for good: the
ranks of both hosts must be gone within parallel.timeout_seconds + 15 s and say which hosts lost each other. Needs root,
`ip netns` and `unshare`; ends with 77 (skipped) where it may not use them. All traffic stays inside the namespaces, which
it removes. Prints a Markdown table.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 10  # seconds, parallel.timeout_seconds; with --short 5
GRACE = 15  # seconds after it, in which all must be gone
MARK = "FORETOKEN_CUT_LINK"  # in the environment of every process of a trial
SKIPPED = 77
CONFIG = """
[model]
hidden_size = 16
num_hidden_layers = 4
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
steps = {steps}
global_batch = 8
microbatch = 1
[checkpoint]
every = {steps}
[parallel]
pp = 2
dp = 2
threads = 1
timeout_seconds = {limit}
"""


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


class Hosts:
    """Two namespaces "hosts" and the link between them."""

    def __init__(self, folder):
        self.names = [f"foretoken-{os.getpid()}-{side}" for side in "ab"]
        self.addresses = ["10.213.77.1", "10.213.77.2"]
        self.agent = folder / "agent.sh"
        # Open MPI starts its daemon on the other host through this, as through ssh. A PID namespace keeps the hosts'
        # processes apart.
        self.agent.write_text("#!/bin/bash\nshift\n"
                              f"exec ip netns exec {self.names[1]} unshare --uts --pid --fork --mount-proc --kill-child "
                              f"bash -c \"hostname host-b; $*; exit \\$?\"\n")  # bash stays as process 1, which no signal reaches
        self.agent.chmod(0o755)

    def __enter__(self):
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", "fa", "netns", self.names[0], "type", "veth", "peer", "name", "fb", "netns", self.names[1])
        for name, device, address in zip(self.names, ["fa", "fb"], self.addresses):
            ip("-n", name, "addr", "add", address + "/24", "dev", device)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", device, "up")
        return self

    def __exit__(self, *_):
        for name in self.names:
            ip("netns", "del", name, check=False)

    def link(self, state):
        ip("-n", self.names[0], "link", "set", "fa", state)

    def mpirun(self):
        hosts = ",".join(address + ":2" for address in self.addresses)
        network = self.addresses[0].rsplit(".", 1)[0] + ".0/24"
        return ["ip", "netns", "exec", self.names[0], "unshare", "--uts", "bash", "-c", 'hostname host-a; exec "$@"', "-",
                "mpirun", "-n", "4", "--host", hosts, "--bind-to", "none", "--leave-session-attached",
                "--mca", "plm_rsh_agent", str(self.agent), "--mca", "btl", "tcp,vader,self",
                "--mca", "btl_tcp_if_include", network, "--mca", "oob_tcp_if_include", network]


def marked(mark):
    """Processes of a trial: (pid, command)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((int(entry.name), (entry / "comm").read_text().strip()))
        except OSError:
            continue
    return found


def steps_in(run):
    try:
        return (run / "metrics.jsonl").read_text().count('"kind":"step"')
    except OSError:
        return 0


def digests(run):
    manifests = sorted((run / "checkpoints").glob("step_*/manifest.json"))
    if not manifests:
        return None
    pieces = json.loads(manifests[-1].read_text())
    found = []

    def collect(value):
        if isinstance(value, dict):
            if "digest" in value and "tensor" in value:
                found.append((value["tensor"], value.get("kind"), value["digest"]))
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    collect(pieces)
    return sorted(map(str, found)) or None


class Trial:
    def __init__(self, arguments, hosts, folder, steps, name):
        self.run = folder / name
        self.mark = f"{os.getpid()}-{name}"
        self.out = folder / (name + ".txt")
        config = folder / (name + ".toml")
        config.write_text(CONFIG.format(data=folder / "data.h5", steps=steps, limit=LIMIT))
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        environment[MARK] = self.mark
        command = hosts.mpirun() + [arguments.program, "train", str(config), "--run-directory", str(self.run)]
        with open(self.out, "wb") as out:
            self.job = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)

    def processes(self, name):
        return [pid for pid, command in marked(self.mark) if command.startswith(name)]

    def wait_for_step(self, step):
        end = time.monotonic() + 60
        while steps_in(self.run) < step and self.job.poll() is None and time.monotonic() < end:
            time.sleep(0.01)

    def end(self):
        for pid, _ in marked(self.mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        if self.job.poll() is None:
            self.job.kill()
        return self.job.wait()

    def text(self):
        return self.out.read_text(errors="replace")


def heal(arguments, hosts, folder, expected, seconds, number):
    trial = Trial(arguments, hosts, folder, arguments.steps, f"healed{number}")
    try:
        trial.wait_for_step(5)
        hosts.link("down")
        time.sleep(seconds)
        hosts.link("up")
        try:
            code = trial.job.wait(60)
        except subprocess.TimeoutExpired:
            code = None
        same = digests(trial.run) == expected
        right = code == 0 and same
        print(f"| down for {seconds} s | {code} | weights {'equal' if same else 'differ'} | | {'yes' if right else 'NO'} |",
              flush=True)
        return right
    finally:
        trial.end()
        hosts.link("up")
        if arguments.verbose:
            print(trial.text(), file=sys.stderr)


def cut(arguments, hosts, folder, number):
    trial = Trial(arguments, hosts, folder, 1000000, f"cut{number}")
    try:
        trial.wait_for_step(5)
        hosts.link("down")
        start = time.monotonic()
        gone = {}
        awaited = ["foretoken", "orted"] if arguments.short else ["foretoken", "orted", "mpirun"]
        while time.monotonic() - start < LIMIT + GRACE + 10 and not all(name in gone for name in awaited):
            for name in ["foretoken", "orted", "mpirun"]:
                if name not in gone and not trial.processes(name):
                    gone[name] = time.monotonic() - start
            time.sleep(0.1)
        words = trial.text()
        said = "the connection between hosts host-a and host-b" in words or "host-b" in words and "flight records" in words
        code = trial.job.poll()
        right = all(gone.get(name, 1e9) <= LIMIT + GRACE for name in ["foretoken", "orted"]) and said
        times = ", ".join(f"{name} {gone[name]:.1f} s" if name in gone else f"{name} stays" for name in
                          ["foretoken", "orted", "mpirun"])
        print(f"| cut for good | {code} | hosts {'named' if said else 'NOT named'} | {times} | {'yes' if right else 'NO'} |",
              flush=True)
        if not right or arguments.verbose:
            print(words[-4000:], file=sys.stderr)
        return right
    finally:
        trial.end()
        hosts.link("up")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="one trial of each")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the namespaces are removed
    global LIMIT
    if arguments.short:
        LIMIT = 5
    if os.getuid() != 0 or not all(shutil.which(tool) for tool in ["ip", "unshare", "mpirun"]):
        print("skipped: needs root, ip, unshare and mpirun")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="cut-link-") as name:
        folder = Path(name)
        try:
            hosts = Hosts(folder).__enter__()
        except subprocess.CalledProcessError as error:
            Hosts(folder).__exit__()
            print(f"skipped: no network namespaces here: {error.stderr.strip()}")
            return SKIPPED
        with_errors = False
        try:
            (folder / "text").mkdir()
            (folder / "text" / "a.txt").write_text("".join(f"line {i} of a text, {i % 7} times\n" for i in range(400)))
            subprocess.run([arguments.program, "tokenize", str(folder / "text"), "-o", str(folder / "data.h5")], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            undisturbed = Trial(arguments, hosts, folder, arguments.steps, "undisturbed")
            code = undisturbed.job.wait(120)
            expected = digests(undisturbed.run)
            if code != 0 or not expected:
                print(undisturbed.text(), file=sys.stderr)
                return 1
            print("| link | exit code of mpirun | result | gone after the cut | as it must be |\n|---|---|---|---|---|", flush=True)
            for number in range(1 if arguments.short else arguments.trials):
                with_errors |= not heal(arguments, hosts, folder, expected, 2 if arguments.short else 3 + number, number)
                with_errors |= not cut(arguments, hosts, folder, number)
        finally:
            hosts.__exit__()
    return 1 if with_errors else 0


if __name__ == "__main__":
    sys.exit(main())
