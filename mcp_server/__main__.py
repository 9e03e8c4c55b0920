"""The program ``python -m mcp_server SETTINGS``: the MCP server of a portal, on an inherited socket.

``punway mcp-server`` runs it, after it has bound the socket and given up root. SETTINGS is JSON: ``listener``, the
socket's file descriptor; ``portal``, the path of nginx's socket; ``public_url``; ``origin``; ``max_body`` in bytes.
"""

from __future__ import annotations

import json
import logging
import resource
import socket
import sys
from urllib.parse import urlsplit

import uvicorn

from mcp_server.limits import MAX_OPEN
from mcp_server.portal import Portal
from mcp_server.server import mcp_app


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = json.loads(sys.argv[1])
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="punway mcp: %(name)s: %(message)s")
    # A waiting request has two connections. systemd and shells limit a process to 1,024 unless it raises its own limit.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 3 * MAX_OPEN)), hard))
    portal = Portal(settings["portal"], urlsplit(settings["public_url"]).netloc)
    app = mcp_app(portal, settings["public_url"], settings["origin"], settings["max_body"])
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http="httptools",
            loop="uvloop",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=5,
        )
    )
    server.run(sockets=[socket.socket(fileno=settings["listener"])])


if __name__ == "__main__":
    main()
