"""Shared by the fault sweeps: a small training run, its processes, its files, and the row of the table."""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIPPED = 77  # exit code: this host cannot run the sweep

# mpirun starts for root, as in a container.
os.environ.setdefault("OMPI_ALLOW_RUN_AS_ROOT", "1")
os.environ.setdefault("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")

SETTINGS = {
    "model.hidden_size": 32,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 2,
    "model.num_key_value_heads": 2,
    "model.head_dim": 16,
    "model.intermediate_size": 64,
    "model.vocab_size": 257,
    "mtp.depths": 2,
    "data.sequence_length": 32,
    "train.steps": 1000000,
    "train.global_batch": 8,
    "train.microbatch": 1,
    "parallel.threads": 1,
    "run.device": "cpu",
}


class Part:
    """One of `count` equal parts of a sweep, so that several processes can divide its trials."""

    def __init__(self, text="0/1"):
        self.index, self.count = (int(number) for number in text.split("/"))
        if not 0 <= self.index < self.count:
            raise ValueError

    def of(self, trials):
        """The trials of this part: numbers below `trials`, or items of a list."""
        if isinstance(trials, int):
            trials = range(trials)
        return trials[len(trials) * self.index // self.count : len(trials) * (self.index + 1) // self.count]


def command_line(doc, **options):
    """PROGRAM, --short and `options`, each a dict for add_argument. SIGTERM ends the process as an error does, so that
    nothing is left behind."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("program", help="the built foretoken")
    parser.add_argument("--short", action="store_true", help="few trials")
    for name, how in options.items():
        parser.add_argument("--" + name, **how)
    parsed = parser.parse_args()
    parsed.program = os.path.abspath(parsed.program)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return parsed


def arguments(doc, **options):
    """A sweep's command line: the arguments of command_line(), --part and --tally."""
    return command_line(
        doc, **options,
        part={"type": Part, "default": "0/1", "metavar": "K/N", "help": "part K (from 0) of N parts of the trials"},
        tally={"help": "file that receives the counts after every trial"})


def random_of(options):
    """Random numbers that differ between parts and are the same in every run."""
    return random.Random(f"{getattr(options, 'seed', 1)}, part {options.part.index} of {options.part.count}")


def enter_mount_namespace(*tools):
    """Starts this sweep once more in a mount namespace of its own, whose mounts end with it. Returns why it may not."""
    missing = [tool for tool in ["unshare", "mount", *tools] if not shutil.which(tool)]
    if os.geteuid() != 0 or missing:
        return "needs root, " + ", ".join(["unshare", "mount", *tools])
    if "FORETOKEN_MOUNTS" in os.environ:
        return ""
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        return "no mount namespaces here"
    os.environ["FORETOKEN_MOUNTS"] = "1"
    os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])


def mpirun(ranks):
    """Words of the command that starts the ranks; empty for one rank, which needs no launcher."""
    return [] if ranks == 1 else ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"]


def set_flags(values):
    return [word for value in values for word in ("--set", value)]


class Lab:
    """A temporary folder with text, data.h5 and train.toml: SETTINGS, changed by `settings`."""

    def __init__(self, program, settings=()):
        self.program = program
        self.settings = dict(SETTINGS, **dict(settings))
        self.started = []

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="foretoken-faults-")
        self.folder = pathlib.Path(self.temporary.name)
        (self.folder / "text").write_text(
            "".join(f"line {i} of a text that repeats itself, {i % 7} times\n" for i in range(3000)))
        self.must("tokenize", "text", "-o", "data.h5")
        self.write_config("train.toml")
        return self

    def __exit__(self, *_):
        for job in self.started:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
                job.wait()
        self.temporary.cleanup()

    def path(self, name):
        return self.folder / name

    def write_config(self, name, **changed):
        """Writes a configuration with settings given as section__key. Returns its path."""
        settings = dict(self.settings, **{key.replace("__", "."): value for key, value in changed.items()})
        settings.setdefault("data.path", str(self.folder / "data.h5"))
        sections = {}
        for key, value in settings.items():
            section, name_in_section = key.split(".")
            sections.setdefault(section, []).append(f"{name_in_section} = {json.dumps(value)}\n")
        self.path(name).write_text("".join(f"[{section}]\n{''.join(lines)}" for section, lines in sections.items()))
        return self.path(name)

    def call(self, *words, ranks=1, timeout=300, **options):
        """Runs a command of the program. Returns the finished process; `stdout` has its stdout and stderr."""
        return subprocess.run([*mpirun(ranks), self.program, *map(str, words)], cwd=self.folder, text=True,
                              errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                              check=False, **options)

    def must(self, *words, code=0, **options):
        """The same. Raises an error if the exit code is another one."""
        done = self.call(*words, **options)
        if done.returncode != code:
            raise RuntimeError(f"{words[0]}: code {done.returncode}, not {code}: {done.stdout[-800:]}")
        return done.stdout

    def start(self, *words, ranks=1, output=subprocess.PIPE, **options):
        """Starts a command in a session of its own, which ends with the lab."""
        job = subprocess.Popen([*mpirun(ranks), self.program, *map(str, words)], cwd=self.folder, text=True,
                               errors="replace", stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                               **options)
        self.started = [each for each in self.started if each.poll() is None] + [job]
        return job

    def verified(self, run):
        return self.call("inspect", "--verify", run).returncode == 0


