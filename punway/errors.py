"""The errors of ``punway`` commands, which print them in one line and exit with status 1.

CommandError
├── FolderError   a directory cannot be used
├── CannotServe   something is missing that the portal needs to serve
└── SpawnerError  the spawner does not answer, or rejects the request

An unusable punway.toml raises the hook's ConfigError (proxy_hook/config_rules.py).
"""

from __future__ import annotations


class CommandError(Exception):
    """An error whose message tells the person at the shell what is wrong and what to do."""


class FolderError(CommandError):
    """A directory cannot be used. The message names it and the command that repairs it."""


class CannotServe(CommandError):
    """The portal cannot serve. The message says what to install or to change."""


class SpawnerError(CommandError):
    """The spawner does not answer or rejects the request. The message says where its socket was looked for."""
