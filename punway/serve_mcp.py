"""``punway mcp-server``: the start of the MCP server.

It runs as root, or as the one user of single-user mode. It binds the server's socket, drops root's privileges for those
of mcp.user, and executes the server in a fresh interpreter, so that the server does not hold the code that
reads the configuration. The server gets the socket to serve on and the path of nginx's inner socket.
"""

from __future__ import annotations

import json
import os

from proxy_hook.config import Config, interpreter
from punway.errors import CannotServe
from punway.folders import nginx_group, prepare, user_of
from punway.privileges import bind, drop_privileges


def main(config: Config) -> None:
    """Replace this process by the MCP server. Never returns. Raises FolderError; CannotServe without mcp.enabled."""
    if not config.mcp.enabled:
        raise CannotServe("mcp.enabled is false in punway.toml; set it to true, or disable the unit punway-mcp")
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
