"""Every limit, timeout and size, in one frozen object: flag > environment > rpcserver.toml > default.

Environment variables are named `RPCSERVER_` and the field, in capitals; `rpcserver.toml` is read from the data folder.
"""

import json
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from platformdirs import user_data_path
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from core.durations import LONGEST_S
from rpcserver import addresses

SHORTEST_S = 1e-6
RUNNING = "running.json"  # in the data folder: where the running server is reached by its operator


def default_data() -> Path:
    """Return the platform's folder for a user's data."""
    return user_data_path("rpcserver", appauthor=False)


def _listed(value: Any, between: str = r"[,\s]+") -> Any:
    """Return a list for what may be a text: JSON, or items as people write them into an environment."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f'{value[:80]!r} is no list in JSON ({error}): write a, b or ["a", "b"]') from None
    return [item for item in re.split(between, value.strip()) if item]


# Lists that may come as text, too; each item of the named kinds in its one form, or refused with the right one.
_List = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
_Origins = Annotated[tuple[Annotated[str, AfterValidator(addresses.as_origin)], ...], *_List.__metadata__]
_Hosts = Annotated[tuple[Annotated[str, AfterValidator(addresses.as_host)], ...], *_List.__metadata__]
_Networks = Annotated[tuple[Annotated[str, AfterValidator(addresses.as_network)], ...], *_List.__metadata__]
_RemoteHosts = Annotated[tuple[Annotated[str, AfterValidator(addresses.as_remote_host)], ...], *_List.__metadata__]
_FetchHosts = Annotated[tuple[Annotated[str, AfterValidator(addresses.as_fetch_host)], ...], *_List.__metadata__]
_SecretHosts = tuple[Annotated[str, AfterValidator(addresses.as_secret_host)], ...]
_Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(lambda value: _listed(value, re.escape(os.pathsep)))]


class RemoteSecretSetting(BaseModel):
    """A secret that remotes name: sent to these hosts alone, from remotes of these users (none: of everybody)."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")

    text: SecretStr
    hosts: _SecretHosts
    users: tuple[str, ...] = ()


