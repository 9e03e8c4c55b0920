"""A submit that is repeated with its Idempotency-Key is answered as the first one was, and submits nothing.

What was answered is kept for a day in the user's home, so that it outlives the process; before the scheduler is asked,
it is kept that it is going to be, with the submit tag that the job will carry. So a retry after a crash finds the job
by its submit tag. Follows draft-ietf-httpapi-idempotency-key-header-07.
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

KEPT = 86_400.0
"""Seconds for which a key is remembered."""
SURE = 120.0
"""Seconds after a submit whose answer was lost, within which its job still stands in the scheduler's list."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
log = logging.getLogger("punway.pun")


class Record(msgspec.Struct, omit_defaults=True):
    """What is known of one key: what was asked, when, with which submit tag, and what was answered, if it was."""

    fingerprint: str
    submit_tag: str
    begun: float
    answer: SubmittedJobAnswer | None = None
    refusal: str | None = None


class ReplayedRefusal(Refused):
    """What the scheduler said to the first submit."""

    def headers(self) -> dict[str, str]:
        return {"Idempotency-Replayed": "true"}


def checked_key(given: str | None) -> str | None:
    """The key of a request; None where it has none. Raises BadRequest."""
    if given is None or not given:
        return None
    if not _KEY.fullmatch(given):
        raise BadRequest("Idempotency-Key must be 1 to 255 visible characters of ASCII; a UUID will do")
    return given


class Submits:
    """Those of one user that had a key."""

    def __init__(self, kept: ExpiringFiles) -> None:
        self._kept = kept

    def once(
        self,
        key: str,
        body: SubmitBody,
        make: Callable[[], JobRequest],
        submit: Callable[[JobRequest], SubmittedJobAnswer],
        find: Callable[[str], SubmittedJobAnswer | None],
    ) -> tuple[SubmittedJobAnswer, bool]:
        """The answer, and whether it is an earlier one. ``make`` gives what to submit, if anything is to be; ``find``
        the job that carries a submit tag.

        Raises what ``make`` and ``submit`` raise; Refused where the key had another body, or as the first submit was
        refused; Conflict where it cannot be known any more what became of it; Unavailable, before anything is
        submitted, where the home cannot be written to.
        """
        fingerprint = hashlib.sha256(msgspec.json.encode(body)).hexdigest()
        with self._kept.locked(key):
            record = self._read(key)
            if record is None:
                request = make()
                record = Record(fingerprint, request.submit_tag, 0.0)
            elif record.fingerprint != fingerprint:
                raise Refused("This Idempotency-Key was used with another body; a new submit needs a new key")
            elif record.answer is not None:
                return record.answer, True
            elif record.refusal is not None:
                raise ReplayedRefusal(record.refusal)
            elif found := find(record.submit_tag):
                record.answer = found
                self._write(key, record)
                return found, True
            elif time.time() - record.begun > SURE:
                raise Conflict(
                    "It is not known whether the first submit with this Idempotency-Key made a job, and its job may "
                    "have ended by now: look among your jobs, and submit with a new key if it is not there"
                )
            else:
                request = replace(make(), submit_tag=record.submit_tag)
            record.begun = time.time()
            self._write(key, record)
            return self._submit(key, record, request, submit), False

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
            # Otherwise it may have been submitted all the same: the submit tag stays.
            if isinstance(unavailable, NotSent):
                self._kept.remove(key)
            raise
        except (ApiError, SchedulerError):
            self._kept.remove(key)
            raise
        try:
            self._write(key, record)
        except Unavailable as unavailable:
            # There is a job, and its client shall know; a retry finds it by the submit tag.
            log.warning("the answer to an Idempotency-Key could not be kept: %s", unavailable.message)
        return record.answer

    def _read(self, key: str) -> Record | None:
        content = self._kept.get(key)
        try:
            return None if content is None else msgspec.json.decode(content, type=Record)
        except msgspec.DecodeError as error:
            # Of another version, or somebody wrote into it: the key is as good as new.
            log.warning("what was kept of an Idempotency-Key cannot be read: %s", error)
            return None

    def _write(self, key: str, record: Record) -> None:
        self._kept.put(key, msgspec.json.encode(record))
