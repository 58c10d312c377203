"""Every error that caezip raises on purpose.

::

    CaeError
    ├── ImageError                 the picture to encode cannot be used
    ├── BitstreamError             the bytes to decode cannot be used
    │   ├── NotCaeError            they are not a .cae file at all
    │   ├── TruncatedError         they end too early
    │   ├── CorruptError           a checksum or a rule of the format is broken
    │   └── UnsupportedError       they need a newer caezip, or exceed a limit
    ├── WeightsError               the model's weights cannot be used
    │   └── UnknownModelError      no installed weights have the stream's model id
    ├── ParameterError             an argument is out of its range or of the wrong type
    ├── TargetError                no quality reaches the size, bpp or PSNR asked for
    ├── OutputError                the result cannot be written
    ├── TrainingDataError          no usable training images
    ├── CheckpointError            a training checkpoint cannot be resumed
    └── MissingDependencyError     an optional package is absent

Messages name the field, what was found and what is allowed.
"""

from __future__ import annotations


class CaeError(Exception):
    """Base of everything that caezip raises on purpose."""


class ImageError(CaeError):
    """The picture to encode cannot be used: missing, unreadable or of an unsupported kind."""


class BitstreamError(CaeError):
    """The bytes to decode cannot be used."""


class NotCaeError(BitstreamError):
    """The bytes do not start like a .cae file."""


class TruncatedError(BitstreamError):
    """The bytes end before the file does."""


class CorruptError(BitstreamError):
    """A checksum does not match, or a rule of the format is broken."""


class UnsupportedError(BitstreamError):
    """The file needs a newer caezip, or exceeds a limit of this one."""


class WeightsError(CaeError):
    """The weights cannot be used: missing, altered or malformed."""


class UnknownModelError(WeightsError):
    """No installed weights have the model id that a stream names."""


class ParameterError(CaeError, ValueError):
    """An argument is out of its range or of the wrong type."""


class TargetError(CaeError):
    """No quality reaches the file size, bpp or PSNR that was asked for."""


class OutputError(CaeError):
    """The result cannot be written: the file exists, or the file system refuses."""


class TrainingDataError(CaeError):
    """There are no usable training images."""


class CheckpointError(CaeError):
    """A training checkpoint is missing, damaged or of another model."""


class MissingDependencyError(CaeError, ImportError):
    """An optional package is absent or does not import."""
