"""Tests that every module is tested: by the test module of its name, or where the table here says."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("punway", "spawner", "proxy_hook", "tokens", "pun_app", "mcp_server")

TESTED_IN = {
    "tests/system/test_commands.py": (
        "punway/admin_commands", "punway/cli", "punway/demo", "punway/errors", "punway/folders", "punway/token_commands",
        "pun_app/check",
    ),
    "tests/system/test_process.py": (
        "punway/privileges", "punway/serve_hook", "punway/serve_relay", "punway/serve_spawner", "spawner/child",
        "pun_app/preloaded",
    ),
    "tests/system/test_front.py": ("punway/serve_nginx",),
    "tests/system/test_mcp.py": (
        "punway/serve_mcp", "mcp_server/__main__", "mcp_server/arguments", "mcp_server/auth", "mcp_server/cluster_tools",
        "mcp_server/guide", "mcp_server/job_tools", "mcp_server/portal", "mcp_server/server",
        "pun_app/handlers/context",
    ),
    "tests/system/test_mcp_clients.py": ("mcp_server/bridge",),
    "tests/punway/test_nginx_config.py": ("punway/nginx_program",),
    "tests/spawner/test_main.py": ("spawner/launch", "spawner/wire"),
    "tests/spawner/test_children.py": ("spawner/pun",),
    "tests/proxy_hook/test_config.py": ("proxy_hook/config_keys", "proxy_hook/config_rules"),
    "tests/proxy_hook/test_hook.py": (
        "proxy_hook/app", "proxy_hook/errors", "proxy_hook/identify", "proxy_hook/idp/resource_metadata",
    ),
    "tests/proxy_hook/browser/test_sign_in.py": (
        "proxy_hook/browser/pages", "proxy_hook/browser/saved_form", "proxy_hook/web",
    ),
    "tests/proxy_hook/idp/test_provider.py": ("proxy_hook/idp/keys",),
    "tests/proxy_hook/relay/test_relay.py": ("proxy_hook/relay/exchange",),
    "tests/tokens/test_store.py": ("tokens/errors", "tokens/permissions"),
    "tests/tokens/test_manage.py": ("tokens/registrar_client",),
    "tests/test_docs.py": ("pun_app/adapters/abilities",),
    "tests/pun_app/adapters/test_registry.py": (
        "pun_app/adapters/base", "pun_app/adapters/command_line", "pun_app/adapters/errors", "pun_app/adapters/model",
    ),
    "tests/pun_app/adapters/slurm/test_squeue.py": (
        "pun_app/adapters/parse", "pun_app/adapters/slurm/adapter", "pun_app/adapters/slurm/states",
    ),
    "tests/pun_app/adapters/pbs/test_torque_qstat.py": ("pun_app/adapters/markup", "pun_app/adapters/pbs/qsub"),
    "tests/pun_app/adapters/htcondor/test_adapter.py": (
        "pun_app/adapters/htcondor/condor_q", "pun_app/adapters/htcondor/site",
    ),
    "tests/pun_app/adapters/lsf/test_adapter.py": ("pun_app/adapters/lsf/states",),
    "tests/pun_app/adapters/local/test_adapter.py": ("pun_app/adapters/local/runner",),
    "tests/pun_app/clusters/test_load.py": ("pun_app/clusters/acls", "pun_app/adapters/groups"),
    "tests/system/test_hangs.py": ("pun_app/deadline",),
    "tests/pun_app/test_app.py": (
        "pun_app/errors", "pun_app/match", "pun_app/routes", "pun_app/settings", "pun_app/handlers/clusters",
        "pun_app/handlers/request", "pun_app/handlers/whoami",
    ),
    "tests/pun_app/test_validation_errors.py": ("pun_app/decode",),
    "tests/pun_app/test_openapi.py": ("pun_app/schemas",),
    "tests/pun_app/handlers/test_jobs.py": ("pun_app/handlers/paging",),
    "tests/system/test_site.py": ("pun_app/handlers/site",),
    "tests/system/test_output.py": ("pun_app/handlers/output",),
    "tests/system/contract.py": ("pun_app/handlers/statuses",),
    "tests/pun_app/pages/test_api_tokens.py": (
        "pun_app/pages/auth", "pun_app/pages/flash", "pun_app/pages/model", "pun_app/pages/render",
    ),
}  # fmt: skip
"""The test modules that test other modules than the one of their name."""


def test_every_module_is_tested_somewhere() -> None:
    """A module without a test module of its name has a line in TESTED_IN, and nothing else has one."""
    elsewhere = [f"{name}.py" for names in TESTED_IN.values() for name in names]
    own: set[str] = set()
    others: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.stat().st_size:
                name = path.relative_to(ROOT)
                test = ROOT / "tests" / name.parent / f"test_{name.name}"
                (own if test.exists() else others).add(name.as_posix())
    assert sorted(elsewhere) == sorted(others)
    for test_module in TESTED_IN:
        assert (ROOT / test_module).exists(), test_module
