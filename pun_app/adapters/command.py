"""The runner of scheduler commands, and the only module of a PUN that starts processes.

A command is an argv, never text for a shell. Every command has a clean environment, a limit on its output, and a time
limit after which its whole process group is killed. A few slots limit the number of commands that a PUN runs at once.
"""

from __future__ import annotations

import os
import re
import select
import selectors
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pun_app.adapters.errors import CommandFailed, CommandNotRun, CommandTimedOut, NotSent, SchedulerUnavailable
from pun_app.deadline import left

TIMEOUT = 25.0
"""Seconds that a command may take. The deadline of its request (deadline.py) may be earlier."""
OUTPUT_SIZE = 64 * 1024 * 1024
"""Bytes that a command may print to both streams together."""
MAX_CONCURRENT_COMMANDS = 24
"""Concurrent commands of one PUN. A cluster can use only some of these slots (clusters/cached_scheduler.py), so a few
hanging clusters do not block the others."""

_LOGIN = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG")
_SSH_FAILED = re.compile(
    r"^ssh: |^Host key verification failed|Permission denied \(|^kex_exchange|^Connection (closed|reset|timed out)"
    r"|^No .* host key is known|^client_loop|^Bad configuration|REMOTE HOST IDENTIFICATION HAS CHANGED",
    re.MULTILINE,
)
_NO_COMMAND = re.compile(r"not found|Permission denied|No such file|cd: ", re.IGNORECASE)

slots = threading.BoundedSemaphore(MAX_CONCURRENT_COMMANDS)
"""The free slots for commands of this PUN."""


@dataclass(frozen=True)
class Output:
    """The exit status and the output of a command that was not killed. ``program`` is its plain name."""

    code: int
    out: str
    err: str
    program: str = ""


@dataclass(frozen=True)
class Commands:
    """A finder and runner of one cluster's commands, by OOD's ``bin``, ``bin_overrides`` and ``submit_host``.

    ``environment`` has variables for the scheduler's commands, such as SLURM_CONF.
    """

    bin: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    submit_host: str | None = None
    strict_host_checking: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_config(cls, job: Mapping[str, Any], environment: Mapping[str, str]) -> Commands:
        """Return the Commands for a cluster file's ``job``.

        Raises SchedulerUnavailable, with the key's name, for a value of the wrong type.
        """
        for key in ("bin", "submit_host"):
            if not isinstance(job.get(key, ""), (str, type(None))):
                raise SchedulerUnavailable(f"The cluster's configuration is wrong: job.{key} must be text")
        overrides = job.get("bin_overrides") or {}
        if not isinstance(overrides, dict):
            raise SchedulerUnavailable("The cluster's configuration is wrong: job.bin_overrides must be a mapping")
        return cls(
            bin=job.get("bin") or None,
            overrides={str(name): str(path) for name, path in overrides.items()},
            submit_host=job.get("submit_host") or None,
            strict_host_checking=job.get("strict_host_checking") is not False,
            environment=environment,
        )

    def path(self, name: str) -> str:
        """Return the path of a command, or its plain name if it runs on a submit host.

        Raises CommandNotRun if it is not found on this host.
        """
        if name in self.overrides:
            return self.overrides[name]
        if self.bin:
            return os.path.join(self.bin, name)
        if self.submit_host:
            return name
        found = shutil.which(name)
        if not found:
            raise CommandNotRun(f"The scheduler's command {name} is not found on this host", 60)
        return found

    def run(
        self,
        argv: Sequence[str],
        stdin: str = "",
        *,
        login: bool = True,
        environment: Mapping[str, str] = MappingProxyType({}),
        cwd: str = "/",
        take: Callable[[bytes], None] | None = None,
        timeout: float = TIMEOUT,
    ) -> Output:
        """Run ``argv``, whose first word is the command's plain name, in the directory ``cwd``.

        ``timeout`` is in seconds. ``take`` gets the standard output piece by piece; it is then not kept in memory.
        ``login=False`` omits the variables that a login sets, for a command that passes its environment on to a job.
        ``environment`` has further variables for that job.

        Raises CommandNotRun, CommandTimedOut and CommandFailed, and NotSent if ssh does not reach the submit host.
        """
        settings = {**environment, **self.environment}
        words = [self.path(argv[0]), *argv[1:]]
        if self.submit_host:
            words, all_of_it, cwd = self._through_ssh(words, settings, cwd), dict(os.environ), "/"
        else:
            all_of_it = {k: v for k, v in os.environ.items() if login or k not in _LOGIN} | settings
        output = _run(words, stdin.encode("utf-8", "surrogatepass"), all_of_it, argv[0], cwd, take, timeout)
        if self.submit_host:
            self._check_ssh(output, argv[0])
        return output

    def _check_ssh(self, output: Output, name: str) -> None:
        """Raise NotSent if ssh failed, and CommandNotRun if the remote shell could not run the command.

        Source: ssh(1), EXIT STATUS.
        """
        lines = [line for line in output.err.strip().splitlines() if line.strip()]
        if output.code == 255 and lines and _SSH_FAILED.search(output.err):
            raise NotSent(f"The submit host {self.submit_host} cannot be reached by ssh: {lines[-1].strip()}", 60)
        if output.code in (126, 127) and lines and _NO_COMMAND.search(lines[-1]):
            raise CommandNotRun(f"The scheduler's command {name} cannot be run on {self.submit_host}: {lines[-1]}", 60)

    def _through_ssh(self, words: list[str], environment: Mapping[str, str], cwd: str) -> list[str]:
        """Return the ssh command. ssh joins its words for a remote shell, so each of them is quoted."""
        checking = "yes" if self.strict_host_checking else "no"
        settings = [f"{name}={value}" for name, value in environment.items()]
        remote = shlex.join(["env", *settings, *words] if settings else words)
        if cwd != "/":
            remote = f"cd {shlex.quote(cwd)} || exit 126; {remote}"
        options = ["-o", "BatchMode=yes", "-o", f"StrictHostKeyChecking={checking}"]
        port = os.environ.get("OOD_SSH_PORT")
        if port:
            options += ["-p", port]
        return ["ssh", *options, "--", str(self.submit_host), remote]


