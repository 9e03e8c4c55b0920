"""The runner of scheduler commands, and the only module of a PUN that starts processes: argv only, never a shell.

Every command has a clean environment, a time limit after which its whole process group is killed, a limit on its
output, and one of a few slots for the commands that one PUN runs at once.
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
"""Seconds that a command may take, unless its request's deadline (deadline.py) is earlier."""
OUTPUT_SIZE = 64 * 1024 * 1024
"""Bytes that a command may print, both streams together."""
MAX_CONCURRENT_COMMANDS = 24
"""Commands of one PUN that run at once. Each cluster has a share of them (clusters/cached_scheduler.py), so that a few
clusters that hang do not block the others."""

_LOGIN = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG")
_SSH_FAILED = re.compile(
    r"^ssh: |^Host key verification failed|Permission denied \(|^kex_exchange|^Connection (closed|reset|timed out)"
    r"|^No .* host key is known|^client_loop|^Bad configuration|REMOTE HOST IDENTIFICATION HAS CHANGED",
    re.MULTILINE,
)
_NO_COMMAND = re.compile(r"not found|Permission denied|No such file|cd: ", re.IGNORECASE)
_places = threading.BoundedSemaphore(MAX_CONCURRENT_COMMANDS)


@dataclass(frozen=True)
class Output:
    """The exit status and the output of a command that ended by itself."""

    code: int
    out: str
    err: str
    program: str = ""


@dataclass(frozen=True)
class Commands:
    """The way to find and run a cluster's commands: OOD's ``bin``, ``bin_overrides``, ``submit_host``.

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

        Raises SchedulerUnavailable, with the name of the key, for a value of the wrong type.
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
        """Return the path of a command. Raises CommandNotRun if it is not found on this host."""
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

        With ``take`` what it prints is handed on piece by piece, and not kept.

        Without ``login`` the variables that a login sets are left out, for commands that hand their
        environment on to a job; ``environment`` has more for that job. Raises NotSent, CommandNotRun, CommandTimedOut
        and CommandFailed.
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
        """Raise NotSent for an error of ssh, or CommandNotRun for one of the remote shell. ssh(1), EXIT STATUS."""
        lines = [line for line in output.err.strip().splitlines() if line.strip()]
        if output.code == 255 and lines and _SSH_FAILED.search(output.err):
            raise NotSent(f"The submit host {self.submit_host} cannot be reached by ssh: {lines[-1].strip()}", 60)
        if output.code in (126, 127) and lines and _NO_COMMAND.search(lines[-1]):
            raise CommandNotRun(f"The scheduler's command {name} cannot be run on {self.submit_host}: {lines[-1]}", 60)

    def _through_ssh(self, words: list[str], environment: Mapping[str, str], cwd: str) -> list[str]:
        """Return the ssh command. ssh joins its words for a remote shell, so each word is quoted."""
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
    """Start a process that lives on by itself, in a session of its own. Raises OSError."""
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
    """Start a process that is nobody's child, so that nobody need wait for it. Raises OSError.

    The shell's text is fixed; the words of ``argv`` reach it as arguments alone.
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
        raise CommandNotRun(f"No time is left to run {name}: what came before it took too long; try again")
    deadline = time.monotonic() + timeout
    if not _places.acquire(timeout=timeout):
        raise CommandNotRun(f"Too many scheduler commands of this user are under way to run {name}; try again")
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
                    # sbatch hands its umask on to the job: what a login shell has, not the PUN's 077.
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
                        # The group, for what the command itself has started.
                        with suppress(ProcessLookupError):
                            os.killpg(process.pid, signal.SIGKILL)
        if code < 0:
            raise CommandFailed(f"{name} was ended by signal {-code}")
        return Output(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), name)
    finally:
        _places.release()


@contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    """A descriptor that reads ``content``: no pipe that a command which does not read would block."""
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
    """Until the process has ended, or the deadline. Popen.wait() with a time-out would sleep in steps."""
    left = max(0.0, deadline - time.monotonic())
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        # A kernel before 5.3, as RHEL 8 has.
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
    """Return both streams, read to their ends.

    Raises CommandTimedOut past the deadline, and CommandFailed past OUTPUT_SIZE of what is kept.
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
