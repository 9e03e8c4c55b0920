"""``punway token``: commands that manage a user's own tokens. They run as the user, on the portal's host."""

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

_EXPIRES = "12h, 90d, 4w, 1y, a date such as 2027-01-31 (its end, in UTC) or never, within the site's limits"


def _store(config: Config) -> TokenStore:
    """Return the user's token file."""
    # In the home that the PUN has, not in the shell's $HOME: the name service's, unless the site sets another one.
    return TokenStore(config.pun.environment.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)


def registrar_of(config: Config) -> RegistrarClient:
    """Return a client of the portal's registrar."""
    return RegistrarClient(config.run_dir / "register.sock")


def _manager(config: Config) -> TokenManager:
    """Return the manager of the user's tokens, with the site's policy."""
    return TokenManager(_store(config), registrar_of(config), config.token_policy)


def create(config: Config, arguments: argparse.Namespace) -> int:
    """Create a token and print it. It cannot be shown again: the portal keeps only its hash."""
    manager = _manager(config)
    held = scopes.parse(arguments.scopes or "all", manager.policy.scopes)
    _show(config, *manager.make(arguments.name, held, arguments.expires or manager.policy.default()))
    return 0


def rotate(config: Config, arguments: argparse.Namespace) -> int:
    """Replace a token by a new one with the same name and scopes, and print the new one. The old token keeps working
    for a grace period, in which you can give the new one to the programs that use it."""
    grace = timedelta(0) if arguments.grace == "0" else lifetime_from(arguments.grace)
    token, secret = _manager(config).rotate(arguments.id, grace, arguments.expires)
    old = next((old for old in _store(config).tokens() if old.id == arguments.id), None)
    if old:
        print(f"Token {old.id} expires {_when(old.expires_at)}. It is replaced by this one:")
    _show(config, token, secret)
    return 0


def _show(config: Config, token: Token, secret: str) -> None:
    """Print a new token, with an example of its use. The token itself is the last line."""
    print(f"Token {token.id} ({readable(token.name)}); scopes: {', '.join(token.scopes)}; ", end="")
    print(f"expires: {_when(token.expires_at)}")
    print("Put it into a variable, and use it:")
    print("    export TOKEN=…")
    print(f'    curl -H "Authorization: Bearer $TOKEN" {config.portal.public_url}{scopes.first_request(token.scopes)}')
    print("This is the only time that it is shown:")
    print(secret)


def list_all(config: Config, _arguments: argparse.Namespace) -> int:
    """List your tokens with their IDs, scopes and times, and what is wrong with them. Secrets are not shown."""
    tokens = _store(config).tokens()
    known: set[str] | None = None
    try:
        known = set(registrar_of(config).registered())
    except RegistrarError as error:
        print(f"warning: {error}")
    if not tokens:
        print("You have no tokens. To create one, run: punway token create NAME")
    for token in tokens:
        remarks = []
        if token.in_clear:
            remarks.append("STORED IN CLEAR: run punway token secure")
        if token.expired():
            remarks.append("EXPIRED")
        elif known is not None and token.sha256 not in known:
            remarks.append("not registered with the portal: run punway token sync")
        print(f"{readable(token.id)}  {readable(token.name)}")
        print(f"    scopes {', '.join(token.scopes)}; created {_when(token.created_at)}; ", end="")
        print(f"expires {_when(token.expires_at)}; last used {_when(token.last_used_at)}")
        for remark in remarks:
            print(f"    {remark}")
    return 0


def revoke(config: Config, arguments: argparse.Namespace) -> int:
    """Revoke a token immediately and permanently. The portal rejects it even if your token file cannot be written."""
    _, warning = _manager(config).revoke(arguments.id)
    print(f"Token {arguments.id} is revoked.")
    if warning:
        print(f"warning: {warning}")
    return 0


def secure(config: Config, _arguments: argparse.Namespace) -> int:
    """Replace tokens that another program stored in clear by their hashes. They keep working."""
    count = _store(config).secure()
    print(f"Replaced {count} token(s) in clear by their hashes. They work as before.")
    return 0


def sync(config: Config, _arguments: argparse.Namespace) -> int:
    """Register all tokens of your token file with the portal, after another program has written it."""
    known = hashes(_store(config).tokens())
    registrar = registrar_of(config)
    registrar.release_others(known)
    refused = registrar.add(known)
    for reason in refused:
        print(f"not registered: {reason}")
    print(f"{len(known) - len(refused)} of your {len(known)} token(s) are registered with the portal.")
    return 1 if refused else 0


