"""What can go wrong with a plugin.

PluginsError
├── BadPlugin    refused at the door: it cannot be loaded, or a hook of it does not fit
└── PluginError  a plugin raised while the server waited for it
    ├── PluginLate   it took too long
    └── LeftOut      it took too long before, and was not asked
"""

LONGEST_WORDS = 10_000  # characters


def printable(said: object) -> str:
    """Return a plugin's words as a text that can be sent, and that is not too long to be read."""
    try:
        text = str(said)
    except Exception as error:
        text = f"{type(said).__name__}, whose words cannot be had: {type(error).__name__}"
    # They may hold lone surrogates, which no row and no frame can.
    return text[:LONGEST_WORDS].encode("utf-8", "replace").decode()


class PluginsError(Exception):
    """A plugin could not be used."""


class BadPlugin(PluginsError):
    """The plugin cannot be loaded."""

    def __init__(self, plugin: str, reason: str) -> None:
        self.plugin = plugin
        super().__init__(f"The plugin {plugin!r} cannot be loaded: {reason}")


class PluginError(PluginsError):
    """A plugin failed; the server and the other plugins go on."""

    code = "REFUSED"
    kind = "PLUGIN_ERROR"
    is_retryable = False

    def __init__(self, plugin: str, hook: str, reason: str, cause: BaseException | None = None) -> None:
        self.plugin = plugin
        self.hook = hook
        self.cause = cause
        self.job_id: str | None = None
        super().__init__(f"The plugin {plugin!r} {reason} in {hook}.")


class PluginLate(PluginError):
    """A plugin took longer than it may."""


class LeftOut(PluginError):
    """A plugin took too long before, and is left out for a while."""

    def __init__(self, plugin: str, hook: str, wait_s: float) -> None:
        super().__init__(plugin, hook, f"took too long, and is left out for another {wait_s:.0f} s,")
