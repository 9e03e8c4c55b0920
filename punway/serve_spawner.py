"""``punway spawner``: the start of the spawner.

It runs as root, or as the one user of single-user mode. It prepares the directories and then executes the spawner as a
fresh interpreter, so that root's process holds only the standard library and none of the code that read the
configuration.
"""

from __future__ import annotations

import json
import os
import pwd
from dataclasses import asdict

from proxy_hook.accounts import rules_of
from proxy_hook.config import Config, interpreter
from punway.folders import nginx_group, prepare


def main(config: Config) -> None:
    """Replace this process by the spawner. Never returns. Raises FolderError."""
    prepare(config)
    settings = os.memfd_create("settings")
    with os.fdopen(os.dup(settings), "w") as file:
        file.write(settings_of(config))
    os.lseek(settings, 0, os.SEEK_SET)
    os.dup2(settings, 0)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    os.execve(interpreter(), [interpreter(), "-I", "-m", "spawner.main"], environment)


def settings_of(config: Config) -> str:
    """Return the JSON that the spawner reads from its standard input (spawner/launch.py, Settings)."""
    pun, portal, policy = config.pun, config.portal, config.token_policy
    app_settings = {
        "run_dir": portal.run_dir,
        "clusters": config.clusters.path,
        "site_docs": config.mcp.notes,
        "threads": pun.threads,
        "idle_timeout": pun.idle_timeout,
        "max_lifetime": pun.max_lifetime,
        "max_body": config.max_body_bytes,
        "public_url": portal.public_url,
        "origin": config.origin,
        "metadata_url": config.metadata_url,
        "token_longest": int(policy.longest.total_seconds()) if policy.longest else None,
        "token_never": policy.never,
        "token_scopes": policy.scopes,
        "site_url": portal.site_url,
    }
    if config.single_user:
        hook_uid, nginx_gid = os.geteuid(), os.getegid()
    else:
        hook_uid = pwd.getpwnam(portal.hook_user).pw_uid
        nginx_gid = nginx_group(config)
    return json.dumps(
        {
            "run_dir": portal.run_dir,
            "hook_uid": hook_uid,
            "nginx_gid": nginx_gid,
            "start_method": pun.spawn,
            # With fork, the preloader imports all adapters once. With exec, each PUN imports only those that it uses.
            "app": "pun_app.preloaded:serve" if pun.spawn == "fork" else "pun_app.server:serve",
            "spawn_settings": {
                "rules": asdict(rules_of(config)),
                "change_ids": not config.single_user,
                "no_new_privs": pun.no_new_privs,
                "environment": pun.environment,
                "app_settings": json.dumps(app_settings),
            },
        }
    )
