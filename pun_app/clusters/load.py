"""A loader of OOD's cluster files (schema v2). It skips files that cannot be used, and logs why.

Read as the user: the files' permissions are part of the site's access rules. A file that does not parse
is left out with a logged reason and takes no other file with it. Format: the Open OnDemand documentation,
"Cluster Config Schema v2".
"""

from __future__ import annotations

import logging
import os
import re
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from pun_app.adapters.registry import adapter_for
from pun_app.clusters.acls import allowed
from pun_app.clusters.cached_scheduler import CachedScheduler
from pun_app.errors import NotFound

log = logging.getLogger("punway.pun")

# The C loader is ten times as fast; a PyYAML without libyaml has only the other.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SIZE = 256 * 1024


class BadClusterFile(Exception):
    """The file cannot be used. The message says why; it is for the admin."""


@dataclass(frozen=True)
class Cluster:
    """A configured target for jobs. ``job`` is the mapping in the cluster file, which OOD documents."""

    id: str
    title: str
    adapter_name: str
    login_host: str | None
    hidden: bool
    job: dict[str, Any]

    @cached_property
    def scheduler(self) -> CachedScheduler:
        """Return the cluster's adapter behind its cache."""
        return CachedScheduler(adapter_for(self.id, self.adapter_name, self.job))

    @property
    def state(self) -> Literal["up", "down"] | None:
        """Return whether the scheduler answered its last command; None if unknown. This runs no command."""
        scheduler: CachedScheduler | None = self.__dict__.get("scheduler")
        return scheduler.health.state if scheduler else None


class ClusterFolder:
    """The clusters in one folder of cluster files, which is read again when a file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: object = None
        self._clusters: dict[str, Cluster] = {}

    def listed(self) -> list[Cluster]:
        """Return every cluster that the user may submit to, ordered by id."""
        with self._lock:
            seen = self._signature()
            if seen != self._seen:
                self._clusters, self._seen = self._load(), seen
            return list(self._clusters.values())

    def get(self, cluster_id: str) -> Cluster:
        """Return a cluster. Raises NotFound, also for a cluster whose ACLs deny the user access."""
        for cluster in self.listed():
            if cluster.id == cluster_id:
                return cluster
        raise NotFound("Cluster not found")

    def _signature(self) -> object:
        try:
            return sorted(_identity(path) for path in self._path.iterdir())
        except OSError as error:
            return error.errno

    def _load(self) -> dict[str, Cluster]:
        clusters = {}
        for path in cluster_files(self._path):
            try:
                cluster = load_cluster(path)
            except BadClusterFile as error:
                log.warning("%s is left out: %s", path, error)
                continue
            if cluster:
                clusters[cluster.id] = cluster
        return clusters


def _identity(path: Path) -> tuple[str, int, int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return path.name, 0, 0, 0, 0
    return path.name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def cluster_files(folder: Path) -> list[Path]:
    """Return the files that OOD would read, ordered by name; none if the folder cannot be read."""
    try:
        return sorted(p for p in folder.iterdir() if p.suffix in (".yml", ".yaml") and p.is_file())
    except OSError as error:
        log.warning("no cluster files: %s: %s", folder, error.strerror)
        return []


def load_cluster(path: Path) -> Cluster | None:
    """Return the cluster in a file; None if it accepts no jobs, or none of the user. Raises BadClusterFile."""
    v2 = _mapping(_document(path).get("v2"), "v2")
    metadata = _mapping(v2.get("metadata", {}), "metadata")
    login = _mapping(v2.get("login", {}), "login")
    if not v2.get("job"):
        return None
    job = _mapping(v2["job"], "job")
    adapter = job.get("adapter")
    if not isinstance(adapter, str):
        raise BadClusterFile("job.adapter is missing")
    if not allowed(v2.get("acls")) or not allowed(job.get("acls")):
        return None
    host = login.get("host")
    return Cluster(
        id=path.stem,
        title=str(metadata.get("title") or re.sub(r"[_-]+", " ", path.stem).title()),
        adapter_name=adapter,
        login_host=str(host) if host else None,
        hidden=metadata.get("hidden") is True,
        job=job,
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        if not os.access(path, os.R_OK):
            return {"v2": {}}  # The site's way to keep users out; no fault of the file.
        if path.stat().st_size > _SIZE:
            raise BadClusterFile(f"it is larger than {_SIZE} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadClusterFile(f"it cannot be read: {error}") from error
    if "<%" in text:
        raise BadClusterFile("it is an ERB template; write the plain YAML out")
    try:
        document = yaml.load(text, _LOADER)  # noqa: S506 - both loaders are safe ones
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadClusterFile(f"it is not valid YAML: {error}") from error
    return _mapping(document, "the file")


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadClusterFile(f"{what} must be a mapping")
    return value
