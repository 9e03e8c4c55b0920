"""proxy_hook/browser/sessions.py: sessions end by time and by signing out; a link is good once, and soon."""

from __future__ import annotations

import threading
import time

import pytest

from proxy_hook.accounts import UnixAccount
from proxy_hook.browser import sessions as module
from proxy_hook.browser.sessions import Links, Sessions

ALICE, BOB = UnixAccount(1001, "alice"), UnixAccount(1002, "bob")


def test_a_session_is_its_users_until_it_is_ended() -> None:
    sessions = Sessions(600)
    mine, other = sessions.begin(ALICE, "link"), sessions.begin(ALICE, "oidc")
    session = sessions.find(mine)
    assert session
    assert (session.account, session.via) == (ALICE, "link")
    sessions.end(session)
    assert sessions.find(mine) is None
    assert sessions.find(other)


def test_a_session_ends_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time that passes; whoever sets the wall clock, forward or back, signs nobody out."""
    sessions = Sessions(600)
    cookie = sessions.begin(ALICE, "link")
    now, wall = module.time.monotonic(), time.time()
    for day in (-86_400, 86_400):
        monkeypatch.setattr(time, "time", lambda day=day: wall + day)
        assert sessions.find(cookie)
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 599)
    assert sessions.find(cookie)
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 602)
    assert sessions.find(cookie) is None


def test_an_altered_cookie_is_none() -> None:
    sessions = Sessions(600)
    cookie = sessions.begin(ALICE, "link")
    value, *rest = cookie.split(".")
    other = sessions.begin(BOB, "link").split(".")[0]
    for altered in (
        "", value, f"{value}.", cookie[:-1], cookie + "A", cookie.replace(cookie[3], "_" if cookie[3] != "_" else "-", 1),
        ".".join([other, *rest]), "é" * 50, "\0",
    ):  # fmt: skip
        assert sessions.find(altered) is None, altered
    assert Sessions(600).find(cookie) is None, "another process's key"


def test_no_cookie_is_kept_and_no_two_sessions_share_a_name() -> None:
    sessions = Sessions(600)
    cookie = sessions.begin(ALICE, "link")
    session = sessions.find(cookie)
    again = sessions.find(sessions.begin(ALICE, "link"))
    assert session and again
    assert cookie.split(".")[0] not in repr(sessions._sessions)
    assert session.sid != again.sid


def test_sessions_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One user's many push out that user's own oldest; all users' together the oldest of all."""
    sessions = Sessions(600)
    first = sessions.begin(BOB, "link")
    mine = [sessions.begin(ALICE, "link") for _ in range(module.MAX_SESSIONS_PER_USER + 5)]
    assert [bool(sessions.find(cookie)) for cookie in mine] == [False] * 5 + [True] * module.MAX_SESSIONS_PER_USER
    assert sessions.find(first)
    monkeypatch.setattr(module, "MAX_SESSIONS", module.MAX_SESSIONS_PER_USER + 1)
    sessions.begin(UnixAccount(1003, "carol"), "link")
    assert sessions.find(first) is None


def test_a_link_is_good_once() -> None:
    links = Links()
    code = links.make(ALICE)
    assert links.look(code) == links.look(code) == ALICE
    assert links.use(code) == ALICE
    assert links.look(code) is None
    assert links.use(code) is None


def test_a_link_is_over_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links()
    codes = [links.make(ALICE), links.make(ALICE)]
    now = module.time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 59)
    assert links.use(codes[0]) == ALICE
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 60)
    assert links.look(codes[1]) is None
    assert links.use(codes[1]) is None
    assert module.LINK_LIFETIME_S == 60


def test_of_many_browsers_at_once_one_has_the_link() -> None:
    links = Links()
    for _ in range(50):
        code = links.make(ALICE)
        got: list[object] = []
        barrier = threading.Barrier(4)

        def use(code: str = code, got: list[object] = got, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            got.append(links.use(code))

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, got)) == sorted(map(str, [ALICE, None, None, None]))


def test_links_have_bounds() -> None:
    """One user's many push out that user's own oldest, and nobody else's."""
    links = Links()
    bobs = links.make(BOB)
    mine = [links.make(ALICE) for _ in range(module.MAX_LINKS_PER_USER + 1)]
    assert links.look(mine[0]) is None
    assert links.look(mine[1]) == ALICE
    assert links.look(bobs) == BOB
