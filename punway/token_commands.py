"""``punway token``: a user's own tokens, from that user's own shell on the portal's host. Runs as the user."""

from __future__ import annotations

import argparse
import os
import pwd
import sys
from datetime import timedelta
from pathlib import Path

from proxy_hook.config import Config
from tokens import scopes
from tokens.lifetime import lifetime_from
from tokens.manage import TokenManager
from tokens.registrar_client import RegistrarClient, RegistrarError
from tokens.scan import find, scan
from tokens.store import TokenStore, hashes
from tokens.token import Token, to_text

_EXPIRES = "12h, 90d, 4w, 1y, a date (the end of that day, UTC) or never, as far as the site allows"


def _store(config: Config) -> TokenStore:
    # Not the shell's $HOME, but the one that the PUN has: the name service's, unless the site says otherwise.
    return TokenStore(config.pun.environment.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)


def registrar_of(config: Config) -> RegistrarClient:
    """The registrar of the portal."""
    return RegistrarClient(config.run_dir / "register.sock")


def _manager(config: Config) -> TokenManager:
    return TokenManager(_store(config), registrar_of(config), config.token_policy)


def create(config: Config, arguments: argparse.Namespace) -> int:
    """Make a token, and print it once."""
    manager = _manager(config)
    held = scopes.parse(arguments.scopes or "all", manager.policy.scopes)
    _show(config, *manager.make(arguments.name, held, arguments.expires or manager.policy.default()))
    return 0


def rotate(config: Config, arguments: argparse.Namespace) -> int:
    """Make a token's successor, with the same name and scopes, and print it once. The old token goes on working
    for the grace that is given, so that whatever uses it can be told the new one meanwhile."""
    grace = timedelta(0) if arguments.grace == "0" else lifetime_from(arguments.grace)
    token, secret = _manager(config).rotate(arguments.id, grace, arguments.expires)
    old = next((old for old in _store(config).tokens() if old.id == arguments.id), None)
    if old:
        print(f"Token {old.id} ends {_when(old.expires_at)}, and is replaced by this one:")
    _show(config, token, secret)
    return 0


def _show(config: Config, token: Token, secret: str) -> None:
    print(f"Token {token.id} ({readable(token.name)}); scopes: {', '.join(token.scopes)}; ", end="")
    print(f"expires: {_when(token.expires_at)}")
    print("Put it into a variable, and use it:")
    print("    export TOKEN=…")
    print(f'    curl -H "Authorization: Bearer $TOKEN" {config.portal.public_url}{scopes.first_request(token.scopes)}')
    print("This is the only time that it is shown:")
    print(secret)


def list_all(config: Config, _arguments: argparse.Namespace) -> int:
    """Every token of the user's file, and whether the front knows it."""
    tokens = _store(config).tokens()
    known: set[str] | None = None
    try:
        known = set(registrar_of(config).registered())
    except RegistrarError as error:
        print(f"note: {error}")
    if not tokens:
        print("You have no tokens. Make one: punway token create NAME")
    for token in tokens:
        remarks = []
        if token.in_clear:
            remarks.append("STORED IN CLEAR (punway token secure rewrites it)")
        if token.expired():
            remarks.append("EXPIRED")
        elif known is not None and token.sha256 not in known:
            remarks.append("not known to the portal (punway token sync)")
        print(f"{readable(token.id)}  {readable(token.name)}")
        print(f"    scopes {', '.join(token.scopes)}; created {_when(token.created_at)}; ", end="")
        print(f"expires {_when(token.expires_at)}; last used {_when(token.last_used_at)}")
        for remark in remarks:
            print(f"    {remark}")
    return 0


def revoke(config: Config, arguments: argparse.Namespace) -> int:
    """Take a token out of the file, and bar it at the front: either alone ends it."""
    _, warning = _manager(config).revoke(arguments.id)
    print(f"Token {arguments.id} is revoked.")
    if warning:
        print(f"warning: {warning}")
    return 0


def secure(config: Config, _arguments: argparse.Namespace) -> int:
    """Replace each token that stands in the file in clear by its hash."""
    count = _store(config).secure()
    print(f"{count} token(s) that stood in clear are now kept as hashes; they work as before.")
    return 0


