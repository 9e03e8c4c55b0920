"""``punway hook``: the start of the hook.

It starts as root, or as the one user of single-user mode. As root it only binds two sockets, opens one file in the run
directory, and reads the secret files that punway.toml names. Then it drops root's privileges for those of the hook's
user, imports the libraries, and serves.
"""

from __future__ import annotations

import logging
import os
import pwd
import resource
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from proxy_hook.accounts import rules_of
from proxy_hook.config import Config
from punway.errors import FolderError
from punway.folders import nginx_group
from punway.privileges import BACKLOG, bind, drop_privileges
from spawner.eligible import Rules


def main(config: Config) -> None:
    """Serve until SIGTERM or SIGINT. Raises FolderError, and SystemExit when a part of the hook has ended by itself."""
    run = config.run_dir
    # Each connection of nginx or of a local user takes a descriptor, and the usual soft limit is 1,024.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    hook_socket = bind(run / "hook.sock", 0o660)
    register_socket = bind(run / "register.sock", 0o666)
    public_key = os.open(run / "assertion.pub", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    os.fchmod(public_key, 0o644)
    secrets = Secrets(_read(config.login.client_secret_file), _read(config.login.header_secret_file))
    rules = rules_of(config)  # Before the uid changes: in single-user mode the rules name the user of this process.
    if not config.single_user:
        hook_user = pwd.getpwnam(config.portal.hook_user)
        os.chown(run / "hook.sock", hook_user.pw_uid, nginx_group(config))
        drop_privileges(hook_user)
    _serve(config, secrets, rules, hook_socket, register_socket, public_key)


@dataclass(frozen=True, repr=False)
class Secrets:
    """The secrets that only root may read. The hook keeps them in memory only; ``repr`` does not show them."""

    client: str
    front: str


def _read(path: str) -> str:
    """Return the secret in a file; the empty string without a path. Raises FolderError."""
    if not path:
        return ""
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise FolderError(f"cannot read {path}: {error}") from error
    if not secret:
        raise FolderError(f"{path} is empty; write the secret into it")
    return secret


def _serve(
    config: Config,
    secrets: Secrets,
    rules: Rules,
    hook_socket: socket.socket,
    register_socket: socket.socket,
    public_key: int,
) -> None:
    import uvicorn
    import uvloop

    from proxy_hook import audit
    from proxy_hook.accounts import Accounts, EligibleAccounts
    from proxy_hook.app import App
    from proxy_hook.browser.oidc import OidcSignIn
    from proxy_hook.browser.sessions import Links, Sessions
    from proxy_hook.browser.sign_in import SignIn
    from proxy_hook.hook import Hook
    from proxy_hook.identify import ByJwt
    from proxy_hook.idp.provider import IdentityProvider
    from proxy_hook.idp.resource_metadata import ResourceMetadata
    from proxy_hook.rate_limits import RateLimits
    from proxy_hook.registrar import Registrar
    from proxy_hook.spawner_client import SpawnerClient
    from proxy_hook.supervision import end_on_thread_failure, run_together
    from proxy_hook.token_routes import RouteTable
    from tokens.assertion import Signer

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="punway hook: %(name)s: %(message)s")
    for name in ("uvicorn", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    audit.to_stdout()
    end_on_thread_failure()
    signer = Signer()
    with os.fdopen(public_key, "wb") as file:
        file.truncate()
        file.write(signer.public_pem())
    routes = RouteTable.in_folder(Path(config.portal.state_dir))
    spawner = SpawnerClient(config.run_dir / "spawner.sock")
    accounts, provider, links = Accounts(config.pun.user_regex), IdentityProvider(config.idp), Links()
    limits = RateLimits(config.limits)
    oidc = OidcSignIn(config, provider, secrets.client) if config.login.oidc else None
    sessions = Sessions(config.login.session_lifetime)
    hook = Hook(
        routes=routes,
        spawner=spawner,
        signer=signer,
        by_jwt=ByJwt(config.idp, provider, accounts, config.token_policy) if config.takes_jwts else None,
        sign_in=SignIn(config, sessions, links, accounts, spawner, oidc, secrets.front),
        metadata=ResourceMetadata(config),
        limits=limits,
        policy=config.token_policy,
    )
    eligible = EligibleAccounts(rules)
    registrar = Registrar(routes, eligible, limits, links if config.login.link else None)
    server = uvicorn.Server(
        uvicorn.Config(
            App(hook),
            http="httptools",
            lifespan="off",
            backlog=BACKLOG,  # uvicorn calls listen() again.
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            # Longer than nginx keeps an idle connection (60 s); otherwise nginx could reuse one that is closing.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
        )
    )

    async def serve() -> None:
        logging.getLogger("punway").info("ready")
        await run_together(
            server.serve(sockets=[hook_socket]),
            {"registrar": registrar.serve(register_socket), "audit log": audit.write_omitted_regularly()},
        )

    uvloop.run(serve())
    routes.close()
