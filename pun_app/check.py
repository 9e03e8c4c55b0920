"""What an admin wants to know of the cluster files before anything is started: for ``punway check``.

``python -I -m pun_app.check FOLDER`` prints a line of JSON for each finding: ``{"ok": …, "text": …}``; that of a
cluster has ``cluster`` too: its id, adapter, version, and what can be done there. A process of its own, since the front
imports nothing of the app.
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
    """Whether a thing is well, and in words; of a cluster, the cells of its row."""

    ok: bool
    text: str
    cluster: tuple[str, ...] | None = None


def check(folder: Path) -> list[Finding]:
    """One finding or more for each file."""
    if not folder.is_dir():
        return [Finding(False, f"{folder} is not a directory; put Open OnDemand's cluster files there (clusters.path)")]
    files = cluster_files(folder)
    if not files:
        return [Finding(False, f"{folder} has no *.yml file, so there is no cluster")]
    return [_check_file(path) for path in files]


def _check_file(path: Path) -> Finding:
    try:
        cluster = load_cluster(path)
    except BadClusterFile as error:
        return Finding(False, f"{path}: left out: {error}")
    if cluster is None:
        user = os.environ.get("USER", "this user")
        return Finding(True, f"{path}: takes no jobs of {user} (no job section, or its ACLs)")
    name = cluster.adapter_name
    if name not in ADAPTERS:
        return Finding(
            False,
            f"{path}: adapter {name}: its jobs answer 501; Punway speaks {', '.join(ADAPTERS)}",
            (cluster.id, name, "", "be listed; all else answers 501", ""),
        )
    try:
        adapter = adapter_for(cluster.id, name, cluster.job)
        paths = [adapter.command_path(command) for command in adapter.program_names()]
        missing = [p for p in paths if os.path.isabs(p) and not os.access(p, os.X_OK)]
        if missing:
            return Finding(False, f"{path}: cannot be run: {', '.join(missing)} (job.bin, job.bin_overrides)")
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
