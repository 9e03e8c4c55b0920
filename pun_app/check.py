"""What an admin wants to know of the cluster files before anything is started: for ``punway check``.

``python -I -m pun_app.check FOLDER`` prints a line of JSON for each file: ``{"ok": …, "text": …}``. A process
of its own, since the front imports nothing of the app.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from pun_app.adapters.registry import ADAPTERS, adapter_for
from pun_app.clusters.load import BadClusterFile, cluster_files, load_cluster
from pun_app.errors import ApiError


def check(folder: Path) -> list[tuple[bool, str]]:
    """One finding or more for each file: whether it is well, and in words."""
    if not folder.is_dir():
        return [(False, f"{folder} is not a directory; put Open OnDemand's cluster files there (clusters.path)")]
    files = cluster_files(folder)
    if not files:
        return [(False, f"{folder} has no *.yml file, so there is no cluster")]
    return [finding for path in files for finding in _check_file(path)]


def _check_file(path: Path) -> list[tuple[bool, str]]:
    try:
        cluster = load_cluster(path)
    except BadClusterFile as error:
        return [(False, f"{path}: left out: {error}")]
    if cluster is None:
        return [(True, f"{path}: takes no jobs of {os.environ.get('USER', 'this user')} (no job section, or its ACLs)")]
    if cluster.adapter_name not in ADAPTERS:
        known = ", ".join(ADAPTERS)
        return [(False, f"{path}: adapter {cluster.adapter_name}: its jobs answer 501; Punway speaks {known}")]
    try:
        adapter = adapter_for(cluster.id, cluster.adapter_name, cluster.job)
        paths = [adapter.command_path(name) for name in adapter.commands()]
    except ApiError as error:
        return [(False, f"{path}: {error.message}")]
    missing = [p for p in paths if os.path.isabs(p) and not os.access(p, os.X_OK)]
    if missing:
        return [(False, f"{path}: cannot be run: {', '.join(missing)} (job.bin, job.bin_overrides)")]
    return [(True, f"{path}: cluster {cluster.id}, adapter {cluster.adapter_name}")]


if __name__ == "__main__":
    logging.disable()
    for ok, text in check(Path(sys.argv[1])):
        print(json.dumps({"ok": ok, "text": text}))