def start_session(
    argv: Sequence[str], *, cwd: str, environment: Mapping[str, str], stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that it can outlive the PUN. Raises OSError."""
    return subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        umask=0o022,
    )


def start_detached(argv: Sequence[str]) -> None:
    """Start a process that is not a child of this one, so that this one need not wait for it. Raises OSError.

    A shell starts it. The shell's text is constant, and the words of ``argv`` are only its arguments.
    """
    with open(os.devnull, "r+b") as null:
        shell = ["/bin/sh", "-c", '"$@" &', "sh", *argv]
        start_session(shell, cwd="/", environment=os.environ, stdout=null.fileno(), stderr=null.fileno()).wait()


def _run(
    argv: list[str],
    stdin: bytes,
    environment: dict[str, str],
    name: str,
    cwd: str,
    take: Callable[[bytes], None] | None,
    timeout: float,
) -> Output:
    timeout = min(timeout, left())
    if timeout <= 0:
        raise CommandNotRun(f"No time is left to run {name}, since the commands before it took too long; try again")
    deadline = time.monotonic() + timeout
    if not slots.acquire(timeout=timeout):
        raise CommandNotRun(f"{name} was not run, since too many of your scheduler commands are under way; try again")
    try:
        with _memory_file(stdin) as standard_input:
            try:
                process = subprocess.Popen(
                    argv,
                    env=environment,
                    cwd=cwd,
                    stdin=standard_input,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    # sbatch passes its umask on to the job, which gets a login shell's umask, not the PUN's 077.
                    umask=0o022,
                )
            except OSError as error:
                raise CommandNotRun(f"The scheduler's command {name} cannot be run: {error.strerror}", 60) from error
            with process:
                try:
                    out, err = _collect(process, deadline, name, take, timeout)
                    _wait(process, deadline)
                    code = process.wait(0)
                except subprocess.TimeoutExpired as error:
                    raise CommandTimedOut(name, timeout) from error
                finally:
                    if process.returncode is None:
                        # Kill the group, since the command may have started processes.
                        with suppress(ProcessLookupError):
                            os.killpg(process.pid, signal.SIGKILL)
        if code < 0:
            raise CommandFailed(f"{name} was killed by signal {-code}")
        return Output(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), name)
    finally:
        slots.release()


@contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    """Yield a descriptor from which ``content`` can be read.

    It is a file in memory. Writing to a pipe would block if the command does not read its standard input.
    """
    if not content:
        yield subprocess.DEVNULL
        return
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait until the process has ended, or until the deadline. Popen.wait() with a time-out would sleep in steps."""
    left = max(0.0, deadline - time.monotonic())
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        # Kernels before 5.3 lack it, such as that of RHEL 8.
        with suppress(subprocess.TimeoutExpired):
            process.wait(left)
        return
    try:
        select.select([descriptor], [], [], left)
    finally:
        os.close(descriptor)


def _collect(
    process: subprocess.Popen[bytes],
    deadline: float,
    name: str,
    take: Callable[[bytes], None] | None,
    timeout: float,
) -> tuple[bytes, bytes]:
    """Return the whole output on both streams, except for what ``take`` gets.

    Raises CommandTimedOut after the deadline, and CommandFailed for more than OUTPUT_SIZE bytes in memory.
    """
    assert process.stdout and process.stderr
    parts: dict[int, list[bytes]] = {process.stdout.fileno(): [], process.stderr.fileno(): []}
    out, err = parts.values()
    size = 0
    with selectors.PollSelector() as selector:
        for descriptor in parts:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise CommandTimedOut(name, timeout)
            for key, _ in ready:
                data = os.read(key.fd, 256 * 1024)
                if not data:
                    selector.unregister(key.fd)
                if take and key.fd == process.stdout.fileno():
                    take(data)
                    continue
                size += len(data)
                parts[key.fd].append(data)
            if size > OUTPUT_SIZE:
                raise CommandFailed(f"{name} printed more than {OUTPUT_SIZE // 2**20} MiB")
    return b"".join(out), b"".join(err)
