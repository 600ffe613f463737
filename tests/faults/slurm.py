#!/usr/bin/env python3
"""Training runs under a real Slurm: submitted, signalled, requeued, preempted, cancelled, killed for memory.

    tests/faults/slurm.py PROGRAM [--short] [--scenario NAME]...

Starts munged, slurmctld and two slurmd of this host's packages (slurm-wlm, munge) on loopback, all in a temporary folder,
submits the templates of launch/slurm, and compares the final weights with those of an undisturbed run, bit by bit.
Everything is ended and removed again, whatever happens. Needs root; where that or a package is missing it says so by name
and ends with code 77.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from faultlib import SKIPPED, Lab, Sweep, arguments, digests, environment_of, newest_step, processes, set_flags, stat_of, steps_in

ROOT = pathlib.Path(__file__).resolve().parents[2]
DAEMONS = ["munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue"]

SLURM_CONF = """
ClusterName=foretoken
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
TmpFS={folder}/tmp-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
MpiDefault=none
ReturnToService=2
KillWait=30
SlurmdTimeout=10
SlurmdParameters=config_overrides
NodeName=ft1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 State=UNKNOWN
NodeName=ft2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 State=UNKNOWN
PartitionName=main Nodes=ft[1-2] Default=YES MaxTime=INFINITE State=UP
PartitionName=preemptible Nodes=ft1 MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes=ft1 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing():
    """Names of the programs that this host lacks; empty if the sweep can run."""
    if os.geteuid() != 0:
        return "root"
    for name in DAEMONS + ["mpirun"]:
        if shutil.which(name) is None:
            return name
    return ""


