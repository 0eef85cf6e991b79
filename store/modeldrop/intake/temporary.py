"""Which names say "somebody is still writing this": they hold a run open and are never stored.

Not in the table, on purpose: `*.lock`. Environments are pinned in files of that name (`uv.lock`,
`poetry.lock`) and shipped with models, and file locks are left behind for ever by those that
made them, so the name says nothing about a writer.
"""

from __future__ import annotations

import functools
import re
from typing import Final

from modeldrop.files import TEMP_PREFIX

# How a name ends, compared without case, and whose habit that is.
_SUFFIXES: Final[tuple[tuple[str, str], ...]] = (
    (".part", "a download or a copy in parts (curl, Firefox, sftp clients)"),
    (".partial", "a copy that is not finished (rclone, curl)"),
    (".tmp", "a file before its rename"),
    (".temp", "a file before its rename"),
    (".crdownload", "a download by Chrome"),
    (".download", "a download by Safari"),
    (".filepart", "an upload by WinSCP"),
    (".incomplete", "a download by huggingface_hub"),
    (".inprogress", "a file of a streaming job (Flink)"),
    (".aria2", "the control file beside a download by aria2"),
    (".gstmp", "a download by gsutil"),
    ("._copying_", "a copy by hdfs dfs"),
    (".swp", "vim has the file open"),
    ("~", "an editor's copy while it saves"),
)

# How a name begins, and whose habit that is.
_PREFIXES: Final[tuple[tuple[str, str], ...]] = (
    (TEMP_PREFIX, "a file of modeldrop before its rename"),
    (".nfs", "a deleted file that an NFS client has open"),
    (".fuse_hidden", "a deleted file that somebody has open (FUSE)"),
    (".goutputstream-", "a file before its rename (GLib)"),
    (".azDownload-", "a download by azcopy"),
    ("~syncthing~", "a file that Syncthing receives"),
    ("tmp-checkpoint-", "a checkpoint before its rename (transformers)"),
)

# Whole names and patterns, and whose habit they are.
_PATTERNS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"\.~tmp~"), "files before their rename (rsync --delay-updates)"),
    (re.compile(r"\.rsync-partial"), "files that are not finished (rsync --partial-dir)"),
    (re.compile(r"_temporary"), "the output of a job that is not committed (Hadoop, Spark)"),
    # mkstemp's six, with a digit or a capital among them: 199 of 200 have one, and `.fit.pickle`
    # and `.env.sample` have none. The one in 200 is still open for writing, or still changes.
    (
        re.compile(r"\..+\.(?=.*[A-Z0-9][^.]*$)[A-Za-z0-9]{6}"),
        "a file that rsync receives",
    ),
    # s3transfer's eight hex digits in mixed case; a date or a digest is never mixed.
    (
        re.compile(r".+\.(?=[^.]*[a-f][^.]*$)(?=[^.]*[A-F][^.]*$)[0-9a-fA-F]{8}"),
        "a download by aws s3 cp",
    ),
    (re.compile(r".+\.orbax-checkpoint-tmp.*"), "a checkpoint before its rename (Orbax)"),
    (re.compile(r"\..+\.sw[a-px]"), "vim has the file open"),
)


# Asked of every name at every look, and most runs have the same few.
@functools.lru_cache(maxsize=4096)
def temporary(name: str) -> str | None:
    """Return whose temporary file or folder a name says it is, or None if it is none."""
    lower = name.lower()
    for suffix, why in _SUFFIXES:
        if lower.endswith(suffix):
            return why
    for prefix, why in _PREFIXES:
        if name.startswith(prefix):
            return why
    return next((why for pattern, why in _PATTERNS if pattern.fullmatch(name)), None)
