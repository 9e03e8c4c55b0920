"""``punway relay``: bind the relay's socket, become nginx's user for good, then relay.

Starts as root, or as the one user of single-user mode. nginx's user may connect to the users' processes already, and
sees all that passes here; so no process can do more than it could without a relay.
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
    """Raise the limit of descriptors, and return how many requests it allows: each takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * MAX_REQUESTS + SPARE_DESCRIPTORS
    allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    requests = (allowed - SPARE_DESCRIPTORS) // 2
    if requests < 100:
        raise CannotServe(f"the limit of open files is {hard}; raise it (ulimit -n) to {needed}")
    return requests
