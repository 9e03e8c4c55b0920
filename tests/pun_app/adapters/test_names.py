"""Tests of job names that could break a list: a newline, a separator of the output, markup, bytes other than UTF-8.

One of several jobs has such a name, in the output as the scheduler's command writes it. No job may be lost.
"""

from __future__ import annotations

import json
from html import escape

import pytest

from pun_app.adapters.command import Output
from pun_app.adapters.command_line import CommandLineAdapter
from pun_app.adapters.registry import adapter_for
from tests.pun_app.adapters.recordings import answers

NAMES = [
    "a\nb",
    "q\"u'o\\te",
    "<b>&amp;",
    "}], {",
    "a\tb|c;d,e",
    "\ufffd\ufffd",
    "5.vm",
    "JOBID USER",
    "é世",
    "-N",
    "]]>",
    " ",
]


def pbs(names: list[str]) -> list[Output]:
    jobs = {f"{n}.vm": {"Job_Name": name, "Job_Owner": "alice@vm", "job_state": "Q"} for n, name in enumerate(names)}
    return [Output(0, "0.vm", ""), Output(0, "", ""), Output(0, json.dumps({"Jobs": jobs}, ensure_ascii=False), "")]


def torque(names: list[str]) -> list[Output]:
    documents = [
        f'<?xml version="1.0"?>\n<Data><Job><Job_Id>{n}.vm</Job_Id><Job_Name>{escape(name)}</Job_Name><Job_Owner>alice@vm</Job_Owner>'
        "<job_state>Q</job_state></Job></Data>\n"
        for n, name in enumerate(names)
    ]
    return [Output(0, "0.vm", ""), Output(0, "".join(documents), "")]


def lsf(names: list[str]) -> list[Output]:
    rows = [{"JOBID": str(n + 1), "JOB_NAME": name, "USER": "alice", "STAT": "PEND"} for n, name in enumerate(names)]
    return [Output(0, json.dumps({"COMMAND": "bjobs", "RECORDS": rows}, ensure_ascii=False), "")]


def sge(names: list[str]) -> list[Output]:
    rows = [
        f"<job_list><JB_job_number>{n + 1}</JB_job_number><JB_owner>alice</JB_owner><state>qw</state>"
        f"<full_job_name>{escape(name)}</full_job_name></job_list>"
        for n, name in enumerate(names)
    ]
    return [Output(0, f"<job_info><job_info>{''.join(rows)}</job_info></job_info>", "")]


def htcondor(names: list[str]) -> list[Output]:
    ads = [
        {"ClusterId": n + 1, "ProcId": 0, "Owner": "alice", "JobStatus": 1, "JobBatchName": name}
        for n, name in enumerate(names)
    ]
    return [Output(0, json.dumps(ads), ""), Output(0, "", "")]


@pytest.mark.parametrize(
    ("name", "said"), [("pbspro", pbs), ("torque", torque), ("lsf", lsf), ("sge", sge), ("htcondor", htcondor)]
)
def test_any_name_hides_no_job(name: str, said: object) -> None:
    adapter = adapter_for("c", name, {"adapter": name, "host": "h"})
    assert isinstance(adapter, CommandLineAdapter) and callable(said)
    adapter.user = "alice"
    answers(adapter, *said(NAMES))
    jobs = adapter.jobs()
    assert len(jobs) == len(NAMES)
    # Blanks around a name are not told from none in XML and in LSF's columns.
    assert [(job.name or "").strip() for job in jobs] == [given.strip() for given in NAMES]
