#!/usr/bin/env python3
"""Cuts the link between two hosts under a run: two network namespaces of this machine, joined by a veth pair.

    tests/faults/cut_link.py PROGRAM [--trials 3] [--short]

In each trial, with mpirun alone and with `foretoken run`:
- The link is down for some seconds and heals: the final weights have the same bits as without.
- It is cut for good: the ranks of both hosts are gone within parallel.timeout_seconds + 15 s and say which hosts lost each
  other; under `foretoken run` mpirun, its daemons and the supervisor are gone as well, on both hosts.
- It is cut for good under `foretoken run --hostfile`. With --elastic the run goes on with the ranks of the host that is
  left; without it the run goes on once the link is there again, and ends with the same bits.

Needs root, `ip netns` and `unshare`; ends with 77 (skipped) where it may not use them. All traffic stays inside the
namespaces, which it removes.
"""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from faultlib import SKIPPED, Lab, Sweep, arguments, digests, environment_of, newest_step, processes, stat_of, steps_in, wait_for

LIMIT = 10  # seconds, parallel.timeout_seconds; with --short 5
GRACE = 15  # seconds after it, in which all must be gone
STEPS = 400
MARK = "FORETOKEN_CUT_LINK"  # in the environment of every process of a trial
PORT = 2022


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


def serve(address):
    """Host b's remote shell: a connection sends a command line and receives its output. As under sshd, the command goes
    on when the connection does not."""
    def handle(connection):
        line = connection.makefile("rb").readline().decode()
        subprocess.run(["bash", "-c", line], stdin=subprocess.DEVNULL, stdout=connection, stderr=connection,
                       start_new_session=True, check=False)
        connection.shutdown(socket.SHUT_RDWR)

    server = socket.create_server((address, PORT))
    while True:
        threading.Thread(target=handle, args=[server.accept()[0]], daemon=True).start()


def remote_shell(words):
    """Stands for ssh when mpirun starts its daemon: HOST COMMAND..."""
    connection = socket.create_connection((words[0], PORT), timeout=5)
    connection.settimeout(None)
    connection.sendall(f"export {MARK}={os.environ.get(MARK, '')}; {' '.join(words[1:])}\n".encode())
    while data := connection.recv(65536):
        os.write(1, data)
    return 0


class Hosts:
    """Two namespaces "hosts" and the link between them. A PID namespace keeps their processes apart."""

    def __init__(self, lab):
        self.names = [f"foretoken-{os.getpid()}-{side}" for side in "ab"]
        self.addresses = ["10.213.77.1", "10.213.77.2"]
        self.agent = lab.path("agent.sh")
        self.agent.write_text(f'#!/bin/sh\nexec {sys.executable} {os.path.abspath(__file__)} --remote-shell "$@"\n')
        self.agent.chmod(0o755)
        self.hostfile = lab.path("hosts")
        self.hostfile.write_text("".join(f"{address} slots=2\n" for address in self.addresses))

    def __enter__(self):
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", "fa", "netns", self.names[0], "type", "veth", "peer", "name", "fb", "netns", self.names[1])
        for name, device, address in zip(self.names, ["fa", "fb"], self.addresses):
            ip("-n", name, "addr", "add", address + "/24", "dev", device)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", device, "up")
        self.server = subprocess.Popen(
            ["ip", "netns", "exec", self.names[1], "unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child",
             "bash", "-c", f"hostname host-b; {sys.executable} {os.path.abspath(__file__)} --serve {self.addresses[1]}; exit 0"])
        self.wait_for_b()
        return self

    def __exit__(self, *_):
        if hasattr(self, "server"):
            self.server.kill()
            self.server.wait()
        for name in self.names:
            ip("netns", "del", name, check=False)

    def wait_for_b(self):
        """Until host a reaches host b's remote shell: after a cut the route needs some time."""
        connect = ["ip", "netns", "exec", self.names[0], "bash", "-c", f"echo > /dev/tcp/{self.addresses[1]}/{PORT}"]
        if not wait_for(lambda: subprocess.run(connect, capture_output=True, check=False).returncode == 0, 30, pause=0.1):
            raise RuntimeError("host b's remote shell does not answer")

    def link(self, state):
        """Takes host b's end of the link down or up: host a sees a cable without a carrier."""
        ip("-n", self.names[1], "link", "set", "fb", state)

    def on_host_a(self):
        return ["ip", "netns", "exec", self.names[0], "unshare", "--uts", "bash", "-c", 'hostname host-a; exec "$@"', "-"]

    def flags(self):
        return ["--host", ",".join(address + ":2" for address in self.addresses)]

    def mpirun(self):
        network = self.addresses[0].rsplit(".", 1)[0] + ".0/24"
        return ["mpirun", "--bind-to", "none",
                "--leave-session-attached", "--mca", "btl", "tcp,vader,self", "--mca", "btl_tcp_if_include", network,
                "--mca", "oob_tcp_if_include", network]