class Settings(BaseSettings):
    """The server's settings; units stand in the names."""

    model_config = SettingsConfigDict(
        env_prefix="RPCSERVER_", env_nested_delimiter="__", frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    data: Path = default_data()
    """The data folder: database, settings file, lock."""
    host: Annotated[str, AfterValidator(addresses.as_own_host)] = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 7717
    """Port to listen on; 0 takes a free one, told in the ready line."""
    origins: _Origins = ()
    """Origins whose pages may connect besides the server's own, as `https://app.example.org`."""
    hosts: _Hosts = ()
    """Names, besides this machine's addresses and `host`, that a request's Host header may carry."""
    plugins: _Paths = ()
    """Plugin files to load."""
    plugin: dict[str, dict[str, Any]] = {}
    """Settings of plugins: `[plugin.NAME]` in rpcserver.toml, or `RPCSERVER_PLUGIN__NAME__SETTING`."""
    max_waiting_notices: int = 10_000
    """Notices to plugins that may wait; what comes then is not told."""
    is_log_debug: bool = False
    """Log what is of use to who works on the server."""
    max_equal_log_lines: int = 50
    """Lines of one event that the log takes in ten seconds; what is over is counted, and told."""
    tls_cert: Path | None = None
    """Certificate chain of this server, a PEM file; with it the server speaks TLS itself."""
    tls_key: Path | None = None
    """Its private key, a PEM file."""
    behind_proxy: bool = False
    """A proxy does TLS, and says in X-Forwarded-For who is calling."""
    trusted_proxies: _Networks = ("127.0.0.1", "::1")
    """Addresses of proxies, or networks, whose X-Forwarded-For is believed."""
    jwt_keys: Path | None = None
    """Public keys (JWKS) of an identity provider whose JSON Web Tokens let users in. Needs the extra `jwt`."""
    jwt_issuer: str = ""
    """What such a token's `iss` must be; empty: anything."""
    jwt_audience: str = ""
    """What such a token's `aud` must be; empty: anything."""
    jwt_algorithms: _List = ("RS256", "ES256", "Ed25519")
    """Signature algorithms such a token may use."""
    jwt_user_claim: str = "sub"
    """Which claim of such a token is the user's name here."""
    jwt_makes_users: bool = False
    """A user such a token names is made when there is none of that name."""

    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """FULL keeps what was acknowledged through a power loss; NORMAL through a killed process only."""
    max_write_batch: int = 1000
    """Writes that one commit may hold."""
    readers: int = 4
    """Long reads that can run side by side; one user has half of those that are free."""
    max_writes_waiting: int = 10_000
    """Writes waiting for a commit; with more than half of them `/readyz` says that the server is not ready."""
    store_threads: int = 6
    """Threads for key-value stores; as with all threads, one user has half of those that are free."""
    git_threads: int = 6
    """Threads for fetches and checkouts."""
    job_threads: int = 4
    """Threads for what blocks in jobs, as reading the files of an import."""
    name_threads: int = 4
    """Threads that look up the names of hosts."""
    answer_threads: int = 2
    """Threads that read long answers of other servers."""
    max_waiting_in_pool_per_user: int = 256
    """How much of one user's may wait for the threads of one kind; more is refused as `BUSY`."""
    pool_timeout_s: float = 60.0
    """How long a call waits for a thread, and then for what it does there."""
    pool_stuck_s: float = 30.0
    """Without anything done for so long though more waits, threads count as stuck and `/readyz` names them."""
    min_free_disk_bytes: int = 256 * 1024 * 1024
    """Free space below which `/readyz` says that the server is not ready."""

    max_message_bytes: int = 1024 * 1024
    """Longest message a client may send."""
    max_unauthenticated_bytes: int = 4096
    """Longest message before the client has authenticated."""
    max_strangers_bytes: int = 16 * 1024 * 1024
    """What all that have not authenticated may hold together: of unfinished messages, and of unread answers."""
    max_unfinished_bytes_per_user: int = 32 * 1024 * 1024
    """What one user's connections may hold together of messages that have not come to their end."""
    max_response_bytes: int = 8 * 1024 * 1024
    """Longest answer; a longer one becomes an error that says so."""
    max_batch_items: int = 100
    """Items in one JSON-RPC batch."""
    max_depth: int = 64
    """Nesting of a message."""
    max_message_values: int = 20_000
    """Values in a message: items of lists, and members and brackets of whatever is nested."""
    max_in_flight: int = 32
    """Calls under way on one connection."""
    max_in_line: int = 256
    """Calls of one connection that wait for an earlier one on the same session."""
    max_connections: int = 20_000
    """Connections in all; half of them may be without a user, and then the one that is so longest makes room."""
    max_connections_per_user: int = 256
    """Connections of one user."""
    max_connections_per_address: int = 0
    """Connections of one address (IPv6: one /64); 0: as many as in all on one machine, else 1000."""
    calls_per_s_per_connection: float = 5000.0
    """Calls a second of one connection, with a second's worth at once; 0: no limit."""
    calls_per_s_per_user: float = 20_000.0
    """Calls a second of one user's connections together; 0: no limit."""
    calls_per_s_per_address: float = 0.0
    """Calls a second of one address's connections together; 0: no limit."""
    max_failed_logins_per_minute: int = 10
    """Credentials an address may get wrong in a minute, before it has to wait."""
    max_subscriptions: int = 64
    """Subscriptions of one connection."""
    max_subscriptions_per_user: int = 1024
    """Subscriptions of one user's connections together."""
    max_outbox_bytes: int = 1024 * 1024
    """What may wait for a client that reads slowly, before it is cut off."""
    max_outbox_bytes_per_user: int = 32 * 1024 * 1024
    """What may wait for one user's clients together, answers included, before one of them is cut off."""
    max_outbox_age_s: float = 10.0
    """How long a client may not read at all, before it is cut off."""
    progress_interval_s: float = 0.1
    """Between two reports of progress of one call."""
    ticket_life_s: float = 30.0
    """How long a one-shot ticket opens."""
    expiry_notice_s: float = 60.0
    """How long before the end of its credential a connection is told."""
    expiry_check_s: float = 0.25
    """Between two looks at which credentials have expired."""
    idempotency_age_s: float = 24 * 3600.0
    """How long the answer to a call with an idempotency key is kept."""
    max_keys_per_user: int = 10_000
    """Idempotency keys kept for one user."""
    max_credentials_per_user: int = 1000
    """Credentials in one user's name, before no more are made by `credential.create`."""
    keep_expired_credentials_s: float = 7 * 24 * 3600.0
    """How long a credential that has expired is listed with its log."""
    max_logged_calls: int = 1000
    """Calls kept in the log of a limited credential."""
    blocked_loop_s: float = 0.1
    """How long the event loop may be busy with one thing without the log naming it."""
    authenticate_timeout_s: float = 10.0
    """How long a connection may stay without a user."""
    open_timeout_s: float = 10.0
    """How long a handshake may take."""
    heartbeat_s: float = 20.0
    """Between two pings; a client that does not answer one in this time is gone."""
    call_timeout_s: float = 60.0
    """How long a call may take, where its method has no limit of its own."""
    slow_call_s: float = 1.0
    """Calls that take longer are logged."""
    shutdown_grace_s: float = 20.0
    """How long running calls may go on when the server is told to stop."""
    stop_margin_s: float = 8.0
    """What closing may take beyond `shutdown_grace_s`: then the process ends, whatever hangs in it."""

    filter_timeout_s: float = 2.0
    """What a plugin may take in the pallet filter and as a guard."""
    action_timeout_s: float = 30.0
    """What a plugin may take in the action filter, the jobs it waits for included."""

    job_slots: int = 16
    """Long jobs that run at once; what waits, for a person, a host or another job, takes none."""
    job_slots_per_user: int = 8
    """Long jobs of one user that run at once; never more than are left to others."""
    max_waiting_jobs_per_user: int = 10_000
    """Long jobs one user may have that wait: to begin, for a person, for another job."""
    max_schedules_per_user: int = 1000
    """Schedules of one user."""
    max_job_result_bytes: int = 1024 * 1024
    """Longest result of a job, as JSON."""
    max_job_lines: int = 1000
    """Lines of its log kept of a job, the newest."""
    max_job_attempts: int = 20
    """How often a job is run again because the disk failed under it, before it fails."""
    max_job_crashes: int = 2
    """How often the server may be killed while a job runs: then it is lost, and not run again by itself."""
    job_gentle_s: float = 5.0
    """What a job asked gently to end may take before it is stopped."""
    job_stuck_s: float = 5.0
    """How long a job may go on although it is stopped, without the log naming it."""
    keep_succeeded_jobs_s: float = 24 * 3600.0
    """How long the record of a job that succeeded is kept, and with it its dedup key."""
    keep_other_jobs_s: float = 7 * 24 * 3600.0
    """How long the record of a job that failed, was cancelled or lost is kept."""

    script_timeout_s: float = 0.2
    """What one run of a script may take."""
    script_memory_bytes: int = 16 * 1024 * 1024
    """Memory one run of a script may use."""
    script_depth: int = 100
    """How deep a script's functions may call each other."""
    script_calls: int = 100
    """How often a script may turn to what is outside of its sandbox, to be refused: files, unknown names."""
    script_output_bytes: int = 64 * 1024
    """What a script may answer, remember and print, each."""
    script_processes: int = 1
    """Scripts that run at once, each in a process of its own; leave a processor to the server."""
    script_waiting_per_user: int = 32
    """Runs of scripts one user may have waiting."""

    remote_hosts: _RemoteHosts = ()
    """Where remotes may go, as `https://api.example.com` or `https://api.example.com/v1`; none: remotes are off."""
    remote_networks: _Networks = ()
    """Networks that remotes may dial although they are not public, as `10.1.0.0/16`."""
    remote_secrets: dict[str, RemoteSecretSetting] = {}
    """Secrets that remotes name: `{"NAME": {"text": "...", "hosts": ["api.example.com"], "users": []}}`."""
    remote_ca_file: Path | None = None
    """Certificates remotes are trusted by, instead of this machine's."""
    remote_read_timeout_s: float = 0.3
    """What a remote may take when something is read."""
    remote_write_timeout_s: float = 10.0
    """What a remote may take when something is written."""
    remote_answer_bytes: int = 256 * 1024
    """Longest answer of a remote."""
    remote_sent_bytes: int = 256 * 1024
    """Longest body sent to a remote."""
    remote_calls_per_user: int = 120
    """Calls of remotes one user may cause in a minute."""

    max_tokens_per_user: int = 2_000_000
    """Tokens of one user, those that define sets too."""
    max_token_bytes_per_user: int = 2 * 1024 * 1024 * 1024
    """Bytes the names and values of one user's tokens may have together."""
    max_store_keys_per_user: int = 100_000
    """Keys in all key-value stores of one user."""
    max_store_bytes_per_user: int = 2 * 1024 * 1024 * 1024
    """Bytes in all key-value stores of one user."""
    max_contexts_per_user: int = 1000
    """Contexts of one user."""
    max_jobs_kept_per_user: int = 200_000
    """Records of ended jobs kept for one user; of more the oldest are forgotten first."""
    max_sessions_per_user: int = 100
    """Sessions of one user."""
    max_history: int = 200
    """Sets a session remembers to go back to."""
    max_events: int = 100_000
    """Events kept for clients that come back."""
    max_event_age_s: float = 7 * 24 * 3600.0
    """How long events are kept for clients that come back."""
    max_replay_events: int = 200
    """Missed events sent at a time to a client that comes back."""
    upkeep_s: float = 600.0
    """Between two times of forgetting what is too old."""

    @property
    def is_local(self) -> bool:
        """Only programs of this machine reach the server, and no proxy speaks for others."""
        return addresses.is_loopback(self.host) and not self.behind_proxy

    @property
    def connections_per_address(self) -> int:
        """How many connections an address may have; 0 stands for what fits: on one machine all, else 1000."""
        return self.max_connections_per_address or (self.max_connections if self.is_local else 1000)

    playbook_roots: _Paths = ()
    """Folders playbooks may be read from by path; none by default."""
    code_roots: _Paths = ()
    """Folders, besides the data folder's, in which users may keep checkouts."""
    fetch_hosts: _FetchHosts = ()
    """Hosts that may be called over https: `example.org`, `*.example.org`, `example.org:8443`, `*` for any; none."""
    fetch_private_hosts: _FetchHosts = ()
    """Those of them that may lie on this machine or in a private network."""
    fetch_ca_file: Path | None = None
    """A file of further certificate authorities for calls to other hosts."""
    fetch_timeout_s: float = 60.0
    """Seconds another host may leave a call without a byte."""
    max_fetch_bytes: int = 256 * 1024 * 1024
    """Bytes a fetch from another host may take."""
    max_checkout_bytes: int = 1024 * 1024 * 1024
    """Bytes the files of a checkout may have, each counted as 4 KiB at least, and any one object of its history."""
    stores_secret: SecretStr | None = None
    """Seals what the key-value stores hold; needs the extra `kvs`."""
    max_playbook_actions: int = 100_000
    """Actions a session's playbook may have."""
    max_playbook_bytes: int = 24 * 1024 * 1024
    """Bytes a session's playbook may have, all it includes read and all words replaced."""
    max_playbook_bytes_per_user: int = 512 * 1024 * 1024
    """Bytes the playbooks of all sessions of one user may have."""
    playbook_readers: int = 2
    """Playbooks that are read at once, each by a process of its own and of another user."""
    playbook_memory_bytes: int = 384 * 1024 * 1024
    """Memory that reading one playbook may take."""
    max_playbook_read_s: float = 60.0
    """Seconds that reading one playbook may take."""
    max_action_growth: int = 1024 * 1024
    """How much longer an action may get by the words, and by the secrets, that are put into their places."""
    max_words_bytes: int = 1024 * 1024
    """Bytes the words of a session may have together: what stands for `{NAME}`."""
    play_timeout_s: float = 24 * 3600.0
    """Seconds one play may run, its questions not counted."""

    @model_validator(mode="after")
    def _numbers_make_sense(self) -> Self:
        # A limit of zero or less would stop everything, or nothing; where 0 means "no limit", it says so.
        for name, field in type(self).model_fields.items():
            value, default = getattr(self, name), field.default
            if isinstance(default, int | float) and not isinstance(default, bool) and name != "port":
                may_be_zero = default == 0 or "0: no limit" in (field.description or "")
                if not math.isfinite(value) or value < 0 or (value == 0 and not may_be_zero):
                    raise ValueError(f"{name} must be a number above 0, not {value}")
                if name.endswith("_s") and not SHORTEST_S <= value <= LONGEST_S:
                    raise ValueError(f"{name} must be {SHORTEST_S:g} to {LONGEST_S:.0f} seconds, not {value}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the settings file of the data folder after flags and environment."""
        environment = InitSettingsSource(settings_cls, env_settings())  # each source looks at every field
        file = Path({**environment(), **init_settings()}.get("data", default_data())) / "rpcserver.toml"
        if not file.exists():
            return init_settings, environment
        return init_settings, environment, TomlConfigSettingsSource(settings_cls, file)

    @classmethod
    def load(cls, **flags: Any) -> "Settings":
        """Return the settings with these flags on top; a flag that is None was not given."""
        return cls(**{name: value for name, value in flags.items() if value is not None})
