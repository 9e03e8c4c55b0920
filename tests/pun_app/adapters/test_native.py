"""pun_app/adapters/native.py: native options that would replace the script are refused by name; others are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest
from pun_app.adapters.pbs.torque_qsub import check_own_arrays, submit_command
from pun_app.adapters.registry import adapter_for

PLAIN = JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp")
SCRIPT = "/home/alice/other.sh"

REFUSED = {
    "slurm": [
        ["--wrap=id"], ["--wrap", "id"], ["--wra=id"], ["--wr", "id"], ["-Q", "--wrap=id"], ["-vQ", SCRIPT], [SCRIPT], ["-p", "batch", SCRIPT],
        ["-pbatch", SCRIPT], ["--exclusive", SCRIPT], ["--nice", SCRIPT], ["--partition=batch", SCRIPT], ["--"], ["-", "x"], ["--test-only"],
        ["--test"], ["--help"], ["-h"], ["--usage"], ["--version"], ["-V"], ["-vV"], ["--wait"], ["-W"], ["-QW"], ["-k", SCRIPT],
    ],
    "pbspro": [["--", "/bin/id"], [SCRIPT], ["-p", "5", SCRIPT], ["-p5", SCRIPT], ["-V", SCRIPT], ["-I"], ["-VI"], ["-z"], ["--version"],
               ["-W", "interactive=true"], ["-Wumask=022,interactive=1"]],
    "torque": [["--", "/bin/id"], [SCRIPT], ["-p", "5", SCRIPT], ["-I"], ["-x"], ["-z"], ["-nI"], ["-Winteractive=t"], ["--version"],
               ["-t", "3-1"], ["-t3-1"], ["-nt", "3-1"]],
    "sge": [["-b", "y"], ["-b", "yes"], ["-b", "Y"], [SCRIPT], ["-p", "-5", SCRIPT], ["-pe", "smp", "2", SCRIPT], ["-V", SCRIPT], ["-cwd", SCRIPT],
            ["-@", "/tmp/options"], ["-sync", "y"], ["-now", "yes"], ["-verify"], ["-help"], ["-clear"], ["-w", "v"], ["-w", "p"], ["--"]],
    "lsf": [["id"], ["-q", "normal", "id"], ["-r", "id"], ["-qnormal", "id"], ["-pack", "/tmp/f"], ["-pack/tmp/f"], ["-json", "/tmp/f"], ["-yaml", "/f"],
            ["-jsdl", "/f"], ["-I"], ["-Is"], ["-Ip"], ["-K"], ["-h"], ["-V"], ["--", "id"], ["--wrap=id"]],
    "htcondor": [["-append", "executable=/bin/id"], ["-append", " Executable = /bin/id"], ["-a", "executable = /bin/id"], ["-ap", "x = 1"],
                 ["-append", "+Cmd = \"/bin/id\""], ["-append", "MY.cmd = \"/bin/id\""], ["-append", "shell = id"], ["-append", "queue 5"],
                 ["-append", "include : /tmp/f"], ["executable=/bin/id"], ["transfer_executable = false"], ["-queue", "5"], ["-q", "5"], ["-file", "/f"],
                 ["-fi", "/f"], ["--file", "/f"], ["-interactive"], ["-i"], ["-dry-run", "/f"], ["-dump", "/f"], ["-verbose"], [SCRIPT], ["-"]],
}  # fmt: skip
TAKEN = {
    "slurm": [["--nice=5"], ["-N", "2"], ["-N2"], ["--partition", "batch"], ["--begin=now+1hour"], ["-Hp", "batch"], ["--exclusive", "-v"],
              ["--comment", "my own"], ["--mem", "1G", "--wckey=x"], ["--wait-all-nodes=1"], ["-k"], ["-n1", ":", "-n2"], ["--gres", "gpu:1"]],
    "pbspro": [["-p", "5"], ["-p5"], ["-W", "umask=022"], ["-V", "-r", "n"], ["-l", "select=1:ncpus=2"], ["-W", "block=true"]],
    "torque": [["-p", "5"], ["-n"], ["-l", "nodes=1:ppn=2"], ["-t", "1-3%2"], ["-F", "some words"]],
    "sge": [["-p", "-5"], ["-pe", "smp", "2"], ["-b", "n"], ["-sync", "n"], ["-l", "h_rt=5", "-R", "y"], ["-cwd"], ["-ac", "A=b"], ["-w", "e"], ["-V"]],
    "lsf": [["-r"], ["-q", "normal"], ["-R", "rusage[mem=1]"], ["-n", "2,4"], ["-gpu", "-"], ["-Ep", "post command"], ["-x"]],
    "htcondor": [["-append", "request_disk = 5"], ["-batch-name", "x"], ["arguments=a b"], ["-single-cluster"], ["-maxjobs", "5"],
                 ["-append", "executables_of_mine = 1"]],
}  # fmt: skip


def check(name: str, words: list[str]) -> None:
    adapter = adapter_for("c", name, {"adapter": name, "bin": "/nonexistent"})
    assert adapter.native is not None
    request = replace(PLAIN, native=tuple(words))
    adapter.check_options(request)
    if name == "torque":
        check_own_arrays(request)


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, cases in REFUSED.items() for words in cases])
def test_what_replaces_the_script_is_refused(name: str, words: list[str]) -> None:
    with pytest.raises(Rejected, match=r"options\.native"):
        check(name, words)


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, cases in TAKEN.items() for words in cases])
def test_other_options_are_taken(name: str, words: list[str]) -> None:
    check(name, words)


def test_the_message_names_the_option_and_why() -> None:
    with pytest.raises(Rejected, match=r"sbatch cannot have --wrap: it would run something other than script\.content"):
        check("slurm", ["--wra=id"])


@pytest.mark.parametrize("line", ["#PBS -t 3-1", "#PBS -l nodes=1 -t 3-1", "#PBS -t3-1"])
def test_torques_server_is_not_crashed_by_a_directive(line: str) -> None:
    with pytest.raises(Rejected, match="does not ascend"):
        submit_command(replace(PLAIN, content=f"#!/bin/sh\n{line}\ntrue\n"))
    assert submit_command(replace(PLAIN, content="#!/bin/sh\n#PBS -N not-t -t 1-3\n# -t 3-1\n"))
