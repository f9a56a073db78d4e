"""Every limit, timeout and size, in one frozen object: flag > environment > rpcserver.toml > default.

Environment variables are named `RPCSERVER_` and the field, in capitals; `rpcserver.toml` is read from the data folder.
"""

from pathlib import Path
from typing import Any

from platformdirs import user_data_path
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource


def default_data() -> Path:
    """Return the platform's folder for a user's data."""
    return user_data_path("rpcserver", appauthor=False)


class Settings(BaseSettings):
    """The server's settings; units stand in the names."""

    model_config = SettingsConfigDict(env_prefix="RPCSERVER_", frozen=True, extra="forbid")

    data: Path = default_data()
    host: str = "127.0.0.1"
    port: int = 7717
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()
    is_log_debug: bool = False

    synchronous: str = "FULL"
    max_write_batch: int = 1000
    readers: int = 2

    max_message_bytes: int = 1024 * 1024
    max_unauthenticated_bytes: int = 4096
    max_response_bytes: int = 8 * 1024 * 1024
    max_batch_items: int = 100
    max_depth: int = 64
    max_in_flight: int = 32
    max_connections: int = 20_000
    max_connections_per_user: int = 256
    max_subscriptions: int = 64
    max_outbox_bytes: int = 1024 * 1024
    max_outbox_age_s: float = 10.0
    authenticate_timeout_s: float = 10.0
    open_timeout_s: float = 10.0
    heartbeat_s: float = 20.0
    call_timeout_s: float = 60.0
    slow_call_s: float = 1.0
    shutdown_grace_s: float = 20.0

    filter_timeout_s: float = 2.0
    action_timeout_s: float = 30.0

    max_sessions_per_user: int = 100
    max_history: int = 200
    max_events: int = 100_000
    max_event_age_s: float = 7 * 24 * 3600.0

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
        folder = {**env_settings(), **init_settings()}.get("data", default_data())
        file = TomlConfigSettingsSource(settings_cls, Path(folder) / "rpcserver.toml")
        return init_settings, env_settings, file

    @classmethod
    def load(cls, **flags: Any) -> "Settings":
        """Return the settings with these flags on top; a flag that is None was not given."""
        return cls(**{name: value for name, value in flags.items() if value is not None})
