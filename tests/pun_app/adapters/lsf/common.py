"""Requests and recorded output that the tests of the LSF adapter share."""

from __future__ import annotations

from dataclasses import replace

from pun_app.adapters.model import JobRequest
from tests.pun_app.adapters.recordings import Recordings

RECORDED = Recordings("lsf-volclava")

NOW = 1795461000

PLAIN = JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp", submit_tag="tag")

FULL = replace(
    PLAIN, job_name="n", queue_name="short", accounting_id="p", wall_time=90, output_path="/o", error_path="/e", array="1-9:2%3",
    after=("1",), afterok=("2", "3"), afternotok=("4",), afterany=("5[1]",), nodes=2, cores=4, memory=100, gpus=1,
    reservation="r#1", environment={"A": "1"}, hold=True, email="a@example.org",
)  # fmt: skip

UNITS_PER_MIB = (1024, 1)
