"""Idempotency keys: a submit that is repeated with its Idempotency-Key gets the first answer and submits nothing.

The answer is kept in the user's home for a day, so it outlives the process. Before the scheduler is asked, a record is
written with the submit tag that the job will carry. A retry after a crash finds the job by that tag. This follows
draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec

from pun_app.adapters.errors import NotSent, Rejected, SchedulerError, SchedulerUnavailable
from pun_app.adapters.model import JobRequest
from pun_app.errors import ApiError, BadRequest, Conflict, Refused, Unavailable
from pun_app.expiring_files import ExpiringFiles
from pun_app.schemas import SubmitBody, SubmittedJobAnswer

KEY_TTL_S = 86_400.0
"""Time for which a key is kept."""
LISTED_S = 120.0
"""Time after a submit in which the scheduler's list still has its job, even if the job has ended."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
log = logging.getLogger("punway.pun")


class Record(msgspec.Struct, omit_defaults=True):
    """The record of one key: the hash of the request's body, the submit tag, the time, and the answer if there is one.

    ``begun`` is in Unix seconds. ``refusal`` is the scheduler's message if it refused the job.
    """

    fingerprint: str
    submit_tag: str
    begun: float
    answer: SubmittedJobAnswer | None = None
    refusal: str | None = None


class ReplayedRefusal(Refused):
    """The scheduler's refusal of the first submit with the same key."""

    def headers(self) -> dict[str, str]:
        return {"Idempotency-Replayed": "true"}


def checked_key(given: str | None) -> str | None:
    """Return the key of a request, or None if it has none. Raises BadRequest."""
    if given is None or not given:
        return None
    if not _KEY.fullmatch(given):
        raise BadRequest("Idempotency-Key: write 1 to 255 visible ASCII characters, such as a UUID")
    return given


class Submits:
    """The submits of one user that had a key, in ``files``. ``clock`` returns Unix seconds."""

    def __init__(self, files: ExpiringFiles, clock: Callable[[], float] = time.time) -> None:
        self._files = files
        self._clock = clock

    def once(
        self,
        key: str,
        body: SubmitBody,
        make: Callable[[], JobRequest],
        submit: Callable[[JobRequest], SubmittedJobAnswer],
        find: Callable[[str], SubmittedJobAnswer | None],
    ) -> tuple[SubmittedJobAnswer, bool]:
        """Submit a job once for each key. Return the answer, and True if it is the one of an earlier request.

        ``make`` returns the request to submit; it is called only if something is submitted. ``find`` returns the job
        with a submit tag. Raises what ``make`` and ``submit`` raise. Raises Refused if the key was used with another
        body or the first submit was refused, Conflict if the outcome of the first submit can no longer be found out,
        and Unavailable, before anything is submitted, if the home is not writable.
        """
        fingerprint = hashlib.sha256(msgspec.json.encode(body)).hexdigest()
        with self._files.locked(key):
            record = self._read(key)
            is_second = record is not None
            if record is None:
                request = make()
                record = Record(fingerprint, request.submit_tag, 0.0)
            elif record.fingerprint != fingerprint:
                raise Refused("This Idempotency-Key was used with another body; use a new key for a new submit")
            elif record.answer is not None:
                return record.answer, True
            elif record.refusal is not None:
                raise ReplayedRefusal(record.refusal)
            elif found := find(record.submit_tag):
                record.answer = found
                self._write(key, record)
                return found, True
            elif self._clock() - record.begun > LISTED_S:
                raise Conflict(
                    "It is not known whether the first submit with this Idempotency-Key made a job, which may have "
                    "ended by now. Look for the job in your list of jobs and in the job history; if it is in neither, "
                    "submit with a new key"
                )
            else:
                request = replace(make(), submit_tag=record.submit_tag)
            record.begun = self._clock()
            self._write(key, record)
            answer = self._submit(key, record, request, submit)
            return (self._first_job(key, record, answer, find) if is_second else answer), False

    def _first_job(
        self,
        key: str,
        record: Record,
        answer: SubmittedJobAnswer,
        find: Callable[[str], SubmittedJobAnswer | None],
    ) -> SubmittedJobAnswer:
        """Return the one job that stays of a submit that was sent twice.

        A scheduler that hung may take the first submit only now, after ``find`` has looked for its job. So look again:
        ``find`` keeps the first of several jobs with one tag and cancels the others.
        """
        try:
            found = find(record.submit_tag)
        except (ApiError, SchedulerError) as error:
            log.warning("failed to look for a second job of one Idempotency-Key: %s", error.message)
            return answer
        if found is None or found.job_id == answer.job_id:
            return answer
        record.answer = found
        self._write_answer(key, record)
        return found

    def _submit(
        self, key: str, record: Record, request: JobRequest, submit: Callable[[JobRequest], SubmittedJobAnswer]
    ) -> SubmittedJobAnswer:
        try:
            record.answer = submit(request)
        except Rejected as rejected:
            record.refusal = rejected.message
            self._write(key, record)
            raise
        except SchedulerUnavailable as unavailable:
            # Unless the request was certainly not sent, there may be a job, so the record keeps the submit tag.
            if isinstance(unavailable, NotSent):
                self._files.remove(key)
            raise
        except (ApiError, SchedulerError):
            self._files.remove(key)
            raise
        self._write_answer(key, record)
        return record.answer

    def _read(self, key: str) -> Record | None:
        content = self._files.get(key)
        try:
            return None if content is None else msgspec.json.decode(content, type=Record)
        except msgspec.DecodeError as error:
            # Another version wrote the record, or somebody changed it. The key counts as unused.
            log.warning("ignoring the unreadable record of an Idempotency-Key: %s", error)
            return None

    def _write_answer(self, key: str, record: Record) -> None:
        try:
            self._write(key, record)
        except Unavailable as unavailable:
            # The job exists, so the client gets the answer. A retry finds the job by its submit tag.
            log.warning("failed to keep the answer to an Idempotency-Key: %s", unavailable.message)

    def _write(self, key: str, record: Record) -> None:
        self._files.put(key, msgspec.json.encode(record))
