"""pun_app/adapters/sge/adapter.py: what Son of Grid Engine 8.1.9 printed, read. A real one is in tests/system/test_adapters.py."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pun_app.adapters.command import Output
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerUnavailable, Unanswered
from pun_app.adapters.model import COMPLETED, OPTIONS, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, JobRequest, Period
from pun_app.adapters.sge.adapter import SgeAdapter
from pun_app.adapters.sge.output import KnownStreams, streams_of
from pun_app.adapters.sge.parse import cluster_info, epoch, objects, past_jobs, queues_of, rows, when
from tests.pun_app.adapters.recordings import answers, options_of

PLAIN = JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp", submit_tag="tag")
FULL = replace(
    PLAIN, job_name="n", queue_name="all.q", accounting_id="p", wall_time=90, output_path="/o", error_path="/e", array="1-9:2%3",
    afterany=("5", "6.1"), cores=3, memory=100, reservation="7", environment={"A": "1"}, hold=True, email="a@example.org",
)  # fmt: skip
MANUAL = {
    "-terse": False, "-ac": True, "-wd": True, "-N": True, "-q": True, "-P": True, "-ar": True, "-o": True, "-e": True,
    "-j": True, "-l": True, "-pe": True, "-t": True, "-tc": True, "-h": False, "-M": True, "-m": True, "-hold_jid": True,
    "-v": True, "-S": True,
}  # fmt: skip
"""Options of qsub (submit(1) of Son of Grid Engine 8.1.9), and whether they take a value."""


def listed(*jobs: str) -> str:
    return (
        f"<?xml version='1.0'?>\n<job_info><queue_info>{''.join(jobs)}</queue_info><job_info></job_info></job_info>\n"
    )


def row(state: str, number: int = 7, more: str = "") -> str:
    return (
        f'<job_list state="x"><JB_job_number>{number}</JB_job_number><JB_name>n</JB_name><JB_owner>alice</JB_owner>'
        f"<state>{state}</state>{more}<queue_name>all.q@vm</queue_name><slots>1</slots>"
        '<full_job_name>h%lt;1&gt;</full_job_name><hard_request name="h_rt">1:0:0</hard_request></job_list>'
    )


RECORD = """==============================================================
qname        all.q               
hostname     vm                  
owner        alice               
project      NONE                
jobname      envt                
jobnumber    3                   
taskid       {task}
account      sge                 
qsub_time    Mon Nov 23 05:41:13 2026
start_time   Mon Nov 23 05:41:14 2026
end_time     Mon Nov 23 05:41:24 2026
granted_pe   NONE                
slots        2                   
failed       {failed}
exit_status  {status}
ru_wallclock 10s
cpu          5.250s
maxvmem      3.000MB
category     {category}
"""  # noqa: W291 - as it is printed


def record(task: str = "undefined", failed: str = "0    ", status: str = "0", category: str = "NONE") -> str:
    return RECORD.format(task=task, failed=failed, status=status, category=category)


@pytest.fixture
def adapter() -> SgeAdapter:
    adapter = SgeAdapter("c", {"adapter": "sge"})
    adapter.user = "alice"
    return adapter


@pytest.mark.parametrize(
    ("state", "status"),
    [("qw", QUEUED), ("hqw", QUEUED_HELD), ("hRwq", QUEUED_HELD), ("Eqw", QUEUED), ("r", RUNNING), ("t", RUNNING), ("Rr", RUNNING),
     ("hr", RUNNING), ("dr", RUNNING), ("dhr", RUNNING), ("s", SUSPENDED), ("S", SUSPENDED), ("T", SUSPENDED), ("Rs", SUSPENDED),
     ("tS", SUSPENDED), ("z", COMPLETED), ("~", None)],
)  # fmt: skip
def test_states(state: str, status: str | None) -> None:
    ((job,),) = rows(listed(row(state))).values()
    assert (job.status, job.native_state) == (status, state)


def test_a_job_that_waits_for_others_is_not_held() -> None:
    ((job,),) = rows(listed(row("hqw", more="<predecessor_jobs>3</predecessor_jobs>"))).values()
    assert job.status == QUEUED


def test_a_row_as_a_whole() -> None:
    """The times are UTC, and "<" comes as "%lt;"."""
    ((job,),) = rows(listed(row("r", more="<JAT_start_time>2026-11-23T05:41:13</JAT_start_time>"))).values()
    assert (job.id, job.name, job.owner, job.queue) == ("7", "h<1>", "alice", "all.q")
    assert (job.started_at, job.wallclock_limit) == (1795412473, 3600)


def test_a_task_is_found_among_an_arrays_rows() -> None:
    text = listed(row("r", more="<tasks>1</tasks>"), row("qw", more="<tasks>3-9:2,12</tasks>"))
    assert [len(rows(text, task).get("7", [])) for task in ("1", "2", "3", "5", "12", "13")] == [1, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("cut", [0, 60, -20])
def test_half_an_answer_is_none(cut: int) -> None:
    with pytest.raises(SchedulerUnavailable, match="cannot be read"):
        rows(listed(row("r"))[:cut])


@pytest.mark.parametrize(
    ("failed", "status", "category", "outcome", "exit_code"),
    [
        ("0    ", "0", "NONE", "succeeded", 0), ("0    ", "3", "NONE", "failed", 3),
        ("100 : assumedly after job", "137                  (Killed)", "NONE", "cancelled", None),
        ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137", "-l h_rt=10", "timed_out", None),
        ("100 : assumedly after job", "137", "-l h_rt=10", "timed_out", None),
        ("100 : assumedly after job", "137", "-l h_rt=1000,h_vmem=1M", "out_of_memory", None),
        ("100 : assumedly after job", "139", "NONE", "failed", 139), ("26  : opening input/output file", "0", "NONE", "failed", 0),
    ],
    ids=range(8),
)  # fmt: skip
def test_how_a_job_ended(failed: str, status: str, category: str, outcome: str, exit_code: int | None) -> None:
    (past,) = past_jobs(record(failed=failed, status=status, category=category), "alice")
    assert (past.job.outcome, past.job.exit_code) == (outcome, exit_code)


def test_a_record_as_a_whole() -> None:
    (past,) = past_jobs(record(category="-l h_vmem=1G"), "alice")
    assert (past.job.submitted_at, past.job.started_at, past.job.ended_at) == (1795412473, 1795412474, 1795412484)
    assert (past.cpus, past.cpu_time, past.memory_used, past.memory_requested) == (2, 5, 3 * 1024**2, 2 * 1024**3)
    assert past_jobs(record(), "bob") == []
    assert past_jobs(record()[:200], "alice") == []
    assert [job.job.id for job in past_jobs(record("2") + record("3"), "alice", "3")] == ["3.3"]


def test_a_job_on_its_way_from_qstat_to_the_accounting_file(adapter: SgeAdapter) -> None:
    """It is as it was, then has ended in a way that is not known yet, then is what the record says; never not found."""
    none = Output(1, "", "error: job id 7 not found")
    answers(adapter, Output(0, listed(row("r")), ""), Output(0, "<unknown_jobs></unknown_jobs>", ""))
    assert adapter.job("7").status == RUNNING
    answers(adapter, Output(0, listed(), ""), none)
    assert adapter.job("7").status == RUNNING
    answers(adapter, Output(0, listed(row("z")), ""), none)
    ended = adapter.job("7")
    assert (ended.status, ended.outcome) == (COMPLETED, None)
    answers(adapter, Output(0, listed(row("z")), ""), Output(0, record(), ""))
    assert adapter.job("7").outcome == "succeeded"
    answers(adapter, Output(0, listed(), ""), none)
    with pytest.raises(JobNotFound):
        adapter.job("8")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('denied: job "9999" does not exist', JobNotFound), ("error: job id 9999 not found", JobNotFound),
        ('Unable to run job: job rejected: the requested project "nope" does not exist\nExiting.', Rejected),
        ("error: commlib error: got select error (Connection refused)\nUnable to run job: unable to send message to qmaster", NotSent),
        ("error: commlib error: got read error (closing \"vm/qmaster/1\")", Unanswered),
        ("Unable to initialize environment because of error: unable to read qmaster name", NotSent),
    ],
    ids=range(6),
)  # fmt: skip
def test_what_a_failure_means(adapter: SgeAdapter, said: str, kind: type[Exception]) -> None:
    error = adapter.failure(Output(1, said, ""))
    assert type(error) is kind
    assert "Exiting" not in error.message


TASKS = listed(row("r", more="<tasks>1</tasks>"), row("qw", more="<tasks>2-4:1</tasks>"))
DETAILS = "<detailed_job_info><djob_info><element><JB_owner>alice</JB_owner></element></djob_info></detailed_job_info>"


@pytest.mark.parametrize(
    ("change", "job_id", "command"),
    [("cancel", "7.1", "qdel"), ("cancel", "7.2", "qdel"), ("hold", "7.3", "qhold"), ("cancel", "7", "qdel")],
)
def test_a_change_is_of_the_task_that_was_named(adapter: SgeAdapter, change: str, job_id: str, command: str) -> None:
    ran = answers(adapter, Output(0, TASKS, ""), Output(0, DETAILS, ""), Output(0, "", ""))
    getattr(adapter, change)(job_id)
    assert ran[-1] == [command, job_id]


def test_a_release_is_of_the_task_that_was_named(adapter: SgeAdapter) -> None:
    held = listed(row("hqw", more="<tasks>1-4:1</tasks>"))
    ran = answers(adapter, Output(0, held, ""), Output(0, DETAILS, ""), Output(0, "", ""))
    assert adapter.release("7.4") == QUEUED
    assert ran[-1] == ["qrls", "7.4"]


def test_an_array_is_released_while_one_of_its_tasks_is_held(adapter: SgeAdapter) -> None:
    """Its status is that of the tasks that have come furthest."""
    running = row("r", more="<tasks>3</tasks>")
    for state, is_released in (("hqw", True), ("qw", False)):
        said = listed(row(state, more="<tasks>1-2:1</tasks>"), running)
        ran = answers(adapter, Output(0, said, ""), Output(0, DETAILS, ""), Output(0, said, ""), Output(0, "", ""))
        adapter.release("7")
        assert (ran[-1] == ["qrls", "7"]) is is_released


def test_a_task_has_its_own_id(adapter: SgeAdapter) -> None:
    """Alone, among many, and when it has ended."""
    answers(adapter, Output(0, TASKS, ""), Output(0, DETAILS, ""))
    assert adapter.job("7.3").id == "7.3"
    answers(adapter, Output(0, TASKS, ""), Output(1, "", "error: job id 7 not found"))
    assert {name: job.id for name, job in adapter.look_up(["7.1", "7.3"]).items()} == {"7.1": "7.1", "7.3": "7.3"}
    answers(adapter, Output(0, listed(row("z", more="<tasks>5</tasks>")), ""), Output(0, record("6"), ""))
    assert adapter.job("7.5").id == "7.5"


def test_a_job_in_error_says_why_and_that_it_cannot_start(adapter: SgeAdapter) -> None:
    """The reason stands with the task, as 8.1.9 prints it."""
    detailed = (
        "<detailed_job_info><djob_info><element><JB_ja_tasks><ulong_sublist><JAT_task_number>1</JAT_task_number><JAT_message_list>"
        "<ulong_sublist><QIM_type>1</QIM_type><QIM_message>error: can&apos;t open output file &quot;/x&quot;</QIM_message></ulong_sublist>"
        "</JAT_message_list></ulong_sublist><ulong_sublist><JAT_task_number>2</JAT_task_number><JAT_message_list><ulong_sublist>"
        "<QIM_message>another task's</QIM_message></ulong_sublist></JAT_message_list></ulong_sublist></JB_ja_tasks></element></djob_info>"
        "<messages><element><SME_message_list><element><MES_message>Job is in error state</MES_message></element></SME_message_list>"
        "</element></messages></detailed_job_info>"
    )
    answers(adapter, Output(0, listed(row("Eqw", more="<tasks>1-2:1</tasks>")), ""), Output(0, detailed, ""))
    job = adapter.job("7.1")
    assert (job.status, job.native_state, job.can_start) == (QUEUED, "Eqw", False)
    assert job.native_reason == 'error: can\'t open output file "/x"; Job is in error state'
    assert job.reason and "cannot" not in job.reason and "cancel it" in job.reason
    answers(adapter, Output(0, listed(row("Eqw"), row("qw", 8)), ""))
    assert [(job.can_start, bool(job.reason)) for job in adapter.jobs()] == [(False, True), (None, False)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("Mon Nov 23 05:41:13 2026", 1795412473), ("2026-11-23 05:41:13.123456", 1795412473), ("2026-11-23T05:41:13", 1795412473),
     ("11/23/2026 05:41:13.123", 1795412473), ("11/23/2026 05:41:13", 1795412473), ("-/-", None), ("13/40/2026 05:41:13", None), ("", None)],
)  # fmt: skip
def test_times_of_grid_engine_and_its_descendants(text: str, seconds: int | None) -> None:
    """Son of Grid Engine and Univa before 8.2, Open Cluster Scheduler 9, Altair."""
    assert when(text, 1795461000) == seconds


@pytest.mark.parametrize("text", ["1795412473", "1795412473123", "1795412473123456"])
def test_numbers_of_seconds_and_of_their_parts(text: str) -> None:
    assert epoch(text) == 1795412473
    assert (epoch("0"), epoch(""), epoch("-1")) == (0, None, None)


OCS_RECORD = """==============================================================
qname                              all.q
owner                              alice
jobname                            sleep
jobnumber                          7
taskid                             undefined
pe_taskid                          NONE
account                            sge
qsub_time                          2026-11-23 05:41:13.123456
submit_cmd_line                    qsub -l h_rt=60 -terse
start_time                         2026-11-23 05:41:14.000001
end_time                           2026-11-23 05:41:24.999999
granted_pe                         NONE
slots                              1
failed                             {failed}
exit_status                        {status}
{more}ru_wallclock                       10
wallclock                          10.734
cpu                                5.250
maxvmem                            3145728
maxrss                             1048576
"""


@pytest.mark.parametrize(
    ("failed", "status", "more", "outcome"),
    [("0    ", "0", "", "succeeded"), ("100 : assumedly after job", "137", "deleted_by                         alice\n", "cancelled"),
     ("100 : assumedly after job", "137", "", "cancelled"), ("100 : assumedly after job", "137", "deleted_by                 NONE\n", "failed")],
)  # fmt: skip
def test_a_record_of_open_cluster_scheduler(failed: str, status: str, more: str, outcome: str) -> None:
    """It has no line of a category, its columns are wider, its times have microseconds."""
    (past,) = past_jobs(OCS_RECORD.format(failed=failed, status=status, more=more), "alice")
    assert (past.job.id, past.job.outcome, past.job.wallclock_limit) == ("7", outcome, 60)
    assert (past.job.submitted_at, past.job.started_at, past.job.ended_at) == (1795412473, 1795412474, 1795412484)
    assert (past.cpu_time, past.memory_used) == (5, 3145728)
    assert past_jobs(OCS_RECORD.format(failed=failed, status=status, more=more)[:-40], "alice") != []
    assert past_jobs(OCS_RECORD.format(failed=failed, status=status, more=more)[:-90], "alice") == []


def test_the_same_path_for_both_streams_is_one_stream(adapter: SgeAdapter) -> None:
    for error in ("/o", "/x/../o"):
        argv = submitted(adapter, replace(PLAIN, output_path="/o", error_path=error))
        assert "-e" not in argv and argv[argv.index("-j") + 1] == "y"
    assert "-j" not in submitted(adapter, replace(PLAIN, output_path="/o", error_path="/e"))


def test_history_of_a_cell_without_records(adapter: SgeAdapter) -> None:
    answers(adapter, Output(1, "", "/x/default/common/accounting: No such file or directory"))
    assert adapter.history(Period(0, 100)) == []


def test_queues_and_hosts() -> None:
    instances = (
        "<job_info><queue_info>"
        "<Queue-List><name>all.q@a</name><slots_used>2</slots_used><slots_total>4</slots_total></Queue-List>"
        "<Queue-List><name>all.q@b</name><slots_used>0</slots_used><state>d</state></Queue-List>"
        "<Queue-List><name>off.q@b</name><slots_used>0</slots_used><state>d</state></Queue-List></queue_info></job_info>"
    )
    configured = "qname all.q\nhostlist @allhosts \\\n         c\nh_rt INFINITY\n\nqname off.q\nh_rt 0:1:0\n"
    all_q, off_q = queues_of(instances, configured)
    assert (all_q.state, all_q.active_nodes, all_q.idle_nodes, all_q.total_nodes, all_q.time_limit) == (
        "up",
        1,
        0,
        2,
        None,
    )
    assert (off_q.state, off_q.time_limit) == ("down", 60)
    hosts = (
        "<qhost><host name='global'><hostvalue name='num_proc'>-</hostvalue></host>"
        "<host name='a'><hostvalue name='num_proc'>4</hostvalue></host><host name='b'><hostvalue name='num_proc'>8</hostvalue></host></qhost>"
    )
    info = cluster_info(hosts, instances)
    assert (info.active_nodes, info.total_nodes, info.active_processors, info.total_processors) == (1, 2, 2, 12)


def test_long_lines_of_qconf_go_on() -> None:
    assert objects("name x\nentries a,b, \\\n        c\n") == [{"name": "x", "entries": "a,b,  c"}]


def submitted(adapter: SgeAdapter, request: JobRequest) -> list[str]:
    adapter._one_host = "smp"
    return adapter._submit_command(request)


def test_a_submit_has_options_that_qsub_has(adapter: SgeAdapter) -> None:
    argv = submitted(adapter, FULL)
    for option in options_of(argv):
        following = argv[argv.index(option) + 1 : argv.index(option) + 2]
        assert MANUAL[option] == bool(following and not following[0].startswith("-")), option


def test_what_a_submit_asks_for(adapter: SgeAdapter) -> None:
    text = " ".join(submitted(adapter, FULL))
    for part in (
        "-ac PUNWAY=tag", "-l h_rt=90", "-l h_vmem=34M", "-pe smp 3", "-t 1-9:2 -tc 3", "-hold_jid 5,6", "-S /bin/sh", "-v A", "-wd /tmp",
    ):  # fmt: skip
        assert part in text
    assert "-j y" not in text
    assert "-j y" in " ".join(submitted(adapter, PLAIN))
    own = replace(PLAIN, content="#!/bin/sh\n#$ -S /bin/csh\n#$ -e /x\n")
    assert not {"-S", "-j"} & set(submitted(adapter, own))


def test_every_option_is_in_a_submit_or_refused(adapter: SgeAdapter) -> None:
    for name in OPTIONS:
        value: Any = {"native": ("-p", "5"), "nodes": 1, "gpus": 1, "qos": "q"}.get(name, getattr(FULL, name) or ("1",))
        request = replace(PLAIN, **{name: value})
        if name in adapter.options:
            assert submitted(adapter, request) != submitted(adapter, PLAIN), name
        else:
            with pytest.raises(Rejected, match=f"options.{name}"):
                adapter.submit(request)


def test_cores_want_a_parallel_environment_on_one_host(adapter: SgeAdapter) -> None:
    spread, one = "pe_name mpi\nallocation_rule $round_robin\n", "pe_name smp\nallocation_rule $pe_slots\n"
    answers(adapter, Output(0, "mpi\nsmp\n", ""), Output(0, spread, ""), Output(0, one, ""))
    assert adapter._parallel_environment() == "smp"
    adapter._one_host = None
    answers(adapter, Output(0, "mpi\n", ""), Output(0, spread, ""))
    with pytest.raises(Rejected, match="options.native"):
        adapter._parallel_environment()


@pytest.mark.parametrize(
    "wrong",
    [{"array": "0-3"}, {"array": "1,3"}, {"job_name": "a b"}, {"job_name": "1a"}, {"output_path": "/a:b"}],
    ids=range(5),
)
def test_what_grid_engine_cannot_have_is_refused(adapter: SgeAdapter, wrong: dict[str, Any]) -> None:
    with pytest.raises(Rejected, match="options"):
        submitted(adapter, replace(PLAIN, **wrong))


def test_projects_that_let_the_user_in(adapter: SgeAdapter) -> None:
    answers(
        adapter, Output(0, "open\nshut\n", ""), Output(0, "default_project open\n", ""), Output(0, "name open\nacl NONE\nxacl NONE\n", ""),
        Output(0, "name shut\nacl others\nxacl NONE\n", ""), Output(0, "name others\nentries bob,@nogroup-of-hers\n", ""),
    )  # fmt: skip
    assert [(account.name, account.default) for account in adapter.accounts()] == [("open", True)]


def test_what_is_an_id() -> None:
    for job_id in ("0", "7[1]", "7.", "7.0", "-7", "7 8", "*", "all"):
        assert not re.fullmatch(SgeAdapter.job_id, job_id)


def test_a_lost_submit_is_looked_for_among_the_latest(adapter: SgeAdapter) -> None:
    """Each is a command: not among all of a thousand."""
    context = "<d><JB_context><context_list><VA_variable>PUNWAY</VA_variable><VA_value>m</VA_value></context_list></JB_context></d>"
    many = Output(0, listed(*(row("qw", number) for number in range(1, 1000))), "")
    answers(adapter, many, Output(0, "<d></d>", ""), Output(0, context, ""), *[Output(0, "<d></d>", "")] * 18)
    assert [job.id for job in adapter.find_tagged("m")] == ["998"]
    ran = answers(adapter, many, *[Output(0, "<d></d>", "")] * 20)
    assert adapter.find_tagged("m") == []
    assert [argv[-1] for argv in ran[1:]] == [str(number) for number in range(999, 979, -1)]


STREAMS = """<detailed_job_info><djob_info><element><JB_owner>h</JB_owner><JB_merge_stderr>{joined}</JB_merge_stderr>
<JB_job_name>STDIN</JB_job_name>{cwd}{out}{err}<JB_type>{type}</JB_type></element></djob_info></detailed_job_info>"""


@pytest.mark.parametrize(
    "out, err, cwd, joined, kind, task, expected",
    [
        ("", "", "", "false", 0, "", ("/home/h/STDIN.o7", "/home/h/STDIN.e7")),
        ("", "", "/w", "true", 128, "3", ("/w/STDIN.o7.3", "/w/STDIN.o7.3")),
        ("$JOB_NAME.$TASK_ID", "/x/$JOB_ID", "/w", "false", 128, "3", ("/w/STDIN.3", "/x/7")),
        ("/", "$HOSTNAME.e", "/w", "false", 0, "", ("/STDIN.o7", None)),
        ("$HOME/$USER", "", "/w", "true", 0, "", ("/home/h/h", "/home/h/h")),
        ("~/t.out", "~nobody-of-that-name/e", "/w", "false", 0, "", ("/home/h/t.out", "/w/~nobody-of-that-name/e")),
    ],
    ids=["neither", "tasks", "variables", "folder and host", "home", "tilde"],
)
def test_where_streams_go(
    monkeypatch: pytest.MonkeyPatch, out: str, err: str, cwd: str, joined: str, kind: int, task: str, expected: Any
) -> None:
    """By -o and -e of qsub(1), as qstat 8.1.9 tells of them."""
    monkeypatch.setenv("HOME", "/home/h")
    lists = {
        name: f"<JB_{name}_path_list><path_list><PN_path>{path}</PN_path></path_list></JB_{name}_path_list>"
        if path
        else ""
        for name, path in (("stdout", out), ("stderr", err))
    }
    folder = f"<JB_cwd>{cwd}</JB_cwd>" if cwd else ""
    streams = streams_of(STREAMS.format(joined=joined, cwd=folder, out=lists["stdout"], err=lists["stderr"], type=kind))
    assert streams is not None
    files = streams.files("7", task)
    assert ((files.stdout, files.stderr), streams.array) == (expected, kind == 128)


def test_where_streams_went_is_known_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to the user's next process; and another user's job is not written down."""
    monkeypatch.setenv("HOME", str(tmp_path))
    told = STREAMS.format(joined="true", cwd="<JB_cwd>/w</JB_cwd>", out="", err="", type=0)
    assert KnownStreams("c").of("7", None, "h") is None
    assert KnownStreams("c").of("7", told, "other") is not None
    assert KnownStreams("c").of("7", None, "h") is None
    assert KnownStreams("c").of("7", told, "h") == KnownStreams("c").of("7", None, "h")
    assert KnownStreams("d").of("7", None, "h") is None


def test_where_streams_go_is_not_unknown_while_grid_engine_is_down(adapter: SgeAdapter) -> None:
    """A 503, and no 404: it may know the job, once it answers."""
    answers(adapter, Output(1, "", "error: commlib error: got select error (Connection refused)\n"))
    with pytest.raises(SchedulerUnavailable):
        adapter.output("4242")
    answers(adapter, Output(1, "", "Following jobs do not exist or permissions are not sufficient: \n4242\n"))
    with pytest.raises(JobNotFound):
        adapter.output("4242")
