"""What a ``punway`` command says in one line before it ends with 1.

CommandError
├── ConfigError   punway.toml cannot be used: names the file, the key, and what would be right
├── FolderError   a directory cannot be used: which, and what to do
├── CannotServe   what is missing to serve, and what to install or to change
└── SpawnerError  the spawner does not answer, and where it was looked for
"""

from __future__ import annotations


class CommandError(Exception):
    """The message is for the person at the shell, and says what to do."""


class ConfigError(CommandError):
    pass


class FolderError(CommandError):
    pass


class CannotServe(CommandError):
    pass


class SpawnerError(CommandError):
    pass
