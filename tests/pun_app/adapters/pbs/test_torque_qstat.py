"""pun_app/adapters/pbs/torque_qstat.py.

test_torque.py reads recorded output with it.
"""

from __future__ import annotations

from pun_app.adapters.markup import document
from pun_app.adapters.pbs.torque_qstat import job_of


def test_a_name_with_a_control_character_is_read() -> None:
    """XML does not allow the character, and markup in a name is text. An unknown state has no status."""
    text = "<Data><Job><Job_Id>1.vm</Job_Id><Job_Name>a\x01&lt;b></Job_Name><Job_Owner>u@h</Job_Owner><job_state>~</job_state></Job></Data>"
    (job,) = [job_of(found) for found in document(text, "Torque").iter("Job")]
    assert (job.name, job.status, job.native_state) == ("a\ufffd<b>", None, "~")
