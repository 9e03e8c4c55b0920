"""The ``punway`` command: it parses the arguments, runs one command, and prints errors in one line."""

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
    """Connect an AI client to a portal's MCP server over standard input and output. The client starts this command. Set
    OOD_API_URL to the portal's address and OOD_API_TOKEN to your token. docs/agents/clients.md shows the settings of
    each client."""
    os.execv(interpreter(), [interpreter(), "-I", "-m", "mcp_server.bridge"])


def _login(config: Config, _arguments: argparse.Namespace) -> int:
    """Print a link that signs your browser in to the portal's API Tokens page, as the user of this shell. It works
    once, within a minute. Do not give it to anybody else."""
    link = config.portal.public_url + token_commands.registrar_of(config).login()
    print("Open this link in your browser within a minute. It works once.")
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
    """Return the parser of all commands. It sets ``run`` to the function of the chosen one."""
    parser = argparse.ArgumentParser(
        prog="punway",
        description="A REST API for the jobs of an HPC portal's users. Each user is served by a process of their own.",
        epilog="To try the portal without root and without any configuration, run: punway demo",
    )
    parser.add_argument("--version", action="version", version=f"punway {version('punway')}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="configuration file (default: $PUNWAY_CONFIG, or /etc/punway/punway.toml if that is not set)",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="run a complete portal for yourself, with a scheduler of its own",
        description="Run a complete portal in single-user mode on 127.0.0.1, with an embedded scheduler. It prints its "
        "address, a token and commands to paste, and runs until Ctrl-C. Started by root, it runs as a temporary user.",
    )
    demo.add_argument("--port", type=_port, default=8080, help="port on 127.0.0.1, from 1 to 65535 (default: 8080)")
    # Set by root's demo for the process of its temporary user.
    demo.add_argument("--started-by", choices=("root", "sudo"), default="", help=argparse.SUPPRESS)
    demo.set_defaults(run=_demo, config=None, without_config=True)

    commands.add_parser(
        "login", parents=[common], help="print a link that signs your browser in", description=_login.__doc__
    ).set_defaults(run=_login)
    commands.add_parser(
        "mcp", help="connect an AI client to a portal's MCP server over stdio", description=_mcp.__doc__
    ).set_defaults(run=_mcp, config=None, without_config=True)
    token = commands.add_parser(
        "token",
        help="create, list, rotate, revoke and find your own tokens",
        description="Manage your own API tokens, on the portal's host.",
        epilog='Example: punway token create "CI pipeline" --scopes jobs --expires 30d',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    token_commands.add_commands(token, common)

    check = commands.add_parser(
        "check",
        parents=[common],
        help="check the configuration and everything that it names",
        description="Check the configuration, the Python interpreter, users and directories, TLS and secret files, the "
        "identity provider, nginx, the cluster files and the schedulers' commands. It changes nothing. The exit status "
        "is 1 when something is wrong.",
    )
    check.set_defaults(run=_check, without_config=True)
    for name, run, what in (
        ("serve", _serve, "run all parts of the portal in the foreground, for containers and tests"),
        ("spawner", _spawner, "run only the spawner, as punway-spawner.service does"),
        ("hook", _hook, "run only the hook, as punway-hook.service does"),
        ("relay", _relay, "run only the relay between nginx and PUNs, as punway-relay.service does"),
        ("mcp-server", _mcp_server, "run only the MCP server, as punway-mcp.service does"),
        ("nginx", _nginx, "run an nginx only for the portal, as punway-nginx.service does"),
        ("nginx-config", _nginx_config, "print the portal's configuration for /etc/nginx/conf.d/"),
    ):
        commands.add_parser(
            name, parents=[common], help=what, description=f"{what[0].upper()}{what[1:]}."
        ).set_defaults(run=run)

    admin = commands.add_parser(
        "admin",
        help="list, stop and reload the per-user processes (as root)",
        description="List, stop and reload the per-user processes (PUNs). Only root may use these commands.",
    )
    admin_commands.add_commands(admin, common)
    return parser


def _port(text: str) -> int:
    """Parse a port number. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is not a port; use a number from 1 to 65535")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output, such as head, has ended. Without this, Python would write the rest when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(argv: list[str] | None) -> int:
    """Run one command and return its exit status. Print an expected error in one line."""
    arguments = _parser().parse_args(argv)
    try:
        config = None if getattr(arguments, "without_config", False) else load(path_to_use(arguments.config))
        return int(arguments.run(config, arguments))
    except (CommandError, ConfigError, RegistrarError, StoreError, TokenError, UnknownScope) as error:
        print(f"punway: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
