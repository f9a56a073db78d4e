"""Params of the methods about who may call: auth.*, credential.*, operator.* and server.maintenance."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.durations import LONGEST_S, Duration
from rpcserver.schemas.job import PageParams
from rpcserver.schemas.session import Cursor, Id, Limit, Line, Params, Text

SecretText = Annotated[str, Field(min_length=1, max_length=4000)]
Count = Annotated[int, Field(ge=1, le=10**12)]


class AuthenticateParams(Params):
    """auth.authenticate: exactly one of `credential` and `ticket`."""

    credential: SecretText | None = None
    ticket: SecretText | None = None

    @model_validator(mode="after")
    def _one(self) -> "AuthenticateParams":
        if (self.credential is None) == (self.ticket is None):
            raise ValueError("give exactly one of credential and ticket")
        return self


class RefreshParams(Params):
    """auth.refresh: without a credential the present one begins its life anew, if it is renewable."""

    credential: SecretText | None = None


class LogoutParams(Params):
    """auth.logout: `revoke` ends the credential for good, with all its connections."""

    revoke: bool = False


class TermsParams(Params):
    """What a new credential is good for."""

    label: Line
    scopes: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]], Field(min_length=1, max_length=100)
    ] = ["*"]
    expires_in_s: Duration | None = None
    renewable: bool = False
    max_calls: Count | None = None
    calls_per_interval: Count | None = None
    interval_s: Annotated[int, Field(ge=1, le=LONGEST_S)] | None = None
    holder: Text | None = None
    logged: bool = False

    @model_validator(mode="after")
    def _whole(self) -> "TermsParams":
        if (self.calls_per_interval is None) != (self.interval_s is None):
            raise ValueError("calls_per_interval and interval_s go together")
        if self.renewable and self.expires_in_s is None:
            raise ValueError("only a credential with expires_in_s can be renewable")
        return self


class CreateCredentialParams(TermsParams):
    """credential.create."""


class CredentialParams(Params):
    """credential.revoke."""

    credential_id: Id


class CredentialLogParams(Params):
    """credential.log: what a limited credential was used for."""

    credential_id: Id
    limit: Limit = 50
    cursor: Cursor = None


class MaintenanceParams(Params):
    """server.maintenance."""

    on: bool
    message: Text = "The server is in maintenance: try again later."
    retry_after_s: Annotated[Duration, Field(le=24 * 3600.0)] = 60.0


class OperatorCredentialParams(TermsParams):
    """operator.credential_create: `user` is in whose name it acts."""

    user: Text


class OperatorListParams(PageParams):
    """operator.credentials_list: of one user, or of all."""

    user: Text | None = None


class OperatorTicketParams(Params):
    """operator.ticket: `life_s` is how long a connection opened with it may last."""

    user: Text
    life_s: Duration = 12 * 3600.0


class NewUserParams(Params):
    """operator.user_add."""

    name: Text


class DeferParams(Params):
    """operator.user_defer: without an approver, the user's jobs run at once again."""

    name: Text
    approver: Text | None = None


class ImportParams(Params):
    """operator.import."""

    path: Text
    user: Text
    into: Id | None = None
    public: bool = False
    exclude: list[Text] = []
    format: Literal["folder", "json"] = "folder"


class BackupParams(Params):
    """operator.backup."""

    path: Text
