"""Errors that a user can act on. Each message is one line: what is wrong, where, and what to do."""


class AsrError(Exception):
    """Base of every error that `asr` raises on purpose; the command line prints it as one line."""


class AudioError(AsrError):
    """An audio file that is missing, is not audio, or cannot be decoded."""


class BundleError(AsrError):
    """A model bundle that is missing, incomplete, or made by an incompatible version."""


class RecipeError(AsrError):
    """A recipe, manifest or override that cannot be trained from."""


class DeviceError(AsrError):
    """A microphone that is absent, busy, or vanished."""
