"""Requests, and output in the form of Son of Grid Engine 8.1.9, that the tests of the Grid Engine adapter share."""

from __future__ import annotations

from dataclasses import replace

from pun_app.adapters.model import JobRequest

PLAIN = JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp", submit_tag="tag")

FULL = replace(
    PLAIN, job_name="n", queue_name="all.q", accounting_id="p", wall_time=90, output_path="/o", error_path="/e", array="1-9:2%3",
    afterany=("5", "6.1"), cores=3, memory=100, reservation="7", environment={"A": "1"}, hold=True, email="a@example.org",
)  # fmt: skip


def xml_list(*jobs: str) -> str:
    """Return the XML of ``qstat -xml -r`` with these rows."""
    return (
        f"<?xml version='1.0'?>\n<job_info><queue_info>{''.join(jobs)}</queue_info><job_info></job_info></job_info>\n"
    )


def row(state: str, number: int = 7, more: str = "") -> str:
    """Return a row of ``qstat -xml -r``."""
    return (
        f'<job_list state="x"><JB_job_number>{number}</JB_job_number><JB_name>n</JB_name><JB_owner>alice</JB_owner>'
        f"<state>{state}</state>{more}<queue_name>all.q@vm</queue_name><slots>1</slots>"
        '<full_job_name>h%lt;1&gt;</full_job_name><hard_request name="h_rt">1:0:0</hard_request></job_list>'
    )


RECORD = """==============================================================
qname        all.q               
hostname     vm                  
owner        alice               
project      NONE                
jobname      envt                
jobnumber    3                   
taskid       {task}
account      sge                 
qsub_time    Mon Nov 23 05:41:13 2026
start_time   Mon Nov 23 05:41:14 2026
end_time     Mon Nov 23 05:41:24 2026
granted_pe   NONE                
slots        2                   
failed       {failed}
exit_status  {status}
ru_wallclock 10s
cpu          5.250s
maxvmem      3.000MB
category     {category}
"""  # noqa: W291 - as it is printed


def record(task: str = "undefined", failed: str = "0    ", status: str = "0", category: str = "NONE") -> str:
    """Return a record of ``qacct -j``."""
    return RECORD.format(task=task, failed=failed, status=status, category=category)


STREAMS_FORMAT = """<detailed_job_info><djob_info><element><JB_owner>h</JB_owner><JB_merge_stderr>{joined}</JB_merge_stderr>
<JB_job_name>STDIN</JB_job_name>{cwd}{out}{err}<JB_type>{type}</JB_type></element></djob_info></detailed_job_info>"""