# Processes


def stat_of(pid):
    """Fields of /proc/PID/stat: (name, state, parent); None if there is no such process."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return text[text.index("(") + 1 : text.rindex(")")], fields[0], int(fields[1])


def alive(pid):
    stat = stat_of(pid)
    return stat is not None and stat[1] not in "ZX"


def processes():
    return [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()]


def environment_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def ranks_of(launcher):
    """Pids of the ranks that this mpirun started, by rank."""
    ranks = {}
    for pid in processes():
        stat = stat_of(pid)
        if stat is None or stat[2] != launcher:
            continue
        for variable in environment_of(pid):
            if variable.startswith(b"OMPI_COMM_WORLD_RANK="):
                ranks[int(variable.split(b"=")[1])] = pid
    return ranks


def wait_for(condition, seconds, pause=0.005):
    """Polls the condition. Returns whether it became true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


# Files of a run


def steps_in(run):
    """Steps in metrics.jsonl."""
    try:
        return (run / "metrics.jsonl").read_text(errors="replace").count('{"kind":"step",')
    except OSError:
        return 0


def step_numbers(run):
    """The step of each line of metrics.jsonl, in its order."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if line["kind"] == "step"]


def checkpoints(run):
    """Complete checkpoints, oldest first."""
    found = (run / "checkpoints").glob("step_*") if run.exists() else []
    return sorted(path for path in found if path.name[5:].isdigit())


def newest_step(run):
    found = checkpoints(run)
    return int(found[-1].name[5:]) if found else None


def manifest_of(checkpoint):
    return json.loads((checkpoint / "manifest.json").read_text())["checkpoint"]


def digests(run):
    """Digests of weights and moments of the newest checkpoint; equal digests mean equal bits."""
    found = checkpoints(run)
    if not found:
        return None
    return {(piece["kind"], piece["tensor"], piece["offset"]): (piece["count"], piece["digest"])
            for piece in manifest_of(found[-1])["pieces"]}


# The table

HEADER = "| sweep | what was done | trials | result | time |\n|---|---|---|---|---|"


class Tally:
    """Counts of a sweep. The counts of its parts add up to the counts of the whole sweep."""

    def __init__(self, name, what, result, trials=0, wrong=(), sums=(), maxima=()):
        self.name, self.what, self.result, self.trials = name, what, result, trials
        self.wrong = list(wrong)
        self.sums, self.maxima = collections.Counter(sums), collections.Counter(maxima)

    def add(self, other):
        self.trials += other.trials
        self.wrong += other.wrong
        self.sums.update(other.sums)
        self.maxima |= other.maxima

    def row(self, seconds):
        """`result` names the counts in braces."""
        numbers = collections.defaultdict(int, self.sums | self.maxima, trials=self.trials, wrong=len(self.wrong),
                                          right=self.trials - len(self.wrong))
        wrong = f"; **{len(self.wrong)} wrong**: {self.wrong[0].splitlines()[0][:200]}".replace("|", "/") if self.wrong else ""
        took = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
        return f"| {self.name} | {self.what} | {self.trials} | {self.result.format_map(numbers)}{wrong} | {took} |"


class Sweep:
    """Counts trials and failures. finish() prints the sweep's row, always as the last line of stdout."""

    def __init__(self, options, what, result):
        """`result` names in braces the counts of count() and most(); {trials}, {right} and {wrong} always exist."""
        self.tally = Tally(pathlib.Path(sys.argv[0]).stem, what, result)
        self.file = options.tally and pathlib.Path(options.tally)
        self.start = time.monotonic()

    def detail(self, *cells):
        """One row of a table of details."""
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)

    def headings(self, *cells):
        self.detail(*cells)
        self.detail(*["---"] * len(cells))

    def count(self, **numbers):
        self.tally.sums.update({name: int(number) for name, number in numbers.items()})

    def most(self, **numbers):
        self.tally.maxima |= collections.Counter(numbers)

    def trial(self, failure=""):
        """Counts one trial; it failed if `failure` is not empty."""
        self.tally.trials += 1
        self.check(failure)

    def check(self, failure):
        """Checks that belong to no single trial, such as the check at the end."""
        if failure:
            self.tally.wrong.append(failure)
            print(f"{self.tally.name}: {failure}", file=sys.stderr, flush=True)
        if self.file:
            self.file.write_text(json.dumps(vars(self.tally)))

    def finish(self):
        """The process's exit code."""
        self.check("")
        print(f"\n{HEADER}\n{self.tally.row(time.monotonic() - self.start)}", flush=True)
        return 1 if self.tally.wrong else 0
