"""pun_app/adapters/sge/output.py, with output in the form of Son of Grid Engine 8.1.9."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pun_app.adapters.sge.output import KnownStreams, parse_streams
from tests.pun_app.adapters.sge.common import STREAMS_FORMAT


@pytest.mark.parametrize(
    "out, err, cwd, joined, kind, task, expected",
    [
        ("", "", "", "false", 0, "", ("/home/h/STDIN.o7", "/home/h/STDIN.e7")),
        ("", "", "/w", "true", 128, "3", ("/w/STDIN.o7.3", "/w/STDIN.o7.3")),
        ("$JOB_NAME.$TASK_ID", "/x/$JOB_ID", "/w", "false", 128, "3", ("/w/STDIN.3", "/x/7")),
        ("/", "$HOSTNAME.e", "/w", "false", 0, "", ("/STDIN.o7", None)),
        ("$HOME/$USER", "", "/w", "true", 0, "", ("/home/h/h", "/home/h/h")),
        ("~/t.out", "~nobody-of-that-name/e", "/w", "false", 0, "", ("/home/h/t.out", "/w/~nobody-of-that-name/e")),
    ],
    ids=["neither", "tasks", "variables", "folder and host", "home", "tilde"],
)
def test_output_paths(
    monkeypatch: pytest.MonkeyPatch, out: str, err: str, cwd: str, joined: str, kind: int, task: str, expected: Any
) -> None:
    """Paths are those that -o and -e of qsub(1) define, in the form that qstat 8.1.9 prints."""
    monkeypatch.setenv("HOME", "/home/h")
    lists = {
        name: f"<JB_{name}_path_list><path_list><PN_path>{path}</PN_path></path_list></JB_{name}_path_list>"
        if path
        else ""
        for name, path in (("stdout", out), ("stderr", err))
    }
    folder = f"<JB_cwd>{cwd}</JB_cwd>" if cwd else ""
    streams = parse_streams(
        STREAMS_FORMAT.format(joined=joined, cwd=folder, out=lists["stdout"], err=lists["stderr"], type=kind)
    )
    assert streams is not None
    files = streams.files("7", task)
    assert ((files.stdout, files.stderr), streams.array) == (expected, kind == 128)


def test_output_paths_are_kept_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are also known to the user's next PUN. Those of another user's job are not kept."""
    monkeypatch.setenv("HOME", str(tmp_path))
    details = STREAMS_FORMAT.format(joined="true", cwd="<JB_cwd>/w</JB_cwd>", out="", err="", type=0)
    assert KnownStreams("c").find("7", None, "h") is None
    assert KnownStreams("c").find("7", details, "other") is not None
    assert KnownStreams("c").find("7", None, "h") is None
    assert KnownStreams("c").find("7", details, "h") == KnownStreams("c").find("7", None, "h")
    assert KnownStreams("d").find("7", None, "h") is None
