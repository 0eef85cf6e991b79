"""Zip archives: which of the formats that are one it is, by its members."""

from __future__ import annotations

from typing import Final

from modeldrop.formats import keras, numpy, pytorch
from modeldrop.formats.description import DamagedError, Description, NotThisKindError
from modeldrop.formats.source import Bounded
from modeldrop.formats.ziparchive import Archive

_BY_SUFFIX: Final = {
    "keras": "keras",
    "npz": "numpy",
    **dict.fromkeys(("ckpt", "pt", "pth"), "pytorch"),
}


def read(source: Bounded, into: Description) -> None:
    """Describe what is in an archive.

    Raises:
        NotThisKindError: it is of none of these formats, and its name doesn't say that it is.
    """
    claimed = _BY_SUFFIX.get(source.name.rpartition(".")[2].lower(), "")
    into.kind = claimed
    try:
        archive = Archive(source)
    except DamagedError:
        if not claimed:
            raise NotThisKindError from None
        raise
    pickle = pytorch.find_pickle(archive)
    if pickle is not None:
        into.kind = "pytorch"
        pytorch.read_archive(archive, pickle, into)
    elif keras.is_keras(archive):
        into.kind = "keras"
        keras.read_archive(archive, into)
    else:
        into.kind = "numpy"
        numpy.read_archive(archive, into)
