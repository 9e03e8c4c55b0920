"""``punway mcp-server``: bind the MCP server's socket, become its user for good, then be it.

Starts as root, or as the one user of single-user mode. The server is a fresh interpreter, so that it holds nothing of
what read the configuration; it is given the socket that it answers on and where it reaches nginx.
"""

from __future__ import annotations

import json
import os

from proxy_hook.config import Config, interpreter
from punway.errors import CannotServe
from punway.folders import nginx_group, prepare, user_of
from punway.privileges import bind, drop_privileges


def main(config: Config) -> None:
    """Never returns. Raises CannotServe where the configuration has no MCP server."""
    if not config.mcp.enabled:
        raise CannotServe("mcp.enabled is false in this portal's punway.toml")
    user = None if config.single_user else user_of("mcp.user", config.mcp.user)
    prepare(config)
    path = config.run_dir / "mcp.sock"
    listener = bind(path, 0o660)
    if user:
        os.chown(path, user.pw_uid, nginx_group(config))
        drop_privileges(user)
    os.set_inheritable(listener.fileno(), True)
    settings = {
        "listener": listener.fileno(),
        "portal": str(config.inner_socket),
        "public_url": config.portal.public_url,
        "origin": config.origin,
        "max_body": config.max_body_bytes,
    }
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    argv = [interpreter(), "-I", "-m", "mcp_server", json.dumps(settings)]
    os.execve(interpreter(), argv, environment)
