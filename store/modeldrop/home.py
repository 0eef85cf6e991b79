"""The home: the local store, where it is, and which host it is.

A home is one host. Its id is random and bound to the machine and to the folder's inode, so that a
copied or restored home notices: before it writes anything it takes a new id and begins a new
journal, which names the old one.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import Final

from modeldrop import config, locks
from modeldrop.errors import ConfigError, HomeNotFound, ModeldropError
from modeldrop.files import make_folders, others_can_write, rename, write_durable
from modeldrop.form import NEEDS, now
from modeldrop.home_records import HomeRecord, Probe
from modeldrop.layout import HomePaths
from modeldrop.records import Head
from modeldrop.settings import Config
from modeldrop.structs import replace

FOLDER: Final = ".mlops"
VARIABLE: Final = "MODELDROP_HOME"


def find(start: Path | None = None) -> Path:
    """Return the home to use from `start`, the working folder by default.

    It is `MODELDROP_HOME` where that is set, else the nearest `.mlops/` at or above `start`, else
    `~/.mlops`.

    Raises:
        HomeNotFound: none of them is a home.
    """
    named = os.environ.get(VARIABLE)
    if named:
        root = Path(named).expanduser().absolute()
        if _is_home(root):
            return root
        message = f"{VARIABLE} names {root}, which is no home"
        raise HomeNotFound(message, hint="`modeldrop init` makes it one")
    start = (start or Path.cwd()).absolute()
    personal = Path.home() / FOLDER
    for candidate in (*(folder / FOLDER for folder in (start, *start.parents)), personal):
        if _is_home(candidate):
            return candidate
    message = f"there is no home: no {FOLDER}/ at or above {start}, and no {personal}"
    raise HomeNotFound(message, hint="`modeldrop init` makes one in the working folder")


def _is_home(root: Path) -> bool:
    # Not Path.exists, which raises where a folder above the working folder is another user's: what
    # can't be looked into is no home of ours.
    return os.path.exists(HomePaths(root).record)


class Home:
    """An open home."""

    def __init__(self, paths: HomePaths, record: HomeRecord, settings: Config) -> None:
        """Use `open_home` or `make_home`."""
        self.paths = paths
        self.config = settings
        self.host = os.uname().nodename
        self.user = user_name()
        self._record = record

    @property
    def id(self) -> str:
        """The home's id; after `claim`, for good."""
        return self._record.home

    @property
    def repository(self) -> str:
        """The id of the repository that its backend holds."""
        return self._record.repository

    @property
    def staging(self) -> Path:
        """The staging folder."""
        named = self.config.staging.path
        if not named:
            return self.paths.staging
        # Without following links: what the user wrote is what receipts and errors shall show.
        return Path(os.path.normpath(self.paths.root / Path(named).expanduser()))

    @property
    def backend_url(self) -> str:
        """The backend's URL as configured, or the path of the default one."""
        return self.config.backend.url or str(self.paths.model_repository)

    def probe(self) -> Probe | None:
        """Return the recorded verdict on the backend, or None if it was never probed."""
        try:
            data = self.paths.probe.read_bytes()
        except FileNotFoundError:
            return None
        return Probe.from_bytes(data, str(self.paths.probe))

    def claim(self) -> str | None:
        """Make sure that this home is this host's before it writes; return the id it had if not.

        A copied home takes a new id; the journal it came with is kept as
        `journal-<old id>.jsonl`. The caller then begins the new journal by naming the old id.
        """
        if self.is_this_host():
            return None
        with locks.hold(self.paths.locks / "home", what=f"the home {self.paths.root}"):
            # Another process may have done it meanwhile.
            self._record = _read_record(self.paths)
            if self.is_this_host():
                return None
            old = self._record
            # The id goes last: until then, whoever comes next does the rest.
            self._put_aside(old.home)
            self._record = HomeRecord(
                home=str(uuid.uuid4()),
                repository=old.repository,
                machine=machine_id(),
                inode=self.paths.root.stat().st_ino,
                created_at=now(),
                created_by=self.user,
                needs=NEEDS,
            )
            write_durable(self.paths.record, self._record.to_bytes())
            return old.home

    def _put_aside(self, old: str) -> None:
        """Have no journal, and keep the one that is there under the id that it was written by.

        One of no line takes HEAD's place first: whoever reads in between, or after a crash, finds
        a journal that has no entry yet, and no damage.
        """
        journal, head, empty = self.paths.journal, self.paths.head, Head.empty().to_bytes()
        if head.exists() and (data := head.read_bytes()) != empty:
            write_durable(head.with_name(f"{head.name}-{old}"), data)
            write_durable(head, empty)
        if journal.exists():
            rename(journal, journal.with_name(f"{journal.stem}-{old}{journal.suffix}"))

    def require_own(self) -> None:
        """Raise if the home is to take a new id before anything else.

        Raises:
            ConfigError: it was copied, moved or restored elsewhere.
        """
        if not self.is_this_host():
            message = f"{self.paths.root} was copied or moved here, and begins a new journal"
            raise ConfigError(message, hint="run `modeldrop push`: it takes its new id then")

    def disown(self, forked: str) -> None:
        """Have the next `claim` take a new id, if the home still has the one that is forked.

        For a home that was restored where it was: neither machine nor inode tell. Until `claim`
        has finished, whoever comes next goes on with it.
        """
        with locks.hold(self.paths.locks / "home", what=f"the home {self.paths.root}"):
            self._record = _read_record(self.paths)
            if self._record.home == forked:
                # No folder has this number.
                self._record = replace(self._record, inode=0)
                write_durable(self.paths.record, self._record.to_bytes())

    def copied_from(self) -> str | None:
        """Return the id that the home had before `claim`, by the journal that was put aside."""
        journal = self.paths.journal
        kept = self.paths.root.glob(f"{journal.stem}-*{journal.suffix}")
        newest = max(kept, key=lambda each: each.stat().st_ctime_ns, default=None)
        return newest.stem.removeprefix(f"{journal.stem}-") if newest else None

    def is_this_host(self) -> bool:
        """Return whether it is still where it was made: not copied, moved or restored."""
        return (
            self._record.machine == machine_id()
            and self._record.inode == self.paths.root.stat().st_ino
        )


