"""Errors of the application: one root, and the one a person meets at the start."""


class WorkerError(Exception):
    """Root of every error the worker package raises on purpose."""


class SettingsError(WorkerError):
    """A setting that cannot work; the message is one sentence that names the variable."""


class NotFoundError(WorkerError):
    """A study or screening that the database does not hold."""


class TransitionError(WorkerError):
    """A step that the state of a study or screening does not allow."""


class LeaseLostError(WorkerError):
    """Another worker holds the screening now; what this one computed must not be recorded."""


class SchemaOutdatedError(WorkerError):
    """A database whose schema is not the one of this version."""


class AlreadyRunningError(WorkerError):
    """A second process of a kind of which an installation has one."""


class FolderError(WorkerError):
    """A folder that does not hold the files of exactly one study."""


class ReviewError(WorkerError):
    """A review that cannot be recorded; the message says what it contradicts."""


class ImagesGoneError(ReviewError):
    """Images of a reviewed study that are no longer in the spool."""


class PromotionError(WorkerError):
    """A model version that may not come into use; the message says why and what would let it."""


class FilesNotRemovedError(WorkerError):
    """Files whose time is over and that a disk does not let go; the message names the studies."""


class BackupError(WorkerError):
    """A backup that cannot be made or restored; the message says why and what would."""
