"""``punway nginx``: an nginx only for the portal, in the foreground, with a complete configuration from punway.toml.

``punway serve`` uses it, and so do hosts where the distribution's nginx serves other sites. It inherits nothing of the
caller's environment. If systemd sets LogsDirectory=, its logs are files there. Otherwise the audit log is standard
output, as for the hook, and the access log is standard error.
"""

from __future__ import annotations

import os
from pathlib import Path

from proxy_hook.config import ENVIRONMENT, Config
from punway import nginx_config
from punway.folders import nginx_group, prepare
from punway.nginx_program import find_nginx


def main(config: Config) -> None:
    """Replace this process by nginx. Never returns. Raises FolderError, CannotServe."""
    nginx = find_nginx()
    prepare(config)
    if not config.single_user:
        nginx_group(config)
    folder = config.run_dir / "nginx"
    logs = os.environ.get("LOGS_DIRECTORY")
    conf = write_files(config, folder, Path(logs) if logs else None)
    # A killed nginx leaves its socket behind, and a new one cannot bind to an existing socket.
    config.inner_socket.unlink(missing_ok=True)
    argv = [nginx, "-e", "stderr", "-p", str(folder), "-c", conf]
    os.execve(nginx, argv, ENVIRONMENT)  # noqa: S606 - no shell is involved


def write_files(config: Config, folder: Path, logs: Path | None) -> str:
    """Write nginx's configuration into ``folder``, for log files in ``logs``. Return the path of its nginx.conf."""
    folder.mkdir(exist_ok=True)
    # Independent of the umask: nginx's workers must reach their own folders in it.
    folder.chmod(0o755)
    access, audit = (str(logs / "access.log"), str(logs / "audit.log")) if logs else ("/dev/stderr", "/dev/stdout")
    (folder / "portal.conf").write_text(nginx_config.portal_config(config, access, audit))
    path = folder / "nginx.conf"
    path.write_text(nginx_config.full_config(config))
    return str(path)
