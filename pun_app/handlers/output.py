"""GET /api/v1/jobs/:id/output: what a job has written, its last lines or a piece of it."""

from __future__ import annotations

from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, Job
from pun_app.errors import NotFound, NotSupported
from pun_app.handlers.request import Answer, Request
from pun_app.queries import DEFAULT_LINES, DEFAULT_OUTPUT_BYTES, OutputQuery
from pun_app.schemas import OutputAnswer
from pun_app.text_file import NoFile, last_lines, piece


def job_output(request: Request) -> Answer[OutputAnswer]:
    """What a job has written: the last lines (``tail``), or ``limit`` bytes from ``offset`` on; with both, the last
    lines of that piece. NotFound, with the path, while there is none.

    The last lines are as a terminal shows them, in ``limit`` bytes at most. Pieces are the file's exact bytes, so that
    they can be put together.

    Where the file is, the scheduler says; it is read as the user, who may read it or not.
    """
    query: OutputQuery = request.query
    stream, tail, offset, limit = query.stream, query.tail, query.offset, query.limit
    cluster = request.cluster()
    # Before its file is read: what a job wrote that has ended by now is whole.
    job, _ = cluster.scheduler.job(request.id)
    files = cluster.scheduler.output(request.id)
    path = files.stdout if stream == "stdout" else files.stderr
    if path is None:
        raise NotSupported(f"The scheduler does not tell where the {stream} of job {job.id} is")
    if job.status in (QUEUED, QUEUED_HELD) and job.started_at is None:
        raise NotFound(f"Job {job.id} has not started; its {stream} will be in {path}")
    may_grow = job.status != COMPLETED
    try:
        if offset is None and (tail is not None or limit is None):
            read = last_lines(path, tail or DEFAULT_LINES, limit or DEFAULT_OUTPUT_BYTES, may_grow=may_grow)
        else:
            read = piece(path, offset or 0, limit or DEFAULT_OUTPUT_BYTES, may_grow=may_grow)
            read = read if tail is None else read.last(tail)
    except NoFile as error:
        raise NotFound(_missing(job, stream, path, at_end=files.at_end)) from error
    data = OutputAnswer(
        job_id=job.id,
        cluster=cluster.id,
        stream=stream,
        path=path,
        content=read.text,
        offset=read.offset,
        next_offset=read.next_offset,
        size=read.size,
        may_grow=may_grow,
        lossy=read.lossy,
        truncated=read.truncated,
    )
    return Answer(data)


def _missing(job: Job, stream: str, path: str, *, at_end: bool) -> str:
    if job.status == COMPLETED:
        return f"Job {job.id} has ended, and there is no file {path} (its {stream})"
    later = "the scheduler puts it there when the job has ended" if at_end else "the job has not written any"
    return f"There is no {stream} of job {job.id} yet in {path}: {later}"