def find_in_files(config: Config, arguments: argparse.Namespace) -> int:
    """Find your tokens in files, in all files below folders, or in the standard input. Each place is printed with the
    token's ID, never with the token. The exit status is 1 if a token is found, 2 if a file could not be read, and 0
    otherwise."""
    mine = {token.sha256: token for token in _store(config).tokens()}
    found, others, unread = 0, 0, 0

    def report(path: Path, error: OSError) -> None:
        nonlocal unread
        unread += 1
        print(f"punway: {path}: {error.strerror}", file=sys.stderr)

    for name in arguments.files:
        for place in scan(sys.stdin.buffer, "-") if name == "-" else find([Path(name)], report):
            token = mine.get(place.sha256)
            if token is None:
                others += 1
                continue
            found += 1
            end = f"valid until {_when(token.expires_at)}" if token.expires_at else "does not expire"
            state = "expired" if token.expired() else end
            where = f"{readable(place.path)}:{place.line}"
            print(f"{where}: token {readable(token.id)} ({readable(token.name)}), {state}")
    if found:
        print("If others may have read a token, run: punway token revoke ID, or: punway token rotate ID --grace 0")
    else:
        print("Found none of your tokens.")
    if others:
        print(f"{others} other text(s) look like a token, but are not yours.")
    return 1 if found else 2 if unread else 0


def _when(time: object) -> str:
    """Return a time as text; "never" for None."""
    return str(to_text(time)) if time else "never"  # type: ignore[arg-type]


def readable(text: str) -> str:
    """Return text for a terminal, with escapes in place of control characters and of those that reverse the line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def add_commands(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Add the commands of ``punway token`` to its parser. ``common`` has the options that every command takes."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    created = commands.add_parser(
        "create",
        parents=[common],
        help="create a token and print it",
        description=create.__doc__,
        epilog='Example: punway token create "CI pipeline" --scopes jobs --expires 30d',
    )
    created.add_argument("name", metavar="NAME", help='its purpose, such as "CI pipeline"')
    created.add_argument(
        "--scopes",
        metavar="LIST",
        help=f"scopes or presets, separated by commas (default: all). {_scope_list()}",
    )
    created.add_argument(
        "--expires", metavar="TIME", help=f"lifetime: {_EXPIRES} (default: 90d, or less if the site allows less)"
    )
    created.set_defaults(run=create)
    for name, run, what in (
        ("list", list_all, "list your tokens, without their secrets"),
        ("secure", secure, "replace tokens that another program stored in clear by their hashes"),
        ("sync", sync, "register tokens that another program made with the portal"),
    ):
        commands.add_parser(name, parents=[common], help=what, description=run.__doc__).set_defaults(run=run)
    revoked = commands.add_parser(
        "revoke", parents=[common], help="revoke a token for good", description=revoke.__doc__
    )
    revoked.set_defaults(run=revoke)
    rotated = commands.add_parser(
        "rotate",
        parents=[common],
        help="replace a token by a new one with the same scopes",
        description=rotate.__doc__,
        epilog="Example: punway token rotate 4f1c0a9be2d76835 --grace 1d",
    )
    for command in (revoked, rotated):
        command.add_argument("id", metavar="ID", help="the token's ID, as punway token list shows it")
    rotated.add_argument(
        "--grace",
        metavar="TIME",
        default="1h",
        help="how long the old token keeps working: a time such as 30m or 1d, or 0 (default: 1h)",
    )
    rotated.add_argument(
        "--expires",
        metavar="TIME",
        help=f"lifetime of the new token: {_EXPIRES} (default: the lifetime of the old one)",
    )
    rotated.set_defaults(run=rotate)
    searched = commands.add_parser(
        "find",
        parents=[common],
        help="find your tokens in files",
        description=find_in_files.__doc__,
        epilog="Example: punway token find ~/project ~/.bash_history",
    )
    searched.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="a file, a folder (with all files below it), or - for the standard input",
    )
    searched.set_defaults(run=find_in_files)


def _scope_list() -> str:
    """Return the scopes and presets as text for the help of --scopes."""
    presets = "; ".join(f"{name}: {', '.join(held)}" for name, (_, held) in scopes.PRESETS.items())
    return "; ".join(f"{name}: {scopes.SCOPES[name]}" for name in scopes.OFFERED) + f". Presets: {presets}"