class Trial:
    def __init__(self, hosts, lab, name, *flags, steps=STEPS, supervised=False):
        """Starts the run; `flags` are flags of foretoken run and need `supervised`."""
        self.hosts, self.name, self.run = hosts, name, lab.path(name)
        self.mark, self.out = f"{os.getpid()}-{name}", lab.path(name + ".txt")
        config = str(lab.write_config(name + ".toml", train__steps=steps, parallel__timeout_seconds=LIMIT))
        if supervised:
            launcher = hosts.mpirun() + ([] if "--hostfile" in flags else hosts.flags())
            words = [lab.program, "run", config, "-n", "4", "--launcher", " ".join(launcher), *map(str, flags)]
        else:
            words = [*hosts.mpirun(), *hosts.flags(), "-n", "4", lab.program, "train", config]
        environment = dict(os.environ, OMPI_MCA_plm_rsh_agent=str(hosts.agent), **{MARK: self.mark})
        with open(self.out, "wb") as out:
            self.job = subprocess.Popen([*hosts.on_host_a(), *words, "--run-directory", str(self.run)], stdout=out,
                                        stderr=subprocess.STDOUT, env=environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.marked():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.job.kill()
        self.job.wait()
        self.hosts.link("up")
        self.hosts.wait_for_b()

    def marked(self, name=""):
        """Processes of this trial on both hosts whose name begins with the argument."""
        found = [pid for pid in processes() if f"{MARK}={self.mark}".encode() in environment_of(pid)]
        return [pid for pid in found if (stat := stat_of(pid)) and stat[0].startswith(name) and stat[1] not in "ZX"]

    def cut_at_step(self, step):
        wait_for(lambda: steps_in(self.run) >= step or self.job.poll() is not None, 60)
        if steps_in(self.run) < step:
            raise RuntimeError(f"{self.name} did not reach step {step}: {self.text()[-4000:]}")
        self.hosts.link("down")

    def text(self):
        return self.out.read_text(errors="replace")

    def end(self, seconds):
        try:
            return self.job.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


def healed(hosts, lab, name, expected, seconds):
    with Trial(hosts, lab, name) as trial:
        trial.cut_at_step(5)
        time.sleep(seconds)
        hosts.link("up")
        code = trial.end(60)
        same = digests(trial.run) == expected
        return f"code {code}", "" if code == 0 and same else f"code {code}, weights {'equal' if same else 'DIFFER'}"


def cut(hosts, lab, name, supervised):
    flags = ["--max-restarts", 0] if supervised else []
    with Trial(hosts, lab, name, *flags, steps=1000000, supervised=supervised) as trial:
        trial.cut_at_step(5)
        start, gone = time.monotonic(), {}
        awaited = ["foretoken", "orted"] + (["mpirun", ""] if supervised else [])
        while time.monotonic() - start < LIMIT + GRACE + 10 and len(gone) < len(awaited):
            for each in awaited:
                if each not in gone and not trial.marked(each):
                    gone[each] = time.monotonic() - start
            time.sleep(0.1)
        words = trial.text()
        said = "the connection between hosts host-a and host-b" in words or "host-b" in words and "flight records" in words
        late = [each or "all" for each in awaited if gone.get(each, 1e9) > LIMIT + GRACE]
        seen = ", ".join(f"{each or 'all'} {gone[each]:.1f} s" for each in awaited if each in gone)
        failure = f"not gone in time: {', '.join(late)} (gone: {seen})" if late else "" if said else "hosts are NOT named"
        return f"gone: {seen}", failure and f"{failure}\n{words[-4000:]}"


def left(hosts, lab, name):
    with Trial(hosts, lab, name, "--hostfile", hosts.hostfile, "--elastic", supervised=True) as trial:
        trial.cut_at_step(60)
        code = trial.end(120)
        words, done = trial.text(), newest_step(trial.run)
        said = f"1 of 2 are available: {hosts.addresses[0]}:2" in words
        failure = "" if code == 0 and said and done == STEPS else f"code {code}, newest step {done}\n{words[-4000:]}"
        return f"code {code}, continued with 2 of 4 ranks", failure


def returned(hosts, lab, name, expected):
    with Trial(hosts, lab, name, "--hostfile", hosts.hostfile, "--max-restarts", 20, supervised=True) as trial:
        trial.cut_at_step(60)
        time.sleep(LIMIT + GRACE + 10)
        hosts.link("up")
        code = trial.end(120)
        same = digests(trial.run) == expected
        failure = "" if code == 0 and same else f"code {code}, weights {'equal' if same else 'DIFFER'}\n{trial.text()[-4000:]}"
        return f"code {code}, weights {'equal' if same else 'DIFFER'}", failure


def main():
    if sys.argv[1] == "--serve":
        return serve(sys.argv[2])
    if sys.argv[1] == "--remote-shell":
        return remote_shell(sys.argv[2:])
    options = arguments(__doc__, trials={"type": int, "default": 3})
    global LIMIT
    LIMIT = 5 if options.short else LIMIT
    if os.getuid() != 0 or not all(shutil.which(tool) for tool in ["ip", "unshare", "mpirun"]):
        print("skipped: needs root, ip, unshare and mpirun")
        return SKIPPED
    settings = {"model.hidden_size": 16, "model.head_dim": 8, "model.intermediate_size": 24, "model.num_hidden_layers": 4,
                "mtp.depths": 1, "data.sequence_length": 16, "checkpoint.every": 50, "parallel.pp": 2, "parallel.dp": 2}
    with Lab(options.program, settings) as lab:
        hosts = Hosts(lab)
        try:
            hosts.__enter__()
        except subprocess.CalledProcessError as error:
            hosts.__exit__()
            print(f"skipped: no network namespaces here: {error.stderr.strip()}")
            return SKIPPED
        try:
            sweep = Sweep(options, "the link between two hosts (network namespaces) down for seconds, and cut for good; limit "
                          f"{LIMIT} s", "healed: weights bitwise equal; cut: the processes of both hosts gone within the limit + 15 s, "
                          "hosts named; a run continues on the other host")
            with Trial(hosts, lab, "whole") as whole:
                code, expected = whole.end(120), digests(whole.run)
                if code != 0 or not expected:
                    print(whole.text(), file=sys.stderr)
                    return 1
            sweep.headings("link", "outcome")
            cases = []
            for number in range(1 if options.short else options.trials):
                pause = 2 if options.short else 3 + number
                cases.append((f"down for {pause} s", healed, (f"healed{number}", expected, pause)))
                cases.append(("cut, foretoken run", cut, (f"supervised{number}", True)))
                if not options.short:
                    cases.append(("cut, mpirun alone", cut, (f"cut{number}", False)))
            if not options.short:
                cases.append(("cut, foretoken run --hostfile --elastic", left, ("left",)))
                cases.append(("cut, foretoken run --hostfile, later healed", returned, ("returned", expected)))
            for case, run, words in options.part.of(cases):
                try:
                    seen, failure = run(hosts, lab, *words)
                except RuntimeError as error:
                    seen, failure = "no trial", str(error)
                sweep.detail(case, seen)
                sweep.trial(failure and f"{case}: {failure}")
        finally:
            hosts.__exit__()
    return sweep.finish()


if __name__ == "__main__":
    sys.exit(main())
