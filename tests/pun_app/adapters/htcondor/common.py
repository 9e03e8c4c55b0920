"""Requests that the tests of the HTCondor adapter share."""

from __future__ import annotations

from pun_app.adapters.htcondor.condor_submit import description
from pun_app.adapters.model import JobRequest

PLAIN = JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp", submit_tag="tag")


def described(request: JobRequest) -> dict[str, str]:
    """Return the lines of a submit description by their keys."""
    text = description(request, "/x/script", {"universe": "vanilla"})
    lines = text.splitlines()
    assert lines[-1].startswith("queue ")
    return {**dict(line.split(" = ", 1) for line in lines[:-1]), "queue": lines[-1]}
