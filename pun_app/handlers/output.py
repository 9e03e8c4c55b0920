"""The handler of GET /api/v1/jobs/:id/output: the last lines or another piece of a job's output."""

from __future__ import annotations

from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, Job
from pun_app.errors import NotFound, NotSupported
from pun_app.handlers.request import Answer, Request
from pun_app.queries import DEFAULT_LINES, DEFAULT_OUTPUT_BYTES, OutputQuery
from pun_app.schemas import OutputAnswer
from pun_app.text_file import NoFile, last_lines, piece


def job_output(request: Request) -> Answer[OutputAnswer]:
    """Return a part of a job's output.

    The part is the last lines (``tail``) or ``limit`` bytes from ``offset`` on. With ``tail`` and ``offset``, it is the
    last lines of that piece.

    The last lines are as a terminal shows them, in at most ``limit`` bytes. Pieces are the file's exact bytes, so that
    a client can join them. The scheduler gives the path of the file, and this process reads it with the user's own
    permissions. Raises NotFound, with the path, while the file does not exist, NotSupported if the scheduler gives no
    path, and Refused if the user may not read the file.
    """
    query: OutputQuery = request.query
    stream, tail, offset, limit = query.stream, query.tail, query.offset, query.limit
    cluster = request.cluster()
    # Ask for the job before the file is read: if the job has ended by now, the file is complete.
    job, _ = cluster.scheduler.job(request.id)
    files = cluster.scheduler.output(request.id)
    path = files.stdout if stream == "stdout" else files.stderr
    if path is None:
        raise NotSupported(f"The scheduler does not give the path of the {stream} of job {job.id}")
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
        return f"Job {job.id} has ended, and the file of its {stream} does not exist: {path}"
    reason = "the scheduler copies it when the job has ended" if at_end else "the job has not written anything"
    return f"The {stream} of job {job.id} is not yet in {path}: {reason}; try again later"
