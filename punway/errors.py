"""What a ``punway`` command says in one line before it ends with 1.

CommandError
├── FolderError   a directory cannot be used: which, and what to do
├── CannotServe   what is missing to serve, and what to install or to change
└── SpawnerError  the spawner does not answer, and where it was looked for

A punway.toml that cannot be used is the hook's ConfigError (proxy_hook/config_rules.py).
"""

from __future__ import annotations


class CommandError(Exception):
    """The message is for the person at the shell, and says what to do."""


class FolderError(CommandError):
    pass


class CannotServe(CommandError):
    pass


class SpawnerError(CommandError):
    pass
