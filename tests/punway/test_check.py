"""Tests of punway/check.py: the limits in nginx's files. tests/system/test_commands.py tests the rest of it."""

from __future__ import annotations

import pytest

from punway.check import room_in

PORTAL = "# configuration file /etc/nginx/conf.d/punway.conf:\nupstream punway_relay {\n}\n"
ROOM = "worker_rlimit_nofile 65536;\nevents { worker_connections 32768; }\n"


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        (ROOM + PORTAL, True),
        ("user www-data;\nevents {\n\tworker_connections 768;\n\t# multi_accept on;\n}\n" + PORTAL, False),
        ("events { worker_connections 32768; }\n" + PORTAL, False),
        ("worker_rlimit_nofile 65536;\n# worker_connections 32768;\nevents { }\n" + PORTAL, False),
        ("worker_rlimit_nofile 1024;\nevents { worker_connections 32768; }\n" + PORTAL, False),
    ],
    ids=["enough", "Debian's default", "no file limit", "commented out", "file limit too low"],
)
def test_room_in_the_distributions_nginx(text: str, ok: bool) -> None:
    """Limits that are too low are a problem, and the finding says which values to set."""
    finding = room_in(text)
    assert finding and finding[0] == ok
    assert ok or "32768 and 65536" in finding[1]


def test_an_nginx_that_does_not_serve_the_portal_is_no_matter() -> None:
    """The limits of an nginx that does not serve the portal are not checked."""
    assert room_in("events { worker_connections 768; }\n# upstream punway_relay {\n") is None
