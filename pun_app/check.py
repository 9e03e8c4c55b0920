"""A check of the cluster files for ``punway check``, before anything is started.

``python -I -m pun_app.check FOLDER`` prints a line of JSON for each finding: ``{"ok": …, "text": …}``. The finding of a
cluster also has ``cluster``: its id, adapter, version, and the supported operations and options. This is a process of
its own because the ``punway`` command imports nothing of the app.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from pun_app.adapters.abilities import missing_operations, missing_options
from pun_app.adapters.errors import SchedulerError
from pun_app.adapters.registry import ADAPTERS, adapter_for
from pun_app.clusters.load import BadClusterFile, cluster_files, load_cluster


@dataclass(frozen=True)
class Finding:
    """A result of the check as a sentence. ``ok`` is false for a problem. ``cluster`` is a row of the printed table."""

    ok: bool
    text: str
    cluster: tuple[str, ...] | None = None


def check(folder: Path) -> list[Finding]:
    """Return a finding for each cluster file in a folder, or a single one about a missing or empty folder."""
    if not folder.is_dir():
        return [
            Finding(
                False,
                f"{folder} is not a directory; set clusters.path to the folder with Open OnDemand's cluster files",
            )
        ]
    files = cluster_files(folder)
    if not files:
        return [Finding(False, f"{folder} has no *.yml file; add a cluster file for each cluster")]
    return [_check_file(path) for path in files]


def _check_file(path: Path) -> Finding:
    try:
        cluster = load_cluster(path)
    except BadClusterFile as error:
        return Finding(False, f"{path} is left out: {error}")
    if cluster is None:
        user = os.environ.get("USER", "this user")
        return Finding(
            True, f"{path}: accepts no jobs from {user}: it has no job section, or its ACLs exclude the user"
        )
    name = cluster.adapter_name
    if name not in ADAPTERS:
        return Finding(
            False,
            f"{path}: the adapter {name} is not supported, so jobs there return 501; use one of {', '.join(ADAPTERS)}",
            (cluster.id, name, "", "be listed; all else answers 501", ""),
        )
    try:
        adapter = adapter_for(cluster.id, name, cluster.job)
        paths = [adapter.command_path(command) for command in adapter.program_names()]
        missing = [p for p in paths if os.path.isabs(p) and not os.access(p, os.X_OK)]
        if missing:
            return Finding(False, f"{path}: cannot be run: {', '.join(missing)}; correct job.bin or job.bin_overrides")
        version = adapter.version() or ""
    except SchedulerError as error:
        return Finding(False, f"{path}: {error.message}")
    abilities = (_all_but(missing_operations(type(adapter))), _all_but(missing_options(type(adapter))))
    return Finding(True, f"{path}: cluster {cluster.id}, adapter {name}", (cluster.id, name, version, *abilities))


def _all_but(missing: list[str]) -> str:
    return f"all but {', '.join(missing)}" if missing else "all"


if __name__ == "__main__":
    logging.disable()
    for finding in check(Path(sys.argv[1])):
        print(json.dumps(asdict(finding)))
