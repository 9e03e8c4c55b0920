"""A check of the native options of a submit, which parses them as the scheduler's submit command would.

Native options request features of the scheduler that the API's options lack. They must not choose the program to run:
an operand, or an option that names another program, would silently replace the script. So the table of each command
lists the options whose value is the next word, and the options that are rejected. Any other word without a dash is an
operand, and is rejected too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pun_app.adapters.errors import Rejected

OTHER_PROGRAM = "it would run something other than script.content"
NO_JOB = "it would submit no job, or would not print the job's id"
WAITS = "the command would wait until the job has ended"


@dataclass(frozen=True)
class Native:
    """The syntax of one submit command's options, and the options that are rejected."""

    command: str
    style: Literal["letters", "long", "words"]
    """The form of the options: letters (getopt(3)), letters and long names (getopt_long(3)), or one-dash words."""
    refused: Mapping[str, str]
    """The rejected options, with the reasons."""
    valued: Mapping[str, int] = field(default_factory=dict)
    """Options whose values are the next words, with the number of these words. The value of a letter may also follow it
    in the same word."""
    flags: frozenset[str] = frozenset()
    """The long names whose value is not the next word. With ``only_known``, the words without a value."""
    refused_values: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """The options that are rejected with certain values: a pattern of these values, and the reason."""
    attached: tuple[str, ...] = ()
    """The rejected options to which a value may be attached without a blank."""
    only_known: bool = False
    """True if unlisted options are rejected, since the command accepts abbreviations with one dash."""
    operand: str = r"(?!)"
    """A pattern of the operands that are allowed, since they do not replace the script."""

    def check(self, words: Sequence[str]) -> None:
        """Raise Rejected for an option that replaces the script, submits no job, or makes the command wait."""
        for name, value in self.options(words):
            reason = self.refused.get(name)
            pattern, of_value = self.refused_values.get(name, ("", ""))
            if reason is None and pattern and re.fullmatch(pattern, value.strip(), re.IGNORECASE):
                reason = of_value
            if reason is None and name.startswith("--") and self.style != "long":
                reason = f"{self.command} has no options with two dashes, and might stop reading options here"
            if reason is None and self.only_known and name not in self.valued and name not in self.flags:
                reason = "Punway does not know this option; write its full name"
            if reason is not None:
                raise Rejected(f"options.native: {self.command} cannot have {name[:80]}: {reason}")

    def options(self, words: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield each option with its value, or "" without one. Raises Rejected for an operand, and for ``--``."""
        left = list(words)
        while left:
            word = left.pop(0)
            if word in ("-", "--") or not word.startswith("-"):
                if not re.fullmatch(self.operand, word, re.IGNORECASE):
                    raise Rejected(
                        f"options.native: {self.command} would run {word[:80]} in place of the script; give only "
                        "options and their values"
                    )
            elif self.style == "long" and word.startswith("--"):
                yield self._long(word, left)
            elif self.style == "words" or word.startswith("--"):
                yield self._word(word, left)
            else:
                yield from self._letters(word[1:], left)

    def _word(self, word: str, left: list[str]) -> tuple[str, str]:
        count = self.valued.get(word, 0)
        value = " ".join(left[:count])
        del left[:count]
        return next((name for name in self.attached if word.startswith(name)), word), value

    def _letters(self, letters: str, left: list[str]) -> Iterator[tuple[str, str]]:
        """Yield the options in a word of letters, such as ``-Hp batch`` or ``-pbatch``, with their values."""
        for place, letter in enumerate(letters):
            if f"-{letter}" in self.valued:
                yield f"-{letter}", letters[place + 1 :] or (left.pop(0) if left else "")
                return
            yield f"-{letter}", ""

    def _long(self, word: str, left: list[str]) -> tuple[str, str]:
        """Return a long option and its value: ``--name=value``, ``--name value``, or with the beginning of a name."""
        name, has_value, value = word.partition("=")
        meant = [known for known in (*self.refused, *self.flags) if known.startswith(name)]
        if meant and name not in meant:
            name = meant[0]
        if not has_value and not meant and left:
            value = left.pop(0)
        return name, value


def _one_value(options: str) -> dict[str, int]:
    return dict.fromkeys(options.split(), 1)


def _flags(options: str) -> frozenset[str]:
    return frozenset(options.split())


_UNLESS_NO = "(?!no?$).*"
_INTERACTIVE = {"-W": (r"(.*,)?\s*interactive\s*=.*", OTHER_PROGRAM)}

SBATCH = Native(
    "sbatch",
    "long",
    refused={
        "--wrap": OTHER_PROGRAM, "--test-only": NO_JOB, "--help": NO_JOB, "-h": NO_JOB, "--usage": NO_JOB,
        "--version": NO_JOB, "-V": NO_JOB, "--wait": WAITS, "-W": WAITS,
    },
    valued=_one_value("-a -A -b -B -c -C -d -D -e -F -G -i -J -L -m -M -n -N -o -p -q -S -t -w -x"),
    flags=_flags(
        "--consolidate-segments --contiguous --exclusive --external --get-user-env --hold --ignore-pbs --nice "
        "--no-kill --no-requeue --oom-kill-step --overcommit --oversubscribe --parsable --propagate --quiet --reboot "
        "--requeue --resv-ports --share --spread-job --spread-segments --stepmgr --use-min-nodes --verbose"
    ),
    operand=":",
)  # fmt: skip
"""sbatch(1) of 22.05 and later. A colon separates the parts of a heterogeneous job."""

PBS_QSUB = Native(
    "qsub",
    "letters",
    refused={"-I": OTHER_PROGRAM, "-z": NO_JOB, "--version": NO_JOB},
    valued=_one_value("-a -A -c -C -e -j -J -k -l -m -M -N -o -p -P -q -r -R -S -u -v -W"),
    refused_values=_INTERACTIVE,
)
"""qsub(1B) of OpenPBS 23.06."""

TORQUE_QSUB = Native(
    "qsub",
    "letters",
    refused={"-I": OTHER_PROGRAM, "-x": OTHER_PROGRAM, "-z": NO_JOB, "--version": NO_JOB, "--about": NO_JOB},
    valued=_one_value("-a -A -b -c -C -d -D -e -F -i -j -J -k -K -l -L -m -M -N -o -p -P -q -r -S -t -T -u -v -w -W"),
    refused_values=_INTERACTIVE,
)
"""qsub(1B) of Torque 6."""

SGE_QSUB = Native(
    "qsub",
    "words",
    refused={"-@": OTHER_PROGRAM, "-clear": OTHER_PROGRAM, "-help": NO_JOB, "-verify": NO_JOB},
    valued={
        **_one_value(
            "-a -ac -ar -A -b -binding -c -ckpt -clearp -C -dc -dl -e -he -hold_jid -hold_jid_ad -i -j -jc -js -jsv -l "
            "-M -m -masterl -masterq -mbind -N -now -o -ot -par -P -p -q -r -R -rou -rsmjob -sc -scope -shell -sync -S "
            "-t -tc -tcon -umask -v -w -wd -xd -xdv"
        ),
        "-pe": 2, "-adds": 3, "-mods": 3, "-dels": 2, "-clears": 1, "-delr": 2,
    },
    refused_values={
        "-b": (_UNLESS_NO, OTHER_PROGRAM), "-sync": (_UNLESS_NO, WAITS), "-now": (_UNLESS_NO, WAITS),
        "-w": ("[vp]", NO_JOB),
    },
)  # fmt: skip
"""submit(1) of Son of Grid Engine 8.1.9, and options of its descendants."""

BSUB = Native(
    "bsub",
    "words",
    refused={
        **dict.fromkeys(("-pack", "-json", "-yaml", "-jsdl"), OTHER_PROGRAM),
        **dict.fromkeys(("-I", "-Ip", "-Is", "-IS", "-ISp", "-ISs", "-IX", "-K", "-tty"), WAITS),
        "-h": NO_JOB, "-V": NO_JOB,
    },
    valued=_one_value(
        "-a -alloc_flags -app -b -c -clusters -cn_cu -cn_mem -core_isolation -csm -cwd -C -data -datagrp -D -e -env "
        "-eo -eptl -ext -E -Ep -f -F -freq -g -G -gpu -hostfile -i -image -is -jm -jobaff -jsm -J -Jd -k -L -ln_mem "
        "-ln_slots -Lp -m -mig -M -n -network -nnodes -notify -o -oo -outdir -p -P -ptl -q -Q -R -rnc -s -sla -smt -sp "
        "-stage -S -t -T -u -U -v -w -wa -W -We -Wep -wt -XF"
    ),
    attached=("-pack", "-json", "-yaml", "-jsdl"),
)  # fmt: skip
"""bsub of LSF 10.1 and of volclava 2.2. Both accept a command as an operand."""

_WHAT_RUNS = r"\+?(my\.)?(executable|cmd|shell|copy_to_spool|transfer_executable)\s*"
CONDOR_SUBMIT = Native(
    "condor_submit",
    "words",
    refused={
        **dict.fromkeys(("-file", "-queue", "-interactive"), OTHER_PROGRAM),
        **dict.fromkeys(("-dry-run", "-dump", "-help", "-verbose"), NO_JOB),
    },
    valued=_one_value("-name -addr -address -pool -password -a -append -batch-name -batch-id -maxjobs -remote"),
    flags=_flags("-terse -unused -disable -debug -spool -factory -single-cluster -allow-crlf-script"),
    refused_values=dict.fromkeys(
        ("-a", "-append"), (rf"({_WHAT_RUNS}[=@:]|queue\b|include\b|use\b|if\b).*", OTHER_PROGRAM)
    ),
    only_known=True,
    operand=rf"(?!{_WHAT_RUNS}=)[^=]+=.*",
)
"""condor_submit of HTCondor 25. An operand with ``=`` sets a variable of the submit description."""
