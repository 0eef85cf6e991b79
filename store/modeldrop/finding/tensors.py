"""The tensors of stored files, read from their headers where they differ."""

from __future__ import annotations

from collections.abc import Iterable

from modeldrop.backend.base import Backend
from modeldrop.errors import ArtifactDamaged
from modeldrop.finding.comparing import Tensors
from modeldrop.inspecting import Inspected, inspect_artifact
from modeldrop.records import Artifact, StoredFile
from modeldrop.structs import replace


class Headers:
    """Reads headers at one backend."""

    def __init__(self, backend: Backend) -> None:
        """Read nothing yet."""
        self._backend = backend

    def read(
        self, artifact: Artifact, files: Iterable[StoredFile]
    ) -> tuple[dict[str, Tensors], dict[str, str]]:
        """Return the tensors of some files of an artifact, by path, and why others can't be read.

        Files that aren't of a kind with tensors are in neither.

        Raises:
            BackendError: the backend failed.
        """
        tensors: dict[str, Tensors] = {}
        unread: dict[str, str] = {}
        wanted = tuple(files)
        try:
            found = self._inspect(artifact, wanted)
        except ArtifactDamaged:
            # What is there can be compared all the same.
            found = []
            for file in wanted:
                try:
                    found += self._inspect(artifact, (file,))
                except ArtifactDamaged:
                    unread[file.path] = f"{file.key} isn't at the backend"
        for each in found:
            if each.tensors:
                tensors[each.format.path] = {
                    tensor.name: (tensor.dtype, tensor.shape) for tensor in each.tensors
                }
            elif each.format.warnings:
                unread[each.format.path] = each.format.warnings[0]
        return tensors, unread

    def _inspect(self, artifact: Artifact, files: tuple[StoredFile, ...]) -> list[Inspected]:
        part = replace(artifact, files=files)
        return inspect_artifact(self._backend, part, None, tensors=True)
