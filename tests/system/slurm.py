"""A real one-node Slurm with accounting, in a directory of its own and independent of the machine's.

Munge, MariaDB, slurmdbd, slurmctld and slurmd run from Debian's packages on sockets and ports of this
cluster's own, in the foreground as children of the test run, and are ended by their own pids.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CLUSTER = "punwaytest"


_HELD: list[socket.socket] = []
"""One bound socket for each port that was given out."""


def free_port() -> int:
    """Return a port of the caller's own.

    The port stays bound, without listening, until the test run ends. So the kernel gives it to nobody else, while a
    server that sets SO_REUSEADDR, as all of ours do, can listen on it, also again after it was stopped.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("", 0))
    _HELD.append(held)
    return int(held.getsockname()[1])


def wait_for(what: str, ready: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until ``ready()`` is true; fail with the name of what did not come.

    ``seconds`` is generous, as a busy machine is slow; nothing waits longer than it must.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds} s")
        time.sleep(0.05)


class SlurmCluster:
    """A cluster of one node with 8 simulated CPUs, queues ``batch`` and ``short`` (1 minute), accounts ``physics`` and ``chem``."""

    def __init__(self, folder: Path, users: list[str]) -> None:
        self.folder = folder
        self.users = users
        self.conf = folder / "slurm.conf"
        self.host = socket.gethostname().split(".")[0]
        self.ports = {name: free_port() for name in ("ctld", "slurmd", "dbd")}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.conf), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

    def run(self, *argv: str, check: bool = True, user: str | None = None) -> str:
        """A command's standard output, as root or as a user."""
        done = subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, check=False, user=user, timeout=120, cwd="/"
        )
        if check and done.returncode:
            raise AssertionError(f"{argv}: {done.returncode}: {done.stderr}")
        return done.stdout

    def start(self) -> None:
        self.folder.chmod(0o755)
        self._write_files()
        self._start_munge()
        self._start_database()
        self._start_accounting()
        self.start_controller()
        self._spawn("slurmd", ["slurmd", "-D", "-N", self.host])
        self._await_node()

    def start_controller(self) -> None:
        """Start slurmctld, and wait until it takes jobs."""
        self._spawn("slurmctld", ["slurmctld", "-D"])
        wait_for("slurmctld", lambda: "UP" in self.run("scontrol", "ping", check=False))
        if "slurmd" in self.processes:
            self._await_node()

    def _await_node(self) -> None:
        """A node is unknown to a new slurmctld, and gets no job, until it has registered."""
        states = ("idle", "mixed", "allocated", "completing")
        wait_for("the node", lambda: self.run("sinfo", "-h", "-o", "%T", "-p", "batch", check=False).strip() in states)

    def stop_controller(self) -> None:
        self._stop("slurmctld")

    def hang_controller(self) -> None:
        """Have slurmctld answer nothing, though it is there."""
        self.processes["slurmctld"].send_signal(signal.SIGSTOP)

    def resume_controller(self) -> None:
        self.processes["slurmctld"].send_signal(signal.SIGCONT)

    @contextmanager
    def forgetful(self) -> Iterator[None]:
        """While this lasts, ended jobs leave the queue after 2 s, at slurmctld's next sweep (each 60 s)."""
        text = self.conf.read_text()
        self.conf.write_text(text + "MinJobAge=2\n")
        self.run("scontrol", "reconfigure")
        try:
            yield
        finally:
            self.conf.write_text(text)
            self.run("scontrol", "reconfigure")

    def stop(self) -> None:
        """End all of it, jobs first."""
        if "slurmctld" in self.processes:
            self.run("scancel", "--quiet", *[f"--user={user}" for user in self.users[:1]], check=False)
            for user in self.users[1:]:
                self.run("scancel", "--quiet", f"--user={user}", check=False)
        for name in ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"):
            self._stop(name)
        for pid in self._job_processes():
            os.kill(pid, signal.SIGKILL)

    def _job_processes(self) -> list[int]:
        """slurmstepd processes of this cluster's own spool, by their environment."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if "slurmstepd" in (entry / "comm").read_text() and str(self.conf) in (entry / "environ").read_text(
                    errors="replace"
                ):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def _write_files(self) -> None:
        for name, owner in (
            ("munge", "munge"),
            ("mysql", "mysql"),
            ("ctld", "slurm"),
            ("slurmd", "root"),
            ("log", "slurm"),
        ):
            path = self.folder / name
            path.mkdir()
            shutil.chown(path, owner, pwd.getpwnam(owner).pw_gid)
            path.chmod(0o755)
        key = self.folder / "munge" / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        shutil.chown(key, "munge", "munge")
        munge = self.folder / "munge" / "munge.socket"
        self.conf.write_text(
            f"""ClusterName={CLUSTER}
