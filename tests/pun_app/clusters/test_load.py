"""pun_app/clusters/: OOD's cluster files."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from pun_app.clusters.acls import allowed
from pun_app.clusters.load import BadClusterFile, ClusterFolder, load_cluster
from pun_app.errors import NotFound

OWN = grp.getgrgid(os.getegid()).gr_name


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_whole_file(tmp_path: Path) -> None:
    """The file is the example of the Open OnDemand documentation."""
    path = write(
        tmp_path, "owens.yml",
        """---
v2:
  metadata:
    title: "Owens"
    url: "https://www.osc.edu/owens"
    hidden: false
  login:
    host: "owens.osc.edu"
  job:
    adapter: "slurm"
    cluster: "owens"
    bin: "/usr/bin"
    conf: "/etc/slurm/slurm.conf"
  custom:
    grafana: {host: "https://grafana"}
  batch_connect:
    basic: {script_wrapper: "module purge\\n%s"}
""",
    )  # fmt: skip
    cluster = load_cluster(path)
    assert cluster
    assert (cluster.id, cluster.title, cluster.adapter_name, cluster.login_host) == (
        "owens",
        "Owens",
        "slurm",
        "owens.osc.edu",
    )


def test_what_is_left_out_is_null_or_made_of_the_id(tmp_path: Path) -> None:
    cluster = load_cluster(write(tmp_path, "my_big-cluster.yaml", "v2: {job: {adapter: local}}"))
    assert cluster
    assert (cluster.title, cluster.login_host, cluster.hidden) == ("My Big Cluster", None, False)


def test_a_file_without_jobs_is_no_cluster(tmp_path: Path) -> None:
    assert load_cluster(write(tmp_path, "l.yml", "v2: {login: {host: x}}")) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [("v2: [", "not valid YAML"), ("", "mapping"), ("- a", "mapping"), ("v1: {}", "v2"), ("v2: {job: [1]}", "job"),
     ("v2: {job: {bin: /x}}", "job.adapter"), ("v2: {metadata: x, job: {adapter: slurm}}", "metadata"),
     ("v2: {job: {adapter: <%= x %>}}", "ERB"), ("v2: !!python/object:os.system {}", "not valid YAML"),
     ("x: " + "y" * 300_000, "larger"), ("v2: {job: {adapter: \xff}}", "read")],
    ids=["unclosed", "empty", "a list", "version 1", "job is a list", "no adapter", "metadata is text", "ERB", "a Python tag",
         "too large", "not UTF-8"],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadClusterFile, match=said):
        load_cluster(path)


def test_one_bad_file_takes_no_other_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "bad.yml", "v2: [")
    write(tmp_path, "good.yml", "v2: {job: {adapter: local}}")
    write(tmp_path, "note.txt", "no cluster")
    (tmp_path / "dangling.yml").symlink_to("/nonexistent")
    folder = ClusterFolder(tmp_path)
    assert [cluster.id for cluster in folder.listed()] == ["good"]
    assert "bad.yml" in caplog.text
    with pytest.raises(NotFound, match="Cluster not found"):
        folder.get("bad")


def test_a_changed_folder_is_read_again(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path)
    assert folder.listed() == []
    path = write(tmp_path, "a.yml", "v2: {job: {adapter: local}}")
    same = folder.get("a")
    assert folder.get("a") is same
    path.unlink()
    assert folder.listed() == []


def test_a_folder_that_is_not_there_is_no_cluster(tmp_path: Path) -> None:
    assert ClusterFolder(tmp_path / "none").listed() == []


@pytest.mark.parametrize(
    ("acls", "passes"),
    [
        (None, True),
        ([], True),
        ([{"adapter": "group", "groups": [OWN]}], True),
        ([{"adapter": "group", "groups": ["no-such-group"]}], False),
        ([{"adapter": "group", "groups": [OWN], "type": "allowlist"}], True),
        ([{"adapter": "group", "groups": [OWN], "type": "whitelist"}], True),
        ([{"adapter": "group", "groups": [OWN], "type": "blocklist"}], False),
        ([{"adapter": "group", "groups": [OWN], "type": "blacklist"}], False),
        ([{"adapter": "group", "groups": ["no-such-group"], "type": "blocklist"}], True),
        ([{"adapter": "group", "groups": [OWN]}, {"adapter": "group", "groups": ["no-such-group"]}], False),
        ([{"adapter": "group", "groups": [OWN], "type": "alowlist"}], False),
        ([{"adapter": "grp", "groups": [OWN]}], False),
        ([{"adapter": "group"}], False),
        ([{"adapter": "group", "groups": OWN}], False),
        (["x"], False),
        ({"adapter": "group", "groups": [OWN]}, False),
    ],
    ids=range(16),
)
def test_acls_all_must_pass_and_a_typo_lets_nobody_in(acls: object, passes: bool) -> None:
    assert allowed(acls) is passes


def test_acls_at_both_levels(tmp_path: Path) -> None:
    shut = "acls: [{adapter: group, groups: [no-such-group]}]"
    assert load_cluster(write(tmp_path, "a.yml", f"v2: {{{shut}, job: {{adapter: local}}}}")) is None
    assert load_cluster(write(tmp_path, "b.yml", f"v2: {{job: {{adapter: local, {shut}}}}}")) is None
