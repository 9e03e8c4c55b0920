"""proxy_hook/browser/sessions.py: sessions end by time or by signing out; a link is valid once, for a short time."""

from __future__ import annotations

import threading

from proxy_hook.accounts import UnixAccount
from proxy_hook.browser.sessions import LINK_LIFETIME_S, MAX_LINKS_PER_USER, MAX_SESSIONS_PER_USER, Links, Sessions
from tests.clock import Clock

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


def test_a_session_ends_by_time() -> None:
    """Only monotonic time counts, so setting the wall clock signs nobody out."""
    clock = Clock()
    sessions = Sessions(600, clock=clock)
    cookie = sessions.begin(ALICE, "link")
    clock.now += 599
    assert sessions.find(cookie)
    clock.now += 1
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


def test_no_cookie_is_stored_and_no_two_sessions_share_a_name() -> None:
    sessions = Sessions(600)
    cookie = sessions.begin(ALICE, "link")
    session = sessions.find(cookie)
    again = sessions.find(sessions.begin(ALICE, "link"))
    assert session and again
    # Only the stored sessions themselves can show that they do not contain the cookie.
    assert cookie.split(".")[0] not in repr(sessions._sessions)
    assert session.sid != again.sid


def test_sessions_have_bounds() -> None:
    """Too many sessions of one user end that user's oldest; too many of all users end the oldest of all."""
    sessions = Sessions(600, max_sessions=MAX_SESSIONS_PER_USER + 1)
    first = sessions.begin(BOB, "link")
    mine = [sessions.begin(ALICE, "link") for _ in range(MAX_SESSIONS_PER_USER + 5)]
    assert [bool(sessions.find(cookie)) for cookie in mine] == [False] * 5 + [True] * MAX_SESSIONS_PER_USER
    assert sessions.find(first)
    sessions.begin(UnixAccount(1003, "carol"), "link")
    assert sessions.find(first) is None


def test_a_link_is_good_once() -> None:
    links = Links()
    code = links.make(ALICE)
    assert links.look(code) == links.look(code) == ALICE
    assert links.use(code) == ALICE
    assert links.look(code) is None
    assert links.use(code) is None


def test_a_link_is_over_after_its_time() -> None:
    clock = Clock()
    links = Links(clock)
    codes = [links.make(ALICE), links.make(ALICE)]
    clock.now += LINK_LIFETIME_S - 1
    assert links.use(codes[0]) == ALICE
    clock.now += 1
    assert links.look(codes[1]) is None
    assert links.use(codes[1]) is None
    assert LINK_LIFETIME_S == 60


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
    """Too many links of one user make only that user's oldest invalid."""
    links = Links()
    bobs = links.make(BOB)
    mine = [links.make(ALICE) for _ in range(MAX_LINKS_PER_USER + 1)]
    assert links.look(mine[0]) is None
    assert links.look(mine[1]) == ALICE
    assert links.look(bobs) == BOB
