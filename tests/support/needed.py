"""Which of the waits of `waits` are needed: without each of them, something is lost in an act.

`tests/faults/test_lost_writes.py` sees that it is. The others have a reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from support.losing import ALONE, KILLED, OTHER, WHOLE

Where = tuple[str, str]
"""An act, and how it is done."""

_BY_ACT: Final[dict[Where, tuple[str, ...]]] = {
    ("claim", ALONE): (
        "modeldrop/backend/local_files.py: LocalWriter.finish: self._syncing.finish",
        "modeldrop/backend/local_files.py: LocalWriter.finish: disk.sync_folder",
        "modeldrop/backend/local_files.py: LocalWriter.finish: self._named",
        "modeldrop/disk.py: sync_file: os.fsync",
        "modeldrop/syncing.py: Syncing.finish: disk.sync_file",
        "modeldrop/home.py: Home.claim: write_durable",
        "modeldrop/home.py: Home._put_aside: write_durable",
        "modeldrop/home.py: Home._put_aside: write_durable (2)",
        "modeldrop/home.py: Home._put_aside: rename",
        "modeldrop/intents.py: Intents.begin: write_durable",
    ),
    ("deploy", ALONE): (
        "modeldrop/backend/local.py: LocalBackend.lead: files.lead_to",
        "modeldrop/files.py: lead_to: disk.sync_folder",
        "modeldrop/interrupted.py: Interrupted.note: files.make_folders",
        "modeldrop/interrupted.py: Interrupted.note: files.write_durable",
    ),
    ("deploy", KILLED): ("modeldrop/placement.py: Place._switch: self._backend.confirm",),
    ("deploy", OTHER): ("modeldrop/deploying.py: Deployer._live: turn.sequence.confirm",),
    ("deploy, undone", KILLED): (
        "modeldrop/backend/local.py: LocalBackend._remove_empty: disk.sync_folder",
    ),
    ("disown", ALONE): ("modeldrop/home.py: Home.disown: write_durable",),
    ("drop", ALONE): (
        "modeldrop/disk.py: sync_tree: sync_path",
        "modeldrop/disk.py: sync_tree: sync_folder",
        "modeldrop/intake/aside.py: held_open: files.write_durable",
        "modeldrop/intake/aside.py: held_open: files.remove_durable",
        "modeldrop/intake/dropping.py: drop: disk.sync_tree",
        "modeldrop/intake/dropping.py: _put: files.rename_if_absent",
        "modeldrop/intake/dropping.py: _merge: files.rename (2)",
        "modeldrop/intake/joining.py: join: files.write_durable",
    ),
    ("drop, new", ALONE): (
        "modeldrop/intake/dropping.py: new_run: disk.sync_tree",
        "modeldrop/intake/dropping.py: new_run: files.rename",
    ),
    ("export", ALONE): (
        "modeldrop/files.py: rename: disk.sync_folder",
        "modeldrop/imports/packing.py: pack: sync_file",
        "modeldrop/imports/packing.py: pack: rename",
        "modeldrop/imports/packing.py: pack: rename_if_absent",
    ),
    ("fetch", ALONE): (
        "modeldrop/journal/copies.py: Copies.append: files.make_folders",
        "modeldrop/journal/copies.py: Copies.append: disk.sync_folder",
        "modeldrop/journal/copies.py: Copies.append: batch.finish",
    ),
    ("fetch", KILLED): (
        "modeldrop/journal/copies.py: Copies.confirm: disk.sync_folder",
        "modeldrop/sync.py: Sync.fetch: self._copies.confirm",
        "modeldrop/sync.py: Sync._keep: self._backend.confirm",
    ),
    ("fetch", WHOLE): (
        "modeldrop/batch.py: Batch._wait: disk.sync_whole",
        "modeldrop/disk.py: sync_whole: libc().syncfs",
    ),
    ("hooks", ALONE): (
        "modeldrop_daemon/hooks.py: Hooks._forget: remove_durable",
        "modeldrop_daemon/hooks.py: Hooks._keep: write_durable",
    ),
    ("import", KILLED): (
        "modeldrop/ledger.py: Ledger.settle: self._sequence.confirm",
        "modeldrop/placing.py: Placing._place: self._backend.confirm",
    ),
    ("init", ALONE): (
        "modeldrop/backend/local.py: LocalBackend.create: files.create_durable",
        "modeldrop/backend/local.py: LocalBackend.create: self._sync",
        "modeldrop/backend/local.py: LocalBackend._sync: disk.sync_folder",
        "modeldrop/config.py: save: write_durable",
        "modeldrop/files.py: create_durable: write_temp",
        "modeldrop/files.py: create_durable: disk.sync_folder",
        "modeldrop/founding.py: found_home: make_folders",
        "modeldrop/home.py: make_home: write_durable",
        "modeldrop/home.py: make_home: write_durable (2)",
    ),
    ("init, apart", ALONE): (
        "modeldrop/backend/local.py: LocalBackend.prepare: files.make_folders",
        "modeldrop/home.py: make_home: make_folders",
        "modeldrop/home.py: make_home: make_folders (3)",
    ),
    ("intents", ALONE): ("modeldrop/intents.py: Intents.end: write_durable",),
    ("journal", ALONE): (
        "modeldrop/batch.py: Batch.sync: self._wait",
        "modeldrop/batch.py: Batch.finish: self._give",
        "modeldrop/batch.py: Batch._give: self._wait",
        "modeldrop/batch.py: Batch._wait: disk.sync_data",
        "modeldrop/batch.py: Batch._wait: disk.sync_path",
        "modeldrop/files.py: write_durable: _replace",
        "modeldrop/files.py: write_durable: disk.sync_folder",
        "modeldrop/disk.py: sync_data: os.fdatasync",
        "modeldrop/disk.py: sync_folder: os.fsync",
        "modeldrop/disk.py: sync_path: os.fsync",
        "modeldrop/files.py: write_temp: disk.sync_file",
        "modeldrop/journal/log.py: Journal._open: files.write_durable",
        "modeldrop/journal/log.py: Journal._commit: batch.finish",
    ),
    ("journal, torn", ALONE): (
        "modeldrop/files.py: make_folders: disk.sync_folder",
        "modeldrop/journal/log.py: Journal._keep: files.make_folders",
        "modeldrop/journal/log.py: Journal._keep: files.write_durable",
    ),
    ("key", ALONE): (
        "modeldrop/sealing.py: Sealing._make: make_folders",
        "modeldrop/sealing.py: Sealing._make: write_durable",
        "modeldrop/sealing.py: Sealing._make: write_durable (2)",
        "modeldrop/sealing.py: Sealing._make: write_durable (3)",
        "modeldrop/sealing.py: Sealing.create: remove_durable",
    ),
    ("leave, deleted", ALONE): (
        "modeldrop/intake/afterwards.py: _remove: disk.sync_file",
        "modeldrop/intake/removal.py: note: files.write_durable",
    ),
    ("leave, deleted", KILLED): ("modeldrop/intake/afterwards.py: _recover: files.move_if_absent",),
    ("leave, moved", ALONE): (
        "modeldrop/intake/afterwards.py: _aside: files.move_if_absent",
        "modeldrop/intake/afterwards.py: _move_into: files.move_if_absent",
    ),
    ("leave, stays", ALONE): (
        "modeldrop/files.py: move_if_absent: disk.sync_file",
        "modeldrop/intake/afterwards.py: _going_back: files.move_if_absent",
    ),
    ("promote", OTHER): ("modeldrop/promotion.py: Promotion.place: sequence.confirm",),
    ("promote, new", KILLED): (
        "modeldrop/promotion.py: Promotion.place: self._versions.confirm",
        "modeldrop/versions.py: Versions.confirm: self.sequence(version.experiment).confirm",
    ),
    ("pull", ALONE): (
        "modeldrop/cache.py: cached: files.make_folders",
        "modeldrop/files.py: rename_if_absent: disk.sync_folder",
        "modeldrop/pulling.py: pull: files.make_folders",
        "modeldrop/pulling.py: pull: files.rename_if_absent",
        "modeldrop/pulling.py: _Pull.fetch: disk.sync_folder",
        "modeldrop/pulling.py: _Pull._sync: disk.sync_path",
    ),
    ("pull", WHOLE): (
        "modeldrop/pulling.py: _Pull.fetch: syncing.finish",
        "modeldrop/syncing.py: Syncing.finish: disk.sync_whole",
    ),
    ("rebuild", ALONE): (
        "modeldrop/files.py: rename_if_absent: disk.sync_folder (2)",
        "modeldrop/files.py: remove_durable: disk.sync_folder",
        "modeldrop/intents.py: Intents.clear: rename_if_absent",
        "modeldrop/rebuild.py: _restore: write_durable",
        "modeldrop/rebuild.py: _restore: remove_durable",
        "modeldrop/rebuild.py: _restore: write_durable (2)",
        "modeldrop/rebuild.py: _keep: write_durable",
        "modeldrop/rebuild.py: _mend_counter: remove_durable",
    ),
    ("register", ALONE): ("modeldrop/counters.py: bring_forward: write_durable",),
    ("register", KILLED): (
        "modeldrop/backend/local.py: LocalBackend.confirm: disk.sync_folder",
        "modeldrop/journal/log.py: Journal._confirm: disk.sync_folder",
        "modeldrop/sequence.py: Sequence.confirm: self._backend.confirm",
    ),
    ("register", OTHER): ("modeldrop/registrar.py: Registrar._one: self._versions.confirm",),
    ("register, new", KILLED): ("modeldrop/registrar.py: Registrar._one: self._backend.confirm",),
    ("register, several", ALONE): (
        "modeldrop/batch.py: Batch.give: self._give",
        "modeldrop/ledger.py: Ledger.append_together: batch.sync",
        "modeldrop/ledger.py: Ledger.append_together: batch.give",
        "modeldrop/registrar.py: Registrar._append_together.admit: batch.give",
    ),
    ("retire", OTHER): ("modeldrop/retirements.py: Retirements.say: sequence.confirm",),
    ("retire, new", KILLED): ("modeldrop/retirements.py: Retirements.say: self._versions.confirm",),
    ("retry", ALONE): (
        "modeldrop/intake/requests.py: ask: make_folders",
        "modeldrop/intake/requests.py: ask: write_durable",
    ),
    ("scan, one", ALONE): (
        "modeldrop/ledger.py: begin_sequences: batch.sync",
        "modeldrop/ledger.py: begin_sequences: batch.finish",
    ),
    ("signatures", ALONE): (
        "modeldrop/vouching.py: Vouching.put_signatures: create_durable",
        "modeldrop/vouching.py: Vouching.put_signatures: make_folders",
    ),
    ("target", OTHER): ("modeldrop/targets.py: Targets._append: sequence.confirm",),
    ("trust", ALONE): (
        "modeldrop/trust.py: Trust._write: make_folders",
        "modeldrop/trust.py: Trust._write: write_durable",
    ),
    ("trust, new", KILLED): (
        "modeldrop/checkpoints.py: SharedCheckpoints.confirm: self._backend.confirm",
    ),
    ("upload", OTHER): ("modeldrop/runs.py: Runs.commit: self._sequence(draft.run).confirm",),
    ("upload, no links", ALONE): (
        "modeldrop/backend/local.py: LocalBackend.create: files.write_durable",
    ),
    ("upload, noted", ALONE): (
        "modeldrop/intake/attempts.py: Attempts.begin: make_folders",
        "modeldrop/intake/attempts.py: Attempts.begin: write_durable",
    ),
}

NEEDED: Final[dict[str, Where]] = {wait: where for where, mine in _BY_ACT.items() for wait in mine}
"""By the name of each wait, the act in which something is lost without it."""

NOT_NEEDED: Final[dict[str, str]] = {
    "modeldrop/registrar.py: Registrar._append_together.follow: batch.give": (
        "it gives the counter its name without a wait: one that comes back is behind, as it may be"
    ),
    "modeldrop/backend/local.py: LocalBackend.replace: files.write_durable": (
        "a folder is led to by a link; only stores have a record replaced"
    ),
    "modeldrop/backend/local.py: LocalBackend.replace: self._sync": (
        "a folder is led to by a link; only stores have a record replaced"
    ),
    "modeldrop/files.py: rename: disk.sync_folder (2)": (
        "a name that comes back there is a temporary one's, or that of a folder, which has "
        "one name at a time"
    ),
    "modeldrop/files.py: move_if_absent: disk.sync_file (2)": (
        "only folders are moved so, and a folder has one name at a time"
    ),
    "modeldrop/files.py: truncate_durable: disk.sync_file": (
        "what was cut and comes back is past HEAD, and is cut again"
    ),
    "modeldrop/finding/index.py: Index._file: files.make_folders": ("it can be made again, and is"),
    "modeldrop/home.py: make_home: make_folders (2)": (
        "those in the home itself are waited for with `home.json`, and the deeper ones can be"
        " made again"
    ),
    "modeldrop/intake/afterwards.py: _done: disk.sync_file": (
        "the move aside that follows waits for the same folder"
    ),
    "modeldrop/intake/aside.py: aside: files.make_folders": (
        "`init` has made that folder, or its user"
    ),
    "modeldrop/intake/aside.py: held_open: files.rename": (
        "the marker's removal, which comes next, waits for the same folder"
    ),
    "modeldrop/intake/aside.py: held_open: files.remove_durable (2)": (
        "on this machine it is removed with the stale ones before, which waits"
    ),
    "modeldrop/intake/dropping.py: _merge: files.remove_durable": (
        "the hold file, which lasts before, holds the run open as well"
    ),
    "modeldrop/intake/dropping.py: _merge: files.rename": (
        "it goes with the folder aside; what comes back is replaced by the rename that follows"
    ),
    "modeldrop/intake/removal.py: forget: files.remove_durable": (
        "a list that comes back names a folder that is gone, and is taken away at the next start"
    ),
    "modeldrop/intake/standings.py: Standings.keep: make_folders": ("it can be made again, and is"),
    "modeldrop/intents.py: Intents.clear: make_folders": ("`init` has made that folder"),
    "modeldrop/journal/log.py: Journal._settle: files.truncate_durable": (
        "what was cut and comes back is past HEAD, and is cut again"
    ),
    "modeldrop/manifests.py: Manifests.keep: make_folders": ("it can be made again, and is"),
    "modeldrop/placing.py: Placing._place: self._versions.confirm": (
        "an import looks before whether the number is there; it is met where two import at once"
    ),
    "modeldrop/pulling.py: _Pull._complete: syncing.finish": (
        "every file is waited for once more before its name is given; this tells of a bad "
        "disk sooner"
    ),
    "modeldrop/rebuild.py: _keep: make_folders": ("`init` has made that folder"),
    "modeldrop/sequence.py: Sequence.append: self.confirm": (
        "met only where two hosts append the same at the same moment"
    ),
    "modeldrop/syncing.py: Syncing._work: disk.sync_data": (
        "all of it is waited for once more at the end, which this only makes short"
    ),
    "modeldrop/syncing.py: Syncing._work: disk.sync_whole": (
        "all of it is waited for once more at the end, which this only makes short"
    ),
}
"""By the name of each other one, why nothing is lost without it."""


def listing() -> Iterator[tuple[str, str]]:
    """Yield each wait that is needed, and the test that is red without it."""
    test = "test_lost_writes.py::test_without_any_one_of_its_waits_something_is_lost"
    for wait, (name, mode) in NEEDED.items():
        yield wait, f"{test}[{name}-{mode}]"
