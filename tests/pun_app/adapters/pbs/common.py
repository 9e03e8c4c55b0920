"""Requests and recorded output that the tests of the PBS and Torque adapters share."""

from __future__ import annotations

from dataclasses import replace

from pun_app.adapters.model import JobRequest
from tests.pun_app.adapters.recordings import Recordings

OPENPBS = Recordings("openpbs")

PLAIN = JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp")

PBSPRO_FULL = replace(
    PLAIN, job_name="n", queue_name="workq", accounting_id="a", wall_time=90, output_path="/o", error_path="/e", array="1-9",
    after=("1.vm",), afterok=("2.vm", "3.vm"), afternotok=("4[].vm",), afterany=("5",), nodes=2, cores=5, memory=100, gpus=1,
    environment={"A": "1", "B": ""}, hold=True, email="a@example.org",
)  # fmt: skip

TORQUE = Recordings("torque")

TORQUE_FULL = replace(
    PLAIN, job_name="n", queue_name="batch", accounting_id="a", wall_time=90, output_path="/o", error_path="/e", array="1-9%2",
    after=("1.vm",), afterok=("2.vm", "3.vm"), afternotok=("4.vm",), afterany=("5",), nodes=2, cores=4, memory=100, gpus=1, qos="q",
    reservation="r.1", environment={"A": "1"}, hold=True, email="a@example.org",
)  # fmt: skip