SlurmctldHost={self.host}(127.0.0.1)
SlurmctldPort={self.ports["ctld"]}
SlurmdPort={self.ports["slurmd"]}
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=socket={munge}
CryptoType=crypto/munge
StateSaveLocation={self.folder}/ctld
SlurmdSpoolDir={self.folder}/slurmd
SlurmctldPidFile={self.folder}/ctld/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd/slurmd.pid
SlurmctldLogFile={self.folder}/log/slurmctld.log
SlurmdLogFile={self.folder}/slurmd/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={self.ports["dbd"]}
AccountingStoragePass={munge}
AccountingStorageEnforce=associations,limits
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobCompType=jobcomp/none
MailProg=/bin/true
MaxJobCount=300000
MaxArraySize=20000
KillWait=2
MessageTimeout=5
ReturnToService=2
EnforcePartLimits=ALL
SlurmdParameters=config_overrides
NodeName={self.host} NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=8000
PartitionName=batch Nodes={self.host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=short Nodes={self.host} MaxTime=1 State=UP
"""
        )
        dbd = self.folder / "slurmdbd.conf"
        dbd.write_text(
            f"""AuthType=auth/munge
AuthInfo=socket={munge}
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={self.ports["dbd"]}
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageLoc=slurm_acct_db
StorageUser=slurm
StoragePass=only-on-this-socket
LogFile={self.folder}/log/slurmdbd.log
PidFile={self.folder}/log/slurmdbd.pid
"""
        )
        dbd.chmod(0o600)
        shutil.chown(dbd, "slurm", "slurm")

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        self._spawn(
            "munged",
            [
                "munged", "--foreground", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key",
                f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munged.seed",
                f"--log-file={folder}/munged.log",
            ],
            user="munge",
        )  # fmt: skip
        wait_for("munged", (folder / "munge.socket").exists)

    def _start_database(self) -> None:
        folder = self.folder / "mysql"
        data, temporary = folder / "data", folder / "tmp"
        temporary.mkdir()
        shutil.chown(temporary, "mysql")
        # By default in /tmp, where each server that starts removes the temporary tables of all others.
        place = {"TMPDIR": str(temporary)}
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", "--skip-test-db"],
            check=True, capture_output=True, env={**self.environment, **place},
        )  # fmt: skip
        self._spawn(
            "mariadbd",
            [
                "mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}", f"--socket={folder}/mysql.sock",
                "--skip-networking", f"--pid-file={folder}/mariadbd.pid", "--innodb-buffer-pool-size=64M",
            ],
            place,
        )  # fmt: skip
        client = ["mariadb", "--no-defaults", f"--socket={folder}/mysql.sock"]

        def answers() -> bool:
            return subprocess.run([*client, "-e", "select 1"], capture_output=True, check=False).returncode == 0

        wait_for("MariaDB", answers)
        sql = (
            "create database slurm_acct_db; create user slurm@localhost identified by 'only-on-this-socket';"
            "grant all on slurm_acct_db.* to slurm@localhost;"
        )
        subprocess.run([*client, "-e", sql], check=True, capture_output=True)

    def _start_accounting(self) -> None:
        self._spawn(
            "slurmdbd",
            ["slurmdbd", "-D"],
            # libmariadb takes its socket from the environment alone.
            {"MYSQL_UNIX_PORT": str(self.folder / "mysql" / "mysql.sock")},
        )

        def add_cluster() -> bool:
            self.run("sacctmgr", "-i", "add", "cluster", CLUSTER, check=False)
            return CLUSTER in self.run("sacctmgr", "-n", "show", "cluster", check=False)

        wait_for("slurmdbd", add_cluster)
        for account in ("physics", "chem"):
            self.run("sacctmgr", "-i", "add", "account", account, f"Cluster={CLUSTER}", "GrpTRESMins=cpu=1000000")
        for user in self.users:
            self.run("sacctmgr", "-i", "add", "user", user, "Account=physics,chem", "DefaultAccount=physics")

    def _spawn(self, name: str, argv: list[str], more: dict[str, str] | None = None, user: str | None = None) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                argv,
                env={**self.environment, **(more or {})},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                user=user,
                start_new_session=True,
                cwd="/",
            )

    def _stop(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
