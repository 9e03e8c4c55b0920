"""``punway relay``: the start of the relay.

It starts as root, or as the one user of single-user mode, binds the relay's socket, drops root's privileges for those
of nginx's user, and serves. nginx's user may connect to PUNs anyway and sees all traffic that passes here, so the relay
gives no process more rights than it would have without it.
"""

from __future__ import annotations

import logging
import os
import pwd
import resource
import signal
import sys

from proxy_hook.config import Config
from proxy_hook.relay.relay import Relay
from punway.errors import CannotServe
from punway.folders import nginx_group, prepare
from punway.privileges import bind, drop_privileges

MAX_REQUESTS = 16_384
SPARE_DESCRIPTORS = 64
BACKLOG = 4096


def main(config: Config) -> None:
    """Serve until SIGTERM or SIGINT. Raises FolderError, CannotServe."""
    prepare(config)
    path = config.run_dir / "relay.sock"
    listener = bind(path, 0o660)
    listener.listen(BACKLOG)
    if not config.single_user:
        group = nginx_group(config)
        user = pwd.getpwnam(config.portal.nginx_user)
        os.chown(path, user.pw_uid, group)
        drop_privileges(user)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="punway relay: %(message)s")
    relay = Relay(listener, str(config.run_dir), _max_requests())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, relay.stop)
    logging.getLogger("punway").info("ready")
    relay.run()


def _max_requests() -> int:
    """Raise the limit of open files, and return the number of requests that it allows. Raises CannotServe below 100."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each request has a connection to nginx and one to the PUN.
    needed = 2 * MAX_REQUESTS + SPARE_DESCRIPTORS
    allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    requests = (allowed - SPARE_DESCRIPTORS) // 2
    if requests < 100:
        raise CannotServe(f"the limit of open files is {hard}, which is too low; run: ulimit -n {needed}")
    return requests
