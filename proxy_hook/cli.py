"""The ``punway`` command: arguments in, one function called, errors said in one line."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version

from proxy_hook import token_commands
from proxy_hook.config import Config, ConfigError, load, path_to_use
from proxy_hook.folders import FolderError
from proxy_hook.spawner_client import SpawnerError, ask
from tokens.register import RegistrarError
from tokens.scopes import UnknownScope
from tokens.store import StoreError
from tokens.token import TokenError


def _serve(config: Config, _arguments: argparse.Namespace) -> int:
    from proxy_hook.serve import serve

    serve(config)
    return 0


def _spawner(config: Config, _arguments: argparse.Namespace) -> int:
    from proxy_hook.serve import run_spawner

    run_spawner(config)
    return 0


def _hook(config: Config, _arguments: argparse.Namespace) -> int:
    from proxy_hook.folders import prepare
    from proxy_hook.serve_hook import main as serve_hook

    prepare(config)
    serve_hook(config)
    return 0


def _nginx_config(config: Config, _arguments: argparse.Namespace) -> int:
    from proxy_hook.nginx_config import portal_config

    print(portal_config(config), end="")
    return 0


def _check(_config: None, arguments: argparse.Namespace) -> int:
    from proxy_hook.check import check

    return check(path_to_use(arguments.config))


def _demo(_config: None, arguments: argparse.Namespace) -> int:
    from proxy_hook.demo import demo

    return demo(arguments.port)


def _ps(config: Config, _arguments: argparse.Namespace) -> int:
    answer = ask(config.run_dir / "spawner.sock", {"ask": "ps"})
    print(f"{'USER':<24} {'UID':>8} {'PID':>8}  {'STATE':<10} {'SECONDS':>8}")
    for row in answer["puns"]:
        print(f"{row['name']:<24} {row['uid']:>8} {row['pid']:>8}  {row['state']:<10} {row['seconds']:>8}")
    if answer["count"] > len(answer["puns"]):
        print(f"… and {answer['count'] - len(answer['puns'])} more")
    return 0


def _stop(config: Config, arguments: argparse.Namespace) -> int:
    answer = ask(config.run_dir / "spawner.sock", {"ask": "stop", "name": arguments.user})
    if not answer["stopped"]:
        print(f"{arguments.user} has no PUN", file=sys.stderr)
        return 1
    print(f"The PUN of {arguments.user} leaves after what is in flight.")
    return 0


def _reload(config: Config, _arguments: argparse.Namespace) -> int:
    ask(config.run_dir / "spawner.sock", {"ask": "reload"})
    print("PUNs start with new code from now on; those that run leave after what is in flight.")
    return 0


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
        "address, a fresh token and three commands to paste. Ctrl-C ends it. Root runs it as a throw-away user.",
    )
    demo.add_argument("--port", type=_port, default=8080, help="port on 127.0.0.1 (default: 8080)")
    demo.set_defaults(run=_demo, config=None, without_config=True)

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
        ("serve", _serve, "run spawner, hook and nginx in the foreground (containers, tests)"),
        ("spawner", _spawner, "run the spawner alone (systemd)"),
        ("hook", _hook, "run the hook alone (systemd)"),
        ("nginx-config", _nginx_config, "print the file for /etc/nginx/conf.d"),
    ):
        commands.add_parser(
            name, parents=[common], help=what, description=f"{what[0].upper()}{what[1:]}."
        ).set_defaults(run=run)

    admin = commands.add_parser("admin", help="see and end PUNs (root)", description="See and end PUNs. For root.")
    actions = admin.add_subparsers(title="commands", metavar="COMMAND", required=True)
    actions.add_parser("ps", parents=[common], help="the PUNs that there are").set_defaults(run=_ps)
    stop = actions.add_parser("stop", parents=[common], help="end a user's PUN after what is in flight")
    stop.add_argument("user", metavar="USER")
    stop.set_defaults(run=_stop)
    actions.add_parser("reload", parents=[common], help="take new code after an upgrade").set_defaults(run=_reload)
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return port


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    arguments = _parser().parse_args(argv)
    from proxy_hook.serve import CannotServe

    try:
        config = None if getattr(arguments, "without_config", False) else load(path_to_use(arguments.config))
        return int(arguments.run(config, arguments))
    except (
        ConfigError, FolderError, CannotServe, SpawnerError, RegistrarError, StoreError, TokenError, UnknownScope,
    ) as error:  # fmt: skip
        print(f"punway: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
