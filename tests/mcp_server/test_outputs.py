"""The tools' models say what the REST API says: both packages' shapes, which share no module, are the same."""

from __future__ import annotations

import msgspec
import pytest
from pydantic import BaseModel

from mcp_server import arguments
from mcp_server import outputs as answers
from pun_app import schemas
from pun_app.adapters import model


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (answers.WhoAmI, schemas.WhoAmI),
        (answers.Cluster, schemas.ClusterAnswer),
        (answers.ClusterInfo, model.ClusterInfo),
        (answers.Queue, model.Queue),
        (answers.Account, schemas.AccountAnswer),
        (answers.Job, schemas.JobAnswer),
        (answers.PastJob, schemas.PastJobAnswer),
        (answers.Submitted, schemas.SubmittedJobAnswer),
        (answers.Status, schemas.StatusAnswer),
        (answers.Action, schemas.JobAction),
        (answers.Output, schemas.OutputAnswer),
        (answers.Validated, schemas.ValidAnswer),
        (answers.Note, schemas.SiteNote),
        (answers.Notes, schemas.ContextAnswer),
        (arguments.Options, schemas.Options),
        (arguments.JobNamed, schemas.JobNamed),
    ],
)
def test_the_fields_are_the_apis(ours: type[BaseModel], theirs: type[msgspec.Struct]) -> None:
    assert set(ours.model_fields) == {field.name for field in msgspec.structs.fields(theirs)}


def test_outcomes_are_the_adapters() -> None:
    """What list_past_jobs takes is what there is."""
    description = answers.Job.model_fields["outcome"].description or ""
    assert all(outcome in description for outcome in model.OUTCOMES)