def wait_for(condition, what, limit=90):
    start = time.monotonic()
    while not (value := condition()):
        if time.monotonic() - start > limit:
            raise AssertionError(f"{what}: not within {limit} s")
        time.sleep(0.2)
    return value


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Cluster:
    """munged, slurmctld, slurmd ft1 and ft2 in a temporary folder."""

    def __init__(self, program):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="foretoken-slurm-"))
        self.program = program
        self.daemons = {}
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/root"),
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "FORETOKEN": str(program),
            # Two nodes of one host share a shared-memory folder, where their segments' names collide.
            "OMPI_MCA_btl": "self,tcp",
            "OMPI_MCA_rmaps_base_oversubscribe": "1",
            "OMPI_MCA_hwloc_base_binding_policy": "none",
        }

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if (self.folder / "slurm.conf").exists() and "slurmctld" in self.daemons:
            self.call("scancel", "--full", "--signal=KILL", "--state=RUNNING", check=False)
            self.call("scancel", "--user=root", check=False)
        for daemon in reversed(list(self.daemons)):
            self.stop(daemon)
        self.kill_strays()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill_strays(self):
        """slurmstepd and its processes: every process that has this folder in its environment."""
        mark = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                known = mark in (entry / "environ").read_bytes() or str(self.folder).encode() in (
                    entry / "cmdline").read_bytes()
                if known:
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                pass

    def launch(self, name, *command):
        log = open(self.folder / f"{name}.out", "ab")
        self.daemons[name] = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log,
                                              stdin=subprocess.DEVNULL, start_new_session=True)

    def stop(self, name):
        daemon = self.daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(5)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def start(self):
        for name in ["state", "tmp-ft1", "tmp-ft2", "spool-ft1", "spool-ft2"]:
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(folder=self.folder, ports=free_ports(3)))
        self.launch("munged", "munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket",
                    f"--key-file={key}", f"--pid-file={self.folder}/munged.pid",
                    f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munge.seed")
        wait_for((self.folder / "munge.socket").exists, "munged")
        self.launch("slurmctld", "slurmctld", "-D", "-i")
        wait_for(lambda: self.call("scontrol", "ping", check=False).find("is UP") >= 0, "slurmctld")
        for node in ["ft1", "ft2"]:
            self.start_node(node)

    def lose_node(self, node):
        """Imitates a power cut: stops slurmd and all its processes without notice to slurmctld. Returns their pids."""
        tasks = [pid for pid in processes() if f"SLURMD_NODENAME={node}".encode() in environment_of(pid)
                 and f"SLURM_CONF={self.folder}/slurm.conf".encode() in environment_of(pid)]
        above = {stat[2] for pid in tasks if (stat := stat_of(pid))}
        lost = [self.daemons[node].pid, *tasks, *[pid for pid in above if stat_of(pid)[0].startswith("slurmstepd")]]
        for pid in lost:
            os.kill(pid, signal.SIGSTOP)
        return lost

    def find_node(self, node, lost):
        """Starts the node again, without the processes that it ran before."""
        for pid in lost:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.daemons.pop(node).wait()
        self.start_node(node)

    def start_node(self, node):
        self.launch(node, "slurmd", "-D", "-N", node)
        wait_for(lambda: "idle" in self.call("sinfo", "-h", "-n", node, "-o", "%T", "-p", "main"), f"slurmd {node}")

    def call(self, *command, check=True, **environment):
        done = subprocess.run(command, env={**self.environment, **environment}, cwd=ROOT, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: code {done.returncode}: {done.stdout}")
        return done.stdout

    # Jobs

    def submit(self, template, *arguments, flags=(), **environment):
        """The job's number. Its output is in <folder>/job-<number>.out."""
        output = self.call("sbatch", "--parsable", f"--output={self.folder}/job-%j.out", "--ntasks-per-node=2",
                           "--cpus-per-task=1", "--export=ALL", *flags, f"launch/slurm/{template}.sbatch",
                           *map(str, arguments), **environment)
        return int(output.split(";")[0])

    def job(self, number):
        """Fields that scontrol shows, such as JobState."""
        text = self.call("scontrol", "show", "job", "-o", str(number), check=False)
        return dict(part.split("=", 1) for part in text.split() if "=" in part)

    def state(self, number):
        return self.job(number).get("JobState", "UNKNOWN")

    def wait_for_job(self, number, condition, what, limit):
        try:
            return wait_for(condition, f"job {number}: {what}", limit)
        except AssertionError as error:
            lines = [line for line in self.output(number).splitlines() if not line.startswith("step ")]
            last = "\n".join(lines[-40:])
            raise AssertionError(f"{error}; found {self.job(number)}\n{last}") from None

    def wait_state(self, number, *states, limit=90):
        ended = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
        found = self.wait_for_job(number, lambda: self.state(number) in ended.union(states) and self.state(number),
                                  " or ".join(states), limit)
        self.wait_for_job(number, lambda: found in states, " or ".join(states), 0)

    def wait_requeue(self, number, limit=60):
        self.wait_for_job(number, lambda: self.job(number).get("Restarts") == "1", "requeued", limit)

    def output(self, number):
        path = self.folder / f"job-{number}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def ranks(self, run):
        """Processes of the run on this host except the supervisor and mpirun."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == str(self.program).encode() and b"train" in words and str(run).encode() in words:
                found.append(int(entry.name))
        return sorted(found)


class Bench:
    """Runs of one configuration in the cluster's folder, compared with an undisturbed one."""

    def __init__(self, cluster, lab, steps):
        self.cluster, self.lab, self.steps = cluster, lab, steps
        self.config = lab.write_config("train.toml", train__steps=steps)
        self.whole = {}

    def undisturbed(self, *settings):
        if settings not in self.whole:
            run = self.lab.path(f"whole{len(self.whole)}")
            self.lab.must("train", self.config, "--run-directory", run, *set_flags(settings),
                          ranks=4 if "parallel.dp=2" in settings else 2)
            self.whole[settings] = digests(run)
        return self.whole[settings]

    def run(self, name):
        return self.lab.path(name)

    def wait_step(self, run, step, limit=60):
        wait_for(lambda: steps_in(run) >= step, f"{run.name}: step {step}", limit)

    def check_equal(self, run, *settings):
        expected, found = self.undisturbed(*settings), digests(run)
        differing = [name for name in expected if expected[name] != found.get(name)]
        assert not differing and len(expected) == len(found), f"{run.name}: {differing} differ"
        assert not self.cluster.ranks(run), f"{run.name}: ranks are left behind"


# Scenarios: each returns its outcome for the table.


def requeue(bench, template="one_node", flags=(), settings=(), **environment):
    """USR1 to the batch shell, as --signal=B:USR1 sends it: 75, requeue, the undisturbed run's weights."""
    cluster, run = bench.cluster, bench.run(f"requeue_{template}_{len(environment)}")
    job = cluster.submit(template, bench.config, run, *set_flags(settings), flags=flags,
                         **environment)
    bench.wait_step(run, 20)
    cluster.call("scancel", "--batch", "--signal=USR1", str(job))
    cluster.wait_requeue(job)
    stopped = newest_step(run)
    assert stopped == steps_in(run), "steps after the checkpoint were lost"
    cluster.wait_state(job, "COMPLETED")
    bench.check_equal(run, *settings)
    return f"requeued at step {stopped} with no step lost, final weights equal"


def requeue_srun(bench):
    """The same with ranks that srun starts through PMIx."""
    if "pmix" not in bench.cluster.call("srun", "--mpi=list"):
        return "left out: this Slurm has no PMIx"
    return requeue(bench, FORETOKEN_LAUNCHER="srun")


def requeue_two_nodes(bench):
    """The same on two nodes, two ranks each."""
    return requeue(bench, "many_nodes", flags=["--nodes=2"], settings=("parallel.dp=2",))


def time_limit(bench):
    """Slurm's own USR1 before a time limit. The ranks are stopped until then, so that the run does not end before."""
    cluster, run = bench.cluster, bench.run("time_limit")
    job = cluster.submit("one_node", bench.config, run, flags=["--time=2", "--signal=B:USR1@90"])
    bench.wait_step(run, 20)
    ranks = cluster.ranks(run)
    for rank in ranks:
        os.kill(rank, signal.SIGSTOP)
    try:
        said = run / "attempts" / "supervisor.log"
        wait_for(lambda: "stop       signal" in said.read_text(), "Slurm's USR1", 110)
    finally:
        for rank in ranks:
            os.kill(rank, signal.SIGCONT)
    cluster.wait_requeue(job)
    stopped = newest_step(run)
    assert stopped == steps_in(run), "steps after the checkpoint were lost"
    cluster.wait_state(job, "COMPLETED")
    bench.check_equal(run)
    return f"requeued at step {stopped} with no step lost, final weights equal"


def early_signal(bench):
    """USR1 while the job's processes are still starting."""
    cluster, run = bench.cluster, bench.run("early_signal")
    job = cluster.submit("one_node", bench.config, run)
    wait_for((run / "attempts" / "0001.log").exists, "first attempt")
    assert not (run / "metrics.jsonl").exists()
    cluster.call("scancel", "--batch", "--signal=USR1", str(job))
    cluster.wait_requeue(job)
    stopped = newest_step(run)
    cluster.wait_state(job, "COMPLETED")
    bench.check_equal(run)
    return f"requeued at step {stopped}, final weights equal"


def cancel(bench, template="one_node", flags=(), settings=(), **environment):
    """scancel: a checkpoint of the last step within Slurm's KillWait, no requeue; the same command continues."""
    cluster, run = bench.cluster, bench.run(f"cancel_{template}_{len(environment)}")
    arguments = [bench.config, run, *set_flags(settings)]
    job = cluster.submit(template, *arguments, flags=flags, **environment)
    bench.wait_step(run, 20)
    cluster.call("scancel", str(job))
    start = time.monotonic()
    wait_for(lambda: cluster.state(job) == "CANCELLED" and not cluster.ranks(run), f"end of job {job}", 60)
    seconds = time.monotonic() - start
    stopped, reached = newest_step(run), steps_in(run)
    time.sleep(1)
    assert cluster.state(job) == "CANCELLED", cluster.state(job)
    job = cluster.submit(template, *arguments, flags=flags, **environment)
    cluster.wait_state(job, "COMPLETED")
    bench.check_equal(run, *settings)
    return f"ended in {seconds:.0f} s, {reached - stopped} steps lost, not requeued, final weights equal"


def cancel_two_nodes(bench):
    return cancel(bench, "many_nodes", flags=["--nodes=2"], settings=("parallel.dp=2",))


def cancel_srun(bench):
    if "pmix" not in bench.cluster.call("srun", "--mpi=list"):
        return "left out: this Slurm has no PMIx"
    return cancel(bench, FORETOKEN_LAUNCHER="srun")


def killed_rank(bench):
    """A rank killed as the kernel kills for memory: the supervisor starts again inside the job."""
    cluster, run = bench.cluster, bench.run("killed_rank")
    job = cluster.submit("one_node", bench.config, run)
    bench.wait_step(run, 60)
    os.kill(cluster.ranks(run)[-1], signal.SIGKILL)
    cluster.wait_state(job, "COMPLETED")
    assert (run / "attempts" / "0002.log").exists()
    bench.check_equal(run)
    return "second attempt in the same job, final weights equal"


def out_of_memory(bench):
    """Ranks in a memory cgroup that is too small: the kernel kills each attempt, and the supervisor gives up."""
    group = pathlib.Path("/sys/fs/cgroup/memory/foretoken-slurm-test")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("6M")
    except OSError:
        return "left out: no writable memory cgroup (v1)"
    try:
        cluster, run = bench.cluster, bench.run("out_of_memory")
        launcher = cluster.folder / "limited_mpirun"
        launcher.write_text(f"#!/bin/sh\necho $$ > {group}/cgroup.procs\nexec mpirun \"$@\"\n")
        launcher.chmod(0o755)
        job = cluster.submit("one_node", bench.config, run, FORETOKEN_LAUNCHER=str(launcher),
                             FORETOKEN_MAX_RESTARTS="1")
        cluster.wait_state(job, "FAILED")
        assert (run / "attempts" / "0002.log").exists() and not (run / "attempts" / "0003.log").exists()
        assert "oom_kill 0" not in (group / "memory.oom_control").read_text()
        return f"code {cluster.job(job)['ExitCode'].split(':')[0]} after 2 attempts"
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text(), "end of the group's processes", 30)
        group.rmdir()


def drained_node(bench):
    """A node of a job on two nodes is drained, and the job continues; then the node is down, and the job waits for it."""
    cluster, run = bench.cluster, bench.run("drained_node")
    job = cluster.submit("many_nodes", bench.config, run, "--set", "parallel.dp=2", flags=["--nodes=2"])
    bench.wait_step(run, 60)
    cluster.call("scontrol", "update", "NodeName=ft2", "State=DRAIN", "Reason=test")
    seen = steps_in(run)
    bench.wait_step(run, seen + 5)
    cluster.call("scontrol", "update", "NodeName=ft2", "State=DOWN", "Reason=test")
    cluster.wait_requeue(job)
    cluster.call("scontrol", "update", "NodeName=ft2", "State=RESUME")
    cluster.wait_state(job, "COMPLETED")
    bench.check_equal(run, "parallel.dp=2")
    return "continued while drained; when it was down: requeued, final weights equal"


def lost_node(bench, **environment):
    """A job on two nodes with --no-kill loses one: an elastic run continues on the other node, in the same job."""
    cluster, run = bench.cluster, bench.run(f"lost_node_{len(environment)}")
    job = cluster.submit("many_nodes", bench.config, run, "--set", "parallel.dp=2", "--elastic",
                         "--set", "parallel.timeout_seconds=5", flags=["--nodes=2", "--no-kill", "--no-requeue"],
                         FORETOKEN_MAX_RESTARTS="10", **environment)
    bench.wait_step(run, 60)
    lost = cluster.lose_node("ft2")
    try:
        cluster.wait_state(job, "COMPLETED", limit=120)
    finally:
        cluster.find_node("ft2", lost)
    words = cluster.output(job)
    assert "1 of 2 are available: ft1:2" in words, words[-2000:]
    assert newest_step(run) == bench.steps and not cluster.ranks(run)
    return "continued with the ranks of the other node"


def lost_node_srun(bench):
    """The same with ranks that srun starts."""
    if "pmix" not in bench.cluster.call("srun", "--mpi=list"):
        return "left out: this Slurm has no PMIx"
    return lost_node(bench, FORETOKEN_LAUNCHER="srun")


def doctor(bench):
    """DOCTOR=1: a job whose ranks may open too few files ends before it trains; with enough files it trains."""
    cluster, run = bench.cluster, bench.run("doctor")
    job = cluster.submit("one_node", bench.config, run, DOCTOR="1",
                         FORETOKEN_LAUNCHER="prlimit --nofile=200 mpirun")
    cluster.wait_state(job, "FAILED")
    code = cluster.job(job)["ExitCode"].split(":")[0]
    assert code == "5", f"code {code}"
    assert "may open 200 files" in cluster.output(job), cluster.output(job)[-2000:]
    assert not (run / "attempts" / "0001.log").exists()
    job = cluster.submit("one_node", bench.config, run, DOCTOR="1")
    cluster.wait_state(job, "COMPLETED")
    bench.check_equal(run)
    return "ended with code 5 before the first attempt; on sound nodes done, final weights equal"


def array(bench):
    """A job array over seeds."""
    cluster, folder = bench.cluster, bench.run("array")
    job = cluster.submit("array", bench.config, folder, flags=["--array=1-2"])
    wait_for(lambda: not cluster.call("squeue", "-h", "-j", str(job), check=False).strip(), f"array {job}", 120)
    for seed in [1, 2]:
        bench.check_equal(folder / f"task_{seed}", f"train.seed={seed}")
    return "2 seeds, final weights equal"


def preemption(bench):
    """A job of a higher partition takes the node: TERM, the grace, requeue by Slurm."""
    cluster, run = bench.cluster, bench.run("preemption")
    job = cluster.submit("preemptible", bench.config, run)
    bench.wait_step(run, 20)
    urgent = int(cluster.call("sbatch", "--parsable", "--partition=urgent", "--ntasks=4", "--output=/dev/null",
                              "--wrap=sleep 2").split(";")[0])
    cluster.wait_requeue(job)
    stopped, reached = newest_step(run), steps_in(run)
    cluster.wait_state(urgent, "COMPLETED")
    cluster.wait_state(job, "COMPLETED")
    bench.check_equal(run)
    return f"{reached - stopped} steps lost, requeued by Slurm, final weights equal"


def study(bench):
    """A scaling study as job arrays: one element is cancelled, and the same command collects the others and its reason."""
    cluster, lab = bench.cluster, bench.lab
    sweep, folder = lab.path("sweep.toml"), lab.path("study")
    sweep.write_text(f'''[study]
base = "train.toml"
directory = "{folder}"
[train]
steps = 40
[parallel]
pp = 1
[scaling]
mode = "strong"
ranks = [1, 2]
projected_ranks = []
repeats = 3
''')
    command = (str(cluster.program), "study", str(sweep), "--slurm")
    text = cluster.call(*command, check=False)
    assert "3 points on 1 rank as job" in text and "3 points on 2 ranks as job" in text and "6 pending" in text, text
    job = text.split("3 points on 2 ranks as job ")[1].split(":")[0]
    cluster.call("scancel", f"{job}_3")

    def ended():
        now = cluster.call(*command, check=False)
        assert "submitted" not in now, now
        return "waiting" not in now and now

    text = wait_for(ended, "all elements ended", 120)
    assert "5 of 6 points" in text and f"failed (no result) ranks=2,repeat=3: job {job}_3" in text, text
    rows = (folder / "scaling.csv").read_text()
    assert ",3,3,done," in rows and ",3,2,2 of 3 done," in rows, rows
    text = cluster.call(*command, "--resubmit", check=False)
    assert "1 point on 2 ranks as job" in text, text
    text = wait_for(ended, "the element submitted again", 60)
    assert "done       6 of 6 points" in text, text
    return "the cancelled element a failed row, then submitted again; 6 of 6 measured"


SCENARIOS = [requeue, requeue_srun, requeue_two_nodes, time_limit, early_signal, cancel, cancel_srun, cancel_two_nodes,
             killed_rank, out_of_memory, drained_node, lost_node, lost_node_srun,
             array, study, doctor, preemption]
SHORT = [requeue, early_signal, cancel, killed_rank]


def main():
    options = arguments(__doc__, scenario={"action": "append", "choices": [one.__name__ for one in SCENARIOS]})
    if lacks := missing():
        print(f"slurm: skipped: this host has no {lacks}")
        return SKIPPED
    chosen = SHORT if options.short else SCENARIOS
    if options.scenario:
        chosen = [one for one in SCENARIOS if one.__name__ in options.scenario]
    settings = {"train.microbatch": 2, "optimizer.warmup_steps": 2, "parallel.pp": 2, "checkpoint.every": 50}
    with Lab(options.program, settings) as lab, Cluster(options.program) as cluster:
        sweep = Sweep(options, "jobs under slurmctld, munge and two slurmd of one host, from submission to the undisturbed run's "
                      f"bits: {', '.join(one.__name__ for one in chosen)}",
                      "weights and moments equal those of the undisturbed run")
        bench = Bench(cluster, lab, steps=300 if options.short else 600)
        sweep.headings(cluster.call("slurmd", "-V").strip(), "outcome", "seconds")
        for scenario in options.part.of(chosen):
            start, failure = time.monotonic(), ""
            try:
                seen = scenario(bench)
            except AssertionError as error:
                failure, seen = f"{scenario.__name__}: {error}", "FAILED"
                cluster.call("scancel", "--user=root", check=False)
            sweep.detail(scenario.__name__, seen, f"{time.monotonic() - start:.0f}")
            sweep.trial(failure)
    return sweep.finish()


if __name__ == "__main__":
    sys.exit(main())