def open_home(root: Path | None = None) -> Home:
    """Return the home at `root`, or the one that `find` finds.

    As in git, a home that was merely found has to be the user's own or root's, folder and settings
    alike: whoever owns it reads what is dropped there, and says where it goes. So root uses nobody
    else's by accident. Naming a home, by `root` or `MODELDROP_HOME`, accepts it whoever owns it.

    Raises:
        HomeNotFound: there is none.
        NewerFormat: a later modeldrop made it.
        ConfigError: its settings aren't valid, others may write to it, or it was found and is
            another user's.
        ModeldropError: it can't be read now, which says nothing of it.
    """
    is_named = root is not None or bool(os.environ.get(VARIABLE))
    paths = HomePaths((root or find()).absolute())
    if not is_named:
        _refuse_strangers(paths)
    record = _read_record(paths)
    if others_can_write(paths.root):
        message = f"{paths.root} may be changed by every user of this machine"
        raise ConfigError(message, hint=f"run `chmod o-w {paths.root}`")
    return Home(paths, record, config.load(paths.config))


def _refuse_strangers(paths: HomePaths) -> None:
    for path in (paths.root, paths.config):
        try:
            owner = path.stat().st_uid
        except OSError:
            continue  # opening it says what is wrong
        if owner not in (os.geteuid(), 0):
            message = f"{path} belongs to {_name_of(owner)}, and you are {user_name()}"
            raise ConfigError(
                message,
                hint=f"if you trust its owner, name it: `--home {paths.root}`, or set {VARIABLE}",
            )


def make_home(root: Path, settings: Config, repository: str, probe: Probe) -> tuple[Home, bool]:
    """Make a home at `root` for a backend that was probed; return it, and whether it was made.

    It wasn't if somebody else has made one there meanwhile, which is opened then. `home.json` is
    written last: a crash before it leaves no home, and the next try completes it.
    """
    paths = HomePaths(root.absolute())
    make_folders(paths.root, mode=0o700)
    for folder in paths.folders():
        make_folders(folder)
    # A home whose id were replaced would have lines of two ids in one journal.
    with locks.hold(paths.locks / "home", what=f"the home {paths.root}"):
        if paths.record.exists():
            return open_home(root), False
        config.save(paths.config, settings)
        write_durable(paths.probe, probe.to_bytes())
        record = HomeRecord(
            home=str(uuid.uuid4()),
            repository=repository,
            machine=machine_id(),
            inode=paths.root.stat().st_ino,
            created_at=now(),
            created_by=user_name(),
            needs=NEEDS,
        )
        home = Home(paths, record, settings)
        make_folders(home.staging)
        write_durable(paths.record, record.to_bytes())
        return home, True


def _read_record(paths: HomePaths) -> HomeRecord:
    try:
        data = paths.record.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        message = f"{paths.root} is no home"
        raise HomeNotFound(message, hint="`modeldrop init` makes one") from None
    except config.NOT_TO_BE_READ as error:
        message = f"{paths.record} can't be read: {error.strerror}"
        raise ConfigError(message, hint="make it a file that you may read") from error
    except OSError as error:
        raise ModeldropError(f"{paths.record} can't be read: {error.strerror}") from error
    return HomeRecord.from_bytes(data, str(paths.record))


def machine_id() -> str:
    """Return what tells this machine from others, or an empty text where there is nothing.

    It is derived from /etc/machine-id, which machine-id(5) asks not to show as it is.
    """
    try:
        raw = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        return ""
    return hashlib.sha256(b"modeldrop home\n" + raw).hexdigest()[:32]


def user_name() -> str:
    """Return the name of the user that runs this process, or the user id where it has none."""
    return _name_of(os.geteuid())


def _name_of(user: int) -> str:
    import pwd  # noqa: PLC0415 - not on every platform that can read a store

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
