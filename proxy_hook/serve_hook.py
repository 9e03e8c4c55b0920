"""``punway hook``: bind the hook's sockets, become the hook's user for good, then serve.

Starts as root, or as the one user of single-user mode. What needs root is done first and is little: two
sockets and one file in the run directory. The libraries are imported after root is gone.
"""

from __future__ import annotations

import logging
import os
import pwd
import socket
import sys
from pathlib import Path

from proxy_hook.config import Config
from proxy_hook.folders import nginx_group


def main(config: Config) -> None:
    """Serve until SIGTERM or SIGINT."""
    run = config.run_dir
    hook_socket = _bind(run / "hook.sock", 0o660)
    register_socket = _bind(run / "register.sock", 0o666)
    public_key = os.open(run / "assertion.pub", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    os.fchmod(public_key, 0o644)
    if not config.single_user:
        hook_user = pwd.getpwnam(config.portal.hook_user)
        os.chown(run / "hook.sock", hook_user.pw_uid, nginx_group(config))
        _become_hook_user(hook_user)
    _serve(config, hook_socket, register_socket, public_key)


def _bind(path: Path, mode: int) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(umask)
    path.chmod(mode)
    listener.listen(1024)
    return listener


def _become_hook_user(entry: pwd.struct_passwd) -> None:
    if entry.pw_uid == 0:
        raise SystemExit("punway hook: portal.hook_user must not be root")
    os.chdir("/")
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "HOME": "/", "USER": entry.pw_name, "LANG": "C.UTF-8"})


def _serve(config: Config, hook_socket: socket.socket, register_socket: socket.socket, public_key: int) -> None:
    import uvicorn

    from proxy_hook.hook import Hook
    from proxy_hook.registrar import Registrar
    from proxy_hook.routes import RouteTable
    from proxy_hook.spawner_client import SpawnerClient
    from tokens.assertion import Signer

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="punway hook: %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    signer = Signer()
    with os.fdopen(public_key, "wb") as file:
        file.truncate()
        file.write(signer.public_pem())
    routes = RouteTable.in_folder(Path(config.portal.state_dir))
    hook = Hook(routes, SpawnerClient(config.run_dir / "spawner.sock"), signer)
    Registrar(register_socket, routes).start()
    server = uvicorn.Server(
        uvicorn.Config(
            hook,
            http="httptools",
            loop="uvloop",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            # Longer than nginx keeps an idle connection (60 s), or it would reuse one that is just closing.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
        )
    )
    logging.getLogger("punway").info("ready")
    server.run(sockets=[hook_socket])
    routes.close()
