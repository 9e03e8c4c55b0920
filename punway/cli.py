"""The ``punway`` command: arguments in, one function called, errors said in one line."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import version

from proxy_hook.config import Config, ConfigError, interpreter, load, path_to_use
from punway import admin_commands, token_commands
from punway.errors import CommandError
from tokens.errors import StoreError, TokenError
from tokens.registrar_client import RegistrarError
from tokens.scopes import UnknownScope


def _serve(config: Config, _arguments: argparse.Namespace) -> int:
    from punway.serve import serve

    serve(config)
    return 0


def _spawner(config: Config, _arguments: argparse.Namespace) -> int:
    from punway.serve_spawner import main as serve_spawner

    serve_spawner(config)
    return 0


def _hook(config: Config, _arguments: argparse.Namespace) -> int:
    from punway.folders import prepare
    from punway.serve_hook import main as serve_hook

    prepare(config)
    serve_hook(config)
    return 0


def _relay(config: Config, _arguments: argparse.Namespace) -> int:
    from punway.serve_relay import main as serve_relay

    serve_relay(config)
    return 0


def _mcp_server(config: Config, _arguments: argparse.Namespace) -> int:
    from punway.serve_mcp import main as serve_mcp

    serve_mcp(config)
    return 0


def _mcp(_config: None, _arguments: argparse.Namespace) -> int:
    """A portal's MCP server on the standard input and output, for AI clients that start a program. The portal and
    your token are named by OOD_API_URL and OOD_API_TOKEN; docs/agents/clients.md shows how to set up each client."""
    os.execv(interpreter(), [interpreter(), "-I", "-m", "mcp_server.bridge"])


def _login(config: Config, _arguments: argparse.Namespace) -> int:
    """Print a link that signs your browser in to the portal's API Tokens page, as the user of this shell. It works
    once, within a minute; give it to nobody."""
    link = config.portal.public_url + token_commands.registrar_of(config).login()
    print("Open this in your browser within a minute; it works once:")
    print(link)
    return 0


def _nginx(config: Config, _arguments: argparse.Namespace) -> int:
    from punway.serve_nginx import main as serve_nginx

    serve_nginx(config)
    return 0


def _nginx_config(config: Config, _arguments: argparse.Namespace) -> int:
    from punway.nginx_config import portal_config

    print(portal_config(config), end="")
    return 0


def _check(_config: None, arguments: argparse.Namespace) -> int:
    from punway.check import check

    return check(path_to_use(arguments.config))


def _demo(_config: None, arguments: argparse.Namespace) -> int:
    from punway.demo import demo

    return demo(arguments.port, arguments.started_by)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="punway",
        description="A REST API for the jobs of an HPC portal's users, each served by a process of their own.",
        epilog="Try it at once, without root: punway demo",
    )
    parser.add_argument("--version", action="version", version=f"punway {version('punway')}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-c", "--config", metavar="FILE", help="punway.toml (default: $PUNWAY_CONFIG, else /etc/punway/punway.toml)"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="run the whole portal here and now, for yourself alone",
        description="The whole portal in single-user mode on loopback, with an embedded scheduler. Prints an "
        "address, a fresh token and commands to paste. Ctrl-C ends it. Root runs it as a throw-away user.",
    )
    demo.add_argument("--port", type=_port, default=8080, help="port on 127.0.0.1 (default: 8080)")
    # By root's demo, for the process of its throw-away user.
    demo.add_argument("--started-by", choices=("root", "sudo"), default="", help=argparse.SUPPRESS)
    demo.set_defaults(run=_demo, config=None, without_config=True)

    commands.add_parser(
        "login", parents=[common], help="print a link that signs your browser in", description=_login.__doc__
    ).set_defaults(run=_login)
    commands.add_parser(
        "mcp", help="a portal's MCP server by stdio, for AI clients", description=_mcp.__doc__
    ).set_defaults(run=_mcp, config=None, without_config=True)
    token = commands.add_parser(
        "token", help="make, list and revoke your own tokens", description=token_commands.__doc__
    )
    token_commands.add_commands(token, common)

    check = commands.add_parser(
        "check",
        parents=[common],
        help="say what is wrong before anything is started",
        description="Checks the configuration, the interpreter, users and directories, nginx, the cluster files and "
        "the schedulers' commands. Ends with 1 when something is wrong.",
    )
    check.set_defaults(run=_check, without_config=True)
    for name, run, what in (
        ("serve", _serve, "run spawner, hook, relay, MCP server and nginx in the foreground (containers, tests)"),
        ("spawner", _spawner, "run the spawner alone (systemd)"),
        ("hook", _hook, "run the hook alone (systemd)"),
        ("relay", _relay, "run the relay between nginx and the users' processes alone (systemd)"),
        ("mcp-server", _mcp_server, "run the MCP server alone (systemd)"),
        ("nginx", _nginx, "run an nginx for the portal alone (systemd)"),
        ("nginx-config", _nginx_config, "print the file for /etc/nginx/conf.d"),
    ):
        commands.add_parser(
            name, parents=[common], help=what, description=f"{what[0].upper()}{what[1:]}."
        ).set_defaults(run=run)

    admin = commands.add_parser("admin", help="see and end PUNs (root)", description="See and end PUNs. For root.")
    admin_commands.add_commands(admin, common)
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return port


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output, "head" say, has seen enough. Python would write the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        config = None if getattr(arguments, "without_config", False) else load(path_to_use(arguments.config))
        return int(arguments.run(config, arguments))
    except (CommandError, ConfigError, RegistrarError, StoreError, TokenError, UnknownScope) as error:
        print(f"punway: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
