"""``punway token``: a user's own tokens, from that user's own shell on the portal's host. Runs as the user."""

from __future__ import annotations

import argparse
import os
import pwd

from proxy_hook.config import Config
from tokens import scopes
from tokens.register import Registrar, RegistrarError, RegistrarRefused
from tokens.store import StoreError, TokenStore, hashes
from tokens.token import issue, lifetime_from, to_text


def _store(config: Config) -> TokenStore:
    # Not the shell's $HOME, but the one that the PUN has: the name service's, unless the site says otherwise.
    return TokenStore(config.pun.environment.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)


def _registrar(config: Config) -> Registrar:
    return Registrar(config.run_dir / "register.sock")


def create(config: Config, arguments: argparse.Namespace) -> int:
    """Make a token: at the front first, so that one which is shown works."""
    held = scopes.parse(arguments.scopes) if arguments.scopes else scopes.ALL
    token, secret = issue(arguments.name, held, lifetime_from(arguments.expires))
    store, registrar = _store(config), _registrar(config)
    tokens = store.tokens()  # A file that will not do is told before anything is made.
    refused = registrar.add([token.sha256])
    if refused:
        # Routes of tokens that are gone from the file may have used the user's places up.
        registrar.keep(hashes(tokens))
        refused = registrar.add([token.sha256])
    if refused:
        raise RegistrarRefused(f"the portal did not take the token: {refused[0]}")
    try:
        store.add(token)
    except StoreError:
        registrar.drop([token.sha256])
        raise
    print(f"Token {token.id} ({token.name}); scopes: {', '.join(token.scopes)}; expires: {_when(token.expires_at)}")
    print(f"Use it as: curl -H 'Authorization: Bearer TOKEN' {config.portal.public_url}/api/v1/clusters")
    print("This is the only time that it is shown:")
    print(secret)
    return 0


def list_all(config: Config, _arguments: argparse.Namespace) -> int:
    """Every token of the user's file, and whether the front knows it."""
    tokens = _store(config).tokens()
    known: set[str] | None = None
    try:
        known = set(_registrar(config).registered())
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
        print(f"{token.id}  {token.name}")
        print(f"    scopes {', '.join(token.scopes)}; created {_when(token.created_at)}; ", end="")
        print(f"expires {_when(token.expires_at)}; last used {_when(token.last_used_at)}")
        for remark in remarks:
            print(f"    {remark}")
    return 0


def revoke(config: Config, arguments: argparse.Namespace) -> int:
    """Take a token out of the file, and bar it at the front: either alone ends it."""
    store = _store(config)
    token = next((token for token in store.tokens() if token.id == arguments.id), None)
    failures: list[Exception] = []
    try:
        if token:
            _registrar(config).drop([token.sha256])
    except RegistrarError as error:
        failures.append(error)
    try:
        store.remove(arguments.id)
    except StoreError as error:
        failures.append(error)
    if failures and not (token and len(failures) == 1):
        raise failures[-1]
    print(f"Token {arguments.id} is revoked.")
    if failures and isinstance(failures[0], StoreError):
        print(f"warning: it is barred at the portal, but still stands in the file: {failures[0]}")
    elif failures:
        print(f"warning: it is gone from the file, but the portal could not be told: {failures[0]}")
    return 0


def secure(config: Config, _arguments: argparse.Namespace) -> int:
    """Replace each token that stands in the file in clear by its hash."""
    count = _store(config).secure()
    print(f"{count} token(s) that stood in clear are now kept as hashes; they work as before.")
    return 0


def sync(config: Config, _arguments: argparse.Namespace) -> int:
    """Tell the portal of every token in the file, after another program wrote it."""
    known = hashes(_store(config).tokens())
    registrar = _registrar(config)
    registrar.keep(known)
    refused = registrar.add(known)
    for reason in refused:
        print(f"not taken: {reason}")
    print(f"The portal knows {len(known) - len(refused)} of your {len(known)} token(s).")
    return 1 if refused else 0


def _when(time: object) -> str:
    return str(to_text(time)) if time else "never"  # type: ignore[arg-type]


def add_commands(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """``punway token …``."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    new = commands.add_parser(
        "create", parents=[common], help="make a token and print it once", description=create.__doc__
    )
    new.add_argument("name", metavar="NAME", help='what it is for, such as "CI pipeline"')
    new.add_argument(
        "--scopes", metavar="LIST", help=f"what it may do, separated by commas (default: all). {_scope_list()}"
    )
    new.add_argument("--expires", metavar="TIME", default="90d", help="12h, 90d, 4w, 1y or never (default: 90d)")
    new.set_defaults(run=create)
    for name, run, what in (
        ("list", list_all, "show your tokens, not their secrets"),
        ("secure", secure, "rewrite tokens that another program stored in clear"),
        ("sync", sync, "tell the portal of tokens that another program made"),
    ):
        commands.add_parser(name, parents=[common], help=what, description=run.__doc__).set_defaults(run=run)
    gone = commands.add_parser("revoke", parents=[common], help="end a token for good", description=revoke.__doc__)
    gone.add_argument("id", metavar="ID", help="as punway token list shows it")
    gone.set_defaults(run=revoke)


def _scope_list() -> str:
    return "; ".join(f"{name}: {what}" for name, what in scopes.SCOPES.items())
