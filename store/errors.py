"""What can go wrong with the rows.

StoreError
├── StoreLocked      another server uses the data folder
├── StoreUnwritable  the data folder cannot be written
├── CorruptStore     the database file is damaged
├── NewerStore       the database was written by a newer version
├── OlderStore       the database is of a version from before the first release
├── StoreFull        no space left; reads go on, writes work again once there is space
├── StoreFailed      the disk reported an error; nothing of the batch was acknowledged
├── StoreClosed      the store is closed or closing
└── BackupError      a backup cannot be made or used
"""


class StoreError(Exception):
    """The data could not be stored or read."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class StoreLocked(StoreError):
    """Another server is using this data folder. Stop it first, or give --data another folder."""


class StoreUnwritable(StoreError):
    """The data folder cannot be written. Give --data a folder this user may write to."""


class CorruptStore(StoreError):
    """The database is damaged. Nothing was changed: keep the folder, and put a backup in its place."""


class NewerStore(StoreError):
    """The database was written by a newer version. Upgrade rpcserver; nothing was changed."""


class OlderStore(StoreError):
    """The database was written before the first release and cannot be converted; nothing was changed."""


class StoreFull(StoreError):
    """The disk is full. Free some space; writing works again then, without a restart."""


class StoreFailed(StoreError):
    """The disk reported an error, and the change was not stored. Look at the server's log and the disk."""


class StoreClosed(StoreError):
    """The server is shutting down. Connect again in a moment."""


class BackupError(StoreError):
    """The backup could not be made or used."""


class TooLongHere(StoreError):
    """This read is too long for the event loop's thread. It never leaves the store: a reader's thread takes it up."""
