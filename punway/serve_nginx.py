"""``punway nginx``: an nginx for the portal alone, in the foreground, with a whole configuration from punway.toml.

For ``punway serve``, and for hosts where the distribution's nginx serves other things as well. It gets an environment
built from nothing. With systemd's LogsDirectory= its logs are files there; else the audit log is the standard output,
as the hook's is, and the access log the standard error.
"""

from __future__ import annotations

import os
from pathlib import Path

from proxy_hook.config import ENVIRONMENT, Config
from punway import nginx_config
from punway.folders import nginx_group, prepare
from punway.nginx_program import find_nginx


def main(config: Config) -> None:
    """Become nginx. Raises FolderError, CannotServe."""
    nginx = find_nginx()
    prepare(config)
    if not config.single_user:
        nginx_group(config)
    folder = config.run_dir / "nginx"
    logs = os.environ.get("LOGS_DIRECTORY")
    conf = write_files(config, folder, Path(logs) if logs else None)
    # An nginx that was killed leaves its socket, and would not bind it again.
    config.inner_socket.unlink(missing_ok=True)
    argv = [nginx, "-e", "stderr", "-p", str(folder), "-c", conf]
    os.execve(nginx, argv, ENVIRONMENT)  # noqa: S606 - no shell


def write_files(config: Config, folder: Path, logs: Path | None) -> str:
    """Write nginx's configuration; return its path."""
    folder.mkdir(exist_ok=True)
    # Whatever the umask is: nginx's workers have folders of theirs below it.
    folder.chmod(0o755)
    access, audit = (str(logs / "access.log"), str(logs / "audit.log")) if logs else ("/dev/stderr", "/dev/stdout")
    (folder / "portal.conf").write_text(nginx_config.portal_config(config, access, audit))
    path = folder / "nginx.conf"
    path.write_text(nginx_config.whole_config(config))
    return str(path)
