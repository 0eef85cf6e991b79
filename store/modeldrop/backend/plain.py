"""Any other store that fsspec opens, by fsspec's own methods alone.

None of these is known to create if absent, so they are for a single writer, which `init` asks for.
A store with folders gets its files under temporary names first.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

import fsspec

from modeldrop.backend.driver import Listed, Unfinished
from modeldrop.backend.urls import Address
from modeldrop.files import TEMP_PREFIX

_COPY: Final = 2**20


class PlainDriver:
    """A bucket or a folder of a store that has no driver of its own here."""

    exclusive_create = False
    replaces = False
    lists_by_prefix = False
    most_parts = 10_000
    endpoint: str | None = None

    def __init__(self, fs: Any, root: str, *, in_bucket: bool) -> None:  # noqa: ANN401 - fsspec's own
        """Use a file system of fsspec from `root` on, which is a bucket, or else has folders."""
        self._fs = fs
        self._root = root.rstrip("/")
        self._in_bucket = in_bucket

    @classmethod
    def connect(cls, address: Address, options: Mapping[str, object]) -> Self:
        """Connect, where fsspec's class does that at once."""
        given = {**options, "skip_instance_cache": True}
        if address.in_bucket:
            # The others hand what they don't know on to their connection, which refuses it.
            given["use_listings_cache"] = False
        # The prefix is a part of our keys, so the root is what stands before it.
        fs, root = fsspec.core.url_to_fs(f"{address.protocol}://{address.bucket}/", **given)
        return cls(fs, root, in_bucket=address.in_bucket)

    def prepare(self, prefix: str) -> None:
        """Make the folder, or see that the bucket is there."""
        if not self._in_bucket:
            self._make_folder(self._path(prefix))
        self.check(prefix)

    def check(self, prefix: str) -> None:
        """Ask for the bucket, or for the folder."""
        self._fs.invalidate_cache()
        self._fs.info(self._root if self._in_bucket else self._path(prefix))

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return bytes."""
        data: bytes = self._fs.cat_file(self._path(key), start=start, end=end)
        return data

    def create(self, key: str, data: bytes) -> None:
        """Create if absent, with nobody else at it."""
        path = self._path(key)
        self._fs.invalidate_cache()
        if self._fs.exists(path):
            raise FileExistsError(path)
        self.put(key, data)

    def size(self, key: str) -> int:
        """Return the size."""
        self._fs.invalidate_cache()
        found = self._fs.info(self._path(key))
        if found["type"] != "file":
            raise FileNotFoundError(key)
        return int(found["size"])

    def checks_digests(self, key: str) -> bool:
        """Return False: fsspec has no way to send one."""
        del key
        return False

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write a whole file."""
        if self._in_bucket:
            self._fs.pipe_file(self._path(key), bytes(data))
            return
        upload = self.begin(key)
        try:
            upload.send(1, data)
            upload.complete()
        except BaseException:
            with contextlib.suppress(Exception):
                upload.discard()
            raise

    def begin(self, key: str) -> _Stream:
        """Open a file to write to."""
        path = self._path(key)
        if self._in_bucket:
            return _Stream(self, self._fs.open(path, "wb", autocommit=False), None, path)
        folder = path.rpartition("/")[0]
        self._make_folder(folder)
        temp = f"{folder}/{TEMP_PREFIX}{secrets.token_hex(8)}"
        return _Stream(self, self._fs.open(temp, "wb"), temp, path)

    def open(self, key: str, start: int, end: int | None) -> None:
        """Return None: what fsspec opens reads ahead on its own account."""
        del key, start, end

    def unfinished(self, start: str) -> Iterator[list[Unfinished]]:
        """Yield nothing: fsspec has no way to ask for it."""
        del start
        yield from ()

    def end(self, unfinished: Unfinished) -> None:
        """Do nothing: none is ever found."""
        del unfinished

    def pages(self, start: str, *, deep: bool) -> Iterator[list[Listed]]:
        """Yield a page for each folder."""
        self._fs.invalidate_cache()
        folder, _, prefix = start.rpartition("/")
        folders = [folder]
        while folders:
            try:
                found: list[dict[str, Any]] = self._fs.ls(self._path(folders.pop()), detail=True)
            except FileNotFoundError:
                continue
            page = []
            for each in found:
                key = self._key(str(each["name"]))
                name = key.rpartition("/")[2]
                if name.startswith(TEMP_PREFIX):
                    continue
                is_folder = each["type"] == "directory"
                if is_folder and deep:
                    folders.append(key)
                elif deep or name.startswith(prefix):
                    page.append(Listed(key, None if is_folder else int(each["size"])))
            yield page

    def delete(self, key: str) -> None:
        """Delete a file."""
        self._fs.rm_file(self._path(key))

    def close(self) -> None:
        """Do nothing: fsspec has no way to close a file system."""

    def rename(self, temp: str, path: str) -> None:
        """Give a temporary file its name."""
        self._fs.mv(temp, path)

    def remove(self, path: str) -> None:
        """Remove a temporary file."""
        self._fs.rm_file(path)

    def _make_folder(self, folder: str) -> None:
        try:
            self._fs.makedirs(folder, exist_ok=True)
        except Exception:
            # Of two who make one at the same time, some servers tell the second that they failed.
            if not self._fs.isdir(folder):
                raise

    def _path(self, key: str) -> str:
        """Return what fsspec calls the file or folder of a key."""
        return f"{self._root}/{key}".rstrip("/")

    def _key(self, name: str) -> str:
        """Return the key of what fsspec lists by a name."""
        return name.rstrip("/").removeprefix(f"{self._root}/")


class _Stream:
    # The parts go through one open file, one after another.
    parallel = 1
    views = False

    def __init__(self, driver: PlainDriver, file: Any, temp: str | None, path: str) -> None:  # noqa: ANN401 - fsspec's own
        self._driver = driver
        self._file = file
        self._temp = temp
        self._path = path

    def send(self, number: int, part: bytes | memoryview) -> None:
        del number
        view = memoryview(part)
        for start in range(0, len(view), _COPY):
            self._file.write(bytes(view[start : start + _COPY]))

    def complete(self) -> None:
        self._file.close()
        if self._temp is None:
            self._file.commit()
        else:
            self._driver.rename(self._temp, self._path)

    def discard(self) -> None:
        if self._temp is None:
            self._file.discard()
            # Otherwise closing it when it is collected would send the rest.
            self._file.closed = True
            return
        with contextlib.suppress(Exception):
            self._file.close()
        self._driver.remove(self._temp)
