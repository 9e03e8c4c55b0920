"""A real Grid Engine of one node for the tests, independent of any other cell on the machine.

The daemons of Debian's packages run with their own ports and spool folder, and are ended by their pids.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.system.slurm import free_port, wait_for

PROGRAMS = "/usr/lib/gridengine"
RESOURCES = "/usr/share/gridengine/util/resources"
CELL = "default"


class GridEngine:
    """A cell of one host with 8 slots.

    It has the queues ``all.q`` and ``short.q`` (one minute), the parallel environment ``smp`` and the project ``physics``.
    """

    def __init__(self, folder: Path, users: list[str]) -> None:
        self.root = folder
        self.users = users
        self.host = socket.gethostname()
        self.ports = (free_port(), free_port())
        self.common = folder / CELL / "common"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of Grid Engine's commands."""
        return {
            "SGE_ROOT": str(self.root), "SGE_CELL": CELL, "SGE_QMASTER_PORT": str(self.ports[0]),
            "SGE_EXECD_PORT": str(self.ports[1]), "PATH": f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
        }  # fmt: skip

    def run(self, *argv: str, check: bool = True, user: str | None = None, stdin: str = "") -> str:
        """Run a command as root or as a user, and return its standard output. Fails if ``check`` and the command fails."""
        done = subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, check=False, user=user, timeout=120, cwd="/",
            input=stdin,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{argv}: {done.returncode}: {done.stdout} {done.stderr}")
        return done.stdout

    def start(self) -> None:
        """Configure the cell, and start its daemons."""
        self._write_files()
        for argv in (
            ["spoolinit", "berkeleydb", "libspoolb", f"{self.root}/spooldb", "init"],
            ["spooldefaults", "configuration", f"{self.root}/configuration"],
            ["spooldefaults", "complexes", f"{RESOURCES}/centry"],
            ["spooldefaults", "usersets", f"{RESOURCES}/usersets"],
            ["spooldefaults", "managers", "root"],
        ):
            self.run(f"{PROGRAMS}/{argv[0]}", *argv[1:], user="sgeadmin")
        self.run(f"{PROGRAMS}/spooldefaults", "managers", "sgeadmin", user="sgeadmin")
        self.start_master()
        self._configure()
        self._spawn("sge_execd", "execd")
        wait_for("Grid Engine's host", self._load_is_known)

    def start_master(self) -> None:
        """Start qmaster, and wait until it answers."""
        self._spawn("sge_qmaster", "qmaster")
        wait_for("qmaster", lambda: self.run("qconf", "-sh", check=False))

    def stop_master(self) -> None:
        """End qmaster, and wait until it has ended."""
        self.run("qconf", "-km", check=False)
        wait_for("the end of qmaster", lambda: not self._pid("qmaster/qmaster.pid"))

    def hang_master(self) -> None:
        """Stop qmaster with SIGSTOP, so that it runs and answers nothing."""
        os.kill(self._pid("qmaster/qmaster.pid"), signal.SIGSTOP)

    def resume_master(self) -> None:
        """Continue qmaster after hang_master()."""
        os.kill(self._pid("qmaster/qmaster.pid"), signal.SIGCONT)

    def stop(self) -> None:
        """End the jobs, and then the daemons."""
        for user in self.users:
            self.run("qdel", "-f", "-u", user, check=False)
        # execd names its folder by its name for the host, which may be localhost.
        for name in (*(str(path) for path in self.root.glob("execd/*/execd.pid")), "qmaster/qmaster.pid"):
            pid = self._pid(name)
            if pid:
                os.kill(pid, signal.SIGTERM)
                wait_for(f"the end of {name}", lambda name=name: not self._pid(name))  # type: ignore[misc]

    def _load_is_known(self) -> bool:
        return any(
            line.startswith(self.host.split(".")[0]) and " - " not in line[40:60]
            for line in self.run("qhost", check=False).splitlines()
        )

    def _pid(self, name: str) -> int:
        """Return the pid in the file of a daemon; 0 if that process has ended."""
        try:
            pid = int((self.root / name).read_text())
            return pid if "sge_" in Path(f"/proc/{pid}/comm").read_text() else 0
        except (OSError, ValueError):
            return 0

    def _spawn(self, program: str, name: str) -> None:
        """Start a daemon, which goes to the background and writes its pid to a file."""
        with (self.root / f"{name}.out").open("ab") as out:
            subprocess.run(
                [f"/usr/sbin/{program}"], env=self.environment, stdout=out, stderr=out, check=True, cwd="/", timeout=120
            )

    def _write_files(self) -> None:
        for path in (
            self.common,
            *(self.root / name for name in ("spooldb", "qmaster", "qmaster/job_scripts", "execd")),
        ):
            path.mkdir(parents=True)
        account = pwd.getpwnam("sgeadmin")
        self.root.chmod(0o755)
        (self.common / "bootstrap").write_text(
            f"""admin_user sgeadmin
default_domain none
ignore_fqdn false
spooling_method berkeleydb
spooling_lib libspoolb
spooling_params {self.root}/spooldb
binary_path {PROGRAMS}
qmaster_spool_dir {self.root}/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
        )
        (self.common / "act_qmaster").write_text(f"{self.host}\n")
        # The first name of 127.0.0.1 is localhost, and qmaster refuses a client with another name than its own.
        (self.common / "host_aliases").write_text(f"{self.host} localhost\n")
        # Grid Engine marks a job's processes with a group id of this range, and ends a job by it. Each cell needs its
        # own range.
        first = 100_000 + secrets.randbelow(1000) * 100
        settings = {
            "execd_spool_dir": f"{self.root}/execd", "mailer": "/bin/true", "gid_range": f"{first}-{first + 99}",
            # qmaster knows a host from its first report on, also after a restart of qmaster.
            "load_report_time": "00:00:02",
            "reporting_params": "accounting=true reporting=false flush_time=00:00:01 joblog=false sharelog=00:00:00",
        }  # fmt: skip
        text = Path("/usr/share/gridengine/default-configuration").read_text()
        (self.root / "configuration").write_text(_with(text, settings))
        for util in ("util", "bin"):
            target = Path("/usr/share/gridengine") / util if util == "util" else Path("/var/lib/gridengine/bin")
            (self.root / util).symlink_to(target)
        for path in [self.root, *self.root.rglob("*")]:
            if not path.is_symlink():
                shutil.chown(path, account.pw_uid, account.pw_gid)

    def _configure(self) -> None:
        self.run("qconf", "-ah", self.host, check=False)
        self.run("qconf", "-as", self.host)
        self._add("-Ae", f"hostname {self.host}\nload_scaling NONE\ncomplex_values NONE\nuser_lists NONE\nxuser_lists NONE\n"
                  "projects NONE\nxprojects NONE\nusage_scaling NONE\nreport_variables NONE\n")  # fmt: skip
        self._add("-Ahgrp", f"group_name @allhosts\nhostlist {self.host}\n")
        self._add("-Ap", "pe_name smp\nslots 999\nuser_lists NONE\nxuser_lists NONE\nstart_proc_args NONE\nstop_proc_args NONE\n"
                  "allocation_rule $pe_slots\ncontrol_slaves FALSE\njob_is_first_task TRUE\nurgency_slots min\naccounting_summary FALSE\nqsort_args NONE\n")  # fmt: skip
        self._add("-Aprj", "name physics\noticket 0\nfshare 0\nacl NONE\nxacl NONE\n")
        template = self.run("qconf", "-sq")
        for name, limit in (("all.q", "INFINITY"), ("short.q", "0:1:0")):
            # Without thresholds. By default, a queue starts no job while the load per processor is above 1.75.
            settings = {"qname": name, "hostlist": "@allhosts", "slots": "8", "shell": "/bin/bash", "pe_list": "smp",
                      "h_rt": limit, "shell_start_mode": "unix_behavior", "load_thresholds": "NONE",
                      "suspend_thresholds": "NONE"}  # fmt: skip
            self._add("-Aq", _with(template, settings))
        settings = {
            "schedule_interval": "0:0:1",
            "flush_submit_sec": "1",
            "flush_finish_sec": "1",
            "job_load_adjustments": "NONE",
        }
        self._add("-Msconf", _with(self.run("qconf", "-ssconf"), settings))

    def _add(self, option: str, text: str) -> None:
        """Add an object to the configuration with an option of qconf that reads a file."""
        path = self.root / "object"
        path.write_text(text)
        self.run("qconf", option, str(path))


def _with(configuration: str, settings: dict[str, str]) -> str:
    """Return a table of qconf with these values for some of its keys."""
    rows = [line.split(None, 1) for line in configuration.splitlines() if line and line[0] not in " #"]
    assert settings.keys() <= {key for key, _ in rows}
    return "".join(f"{key} {settings.get(key, value)}\n" for key, value in rows)
