"""The first moments of a PUN: from a fork of root to the user's own process, told over a pipe.

Called in the child, by the preloader (fork) and by launch (exec) alike, so that both pass through the same
look-ups and the same become(). What it reports, one JSON line each: ``{"stage": …}`` as it gets on,
``{"refused": RULE}`` or ``{"failed": WHY}``. End of file after the last stage means that the PUN is there.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from proxy_hook.spawner.become import NotTheUser, become, close_descriptors, new_session
from proxy_hook.spawner.eligible import Refused, Rules, find_account

LAST_STAGE = "home"


@dataclass(frozen=True)
class Ticket:
    """All that is needed to start one PUN; ``app_settings`` is JSON for the app alone, opaque here."""

    name: str
    uid: int
    rules: Rules
    change_ids: bool
    no_new_privs: bool
    environment: dict[str, str]
    app_settings: str

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Ticket:
        rules = data.pop("rules")
        assert isinstance(rules, dict)
        lists = {key: tuple(value) if isinstance(value, list) else value for key, value in rules.items()}
        return cls(rules=Rules(**lists), **data)  # type: ignore[arg-type]


def be_born(
    ticket: Ticket, parent: int, listener: int, log: int, report: int, live: Callable[[int], None]
) -> NoReturn:
    """Become the ticket's user and ``live(listener)``; never returns. The descriptors are this child's own."""

    def tell(**news: str) -> None:
        os.write(report, json.dumps(news).encode() + b"\n")

    code = 1
    try:
        new_session()
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        keep = (0, 1, 2, listener, report)
        close_descriptors(keep)
        tell(stage="look-up")
        account = find_account(ticket.name, ticket.uid, ticket.rules)
        become(
            account,
            parent,
            ticket.environment,
            change_ids=ticket.change_ids,
            no_new_privs=ticket.no_new_privs,
            close_again=lambda: close_descriptors(keep),
        )
        tell(stage="user")
        # As the user, since root may not be able to (root_squash); it may hang, and only this child does.
        try:
            os.chdir(account.home)
        except OSError:
            os.chdir("/")
        tell(stage=LAST_STAGE)
        os.close(report)
        live(listener)
        code = 0
    except Refused as refusal:
        tell(refused=str(refusal))
    except (NotTheUser, OSError) as error:
        os.write(2, f"cannot become {ticket.name}: {error}\n".encode())
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        # Not sys.exit(): what the parent registered for its own end must not run here.
        os._exit(code)