def sync(config: Config, _arguments: argparse.Namespace) -> int:
    """Tell the portal of every token in the file, after another program wrote it."""
    known = hashes(_store(config).tokens())
    registrar = registrar_of(config)
    registrar.release_others(known)
    refused = registrar.add(known)
    for reason in refused:
        print(f"not taken: {reason}")
    print(f"The portal knows {len(known) - len(refused)} of your {len(known)} token(s).")
    return 1 if refused else 0


def find_in_files(config: Config, arguments: argparse.Namespace) -> int:
    """Say which of your tokens stand in files, or in all files below folders; - reads the standard input. Prints
    the place and the token's id, never the token. Ends with 1 when one is found, and with 2 when a file could not
    be read."""
    mine = {token.sha256: token for token in _store(config).tokens()}
    found, others, unread = 0, 0, 0

    def trouble(path: Path, error: OSError) -> None:
        nonlocal unread
        unread += 1
        print(f"punway: {path}: {error.strerror}", file=sys.stderr)

    for name in arguments.files:
        for place in scan(sys.stdin.buffer, "-") if name == "-" else find([Path(name)], trouble):
            token = mine.get(place.sha256)
            if token is None:
                others += 1
                continue
            found += 1
            state = "expired" if token.expired() else f"good until {_when(token.expires_at)}"
            where = f"{readable(place.path)}:{place.line}"
            print(f"{where}: token {readable(token.id)} ({readable(token.name)}), {state}")
    if found:
        print("End what others may have read: punway token revoke ID, or punway token rotate ID --grace 0")
    else:
        print("None of your tokens is there.")
    if others:
        print(f"{others} other text(s) have a token's form, but are none of yours.")
    return 1 if found else 2 if unread else 0


def _when(time: object) -> str:
    return str(to_text(time)) if time else "never"  # type: ignore[arg-type]


def readable(text: str) -> str:
    """Text for a terminal: what would move its cursor, or turn the line around, is written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def add_commands(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """``punway token …``."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    new = commands.add_parser(
        "create", parents=[common], help="make a token and print it once", description=create.__doc__
    )
    new.add_argument("name", metavar="NAME", help='what it is for, such as "CI pipeline"')
    new.add_argument(
        "--scopes",
        metavar="LIST",
        help=f"what it may do, separated by commas (default: all). {_scope_list()}",
    )
    new.add_argument("--expires", metavar="TIME", help=f"{_EXPIRES} (default: 90d, or as long as the site allows)")
    new.set_defaults(run=create)
    for name, run, what in (
        ("list", list_all, "show your tokens, not their secrets"),
        ("secure", secure, "rewrite tokens that another program stored in clear"),
        ("sync", sync, "tell the portal of tokens that another program made"),
    ):
        commands.add_parser(name, parents=[common], help=what, description=run.__doc__).set_defaults(run=run)
    gone = commands.add_parser("revoke", parents=[common], help="end a token for good", description=revoke.__doc__)
    gone.set_defaults(run=revoke)
    next_one = commands.add_parser(
        "rotate", parents=[common], help="make a token's successor, and let the old one end", description=rotate.__doc__
    )
    for command in (gone, next_one):
        command.add_argument("id", metavar="ID", help="as punway token list shows it")
    next_one.add_argument(
        "--grace",
        metavar="TIME",
        default="1h",
        help="how long the old one goes on working: 30m, 1d, or 0 (default: 1h)",
    )
    next_one.add_argument(
        "--expires", metavar="TIME", help=f"{_EXPIRES} (default: as long as the old one was made for)"
    )
    next_one.set_defaults(run=rotate)
    look = commands.add_parser(
        "find", parents=[common], help="say which of your tokens stand in files", description=find_in_files.__doc__
    )
    look.add_argument("files", metavar="FILE", nargs="+", help="a file, a folder, or - for the standard input")
    look.set_defaults(run=find_in_files)


def _scope_list() -> str:
    sets = "; ".join(f"{name}: {', '.join(held)}" for name, (_, held) in scopes.PRESETS.items())
    return "; ".join(f"{name}: {scopes.SCOPES[name]}" for name in scopes.OFFERED) + f". Sets of them: {sets}"
