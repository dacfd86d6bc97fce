"""What a reader typed about a pair and has not given yet: kept in the workspace until the verdict is given."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import safeio
from ..errors import InputError

FOLDER = "review-drafts"
LONGEST = 4000


@dataclass(frozen=True)
class Draft:
    """Details of a verdict that is not given yet."""

    reason: str = ""
    comment: str = ""
    better: str | None = None


class Drafts:
    """The drafts of one reader in one queue, a private file in the workspace.

    Parameters
    ----------
    workspace
        Folder of the runs.
    queue_id, reader
        Whose drafts; the file's name tells neither.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> Drafts(Path(folder.name), "q1", "Ada").keep("p1", Draft(comment="turned"))
    >>> Drafts(Path(folder.name), "q1", "Ada").of("p1").comment
    'turned'
    >>> folder.cleanup()
    """

    def __init__(self, workspace: Path, queue_id: str, reader: str):
        key = hashlib.sha256(f"{queue_id}\0{reader.casefold()}".encode()).hexdigest()[:24]
        self._path = Path(workspace) / FOLDER / f"{key}.json"

    def of(self, pair_id: str) -> Draft:
        """The draft of a pair; an empty one where there is none, or where the file is damaged."""
        found = self._read().get(pair_id)
        if not isinstance(found, dict):
            return Draft()
        better = found.get("better")
        return Draft(
            str(found.get("reason") or ""),
            str(found.get("comment") or "")[:LONGEST],
            None if better is None else str(better),
        )

    def keep(self, pair_id: str, draft: Draft) -> None:
        """Store a draft; an empty one removes it.

        Raises
        ------
        StorageError
            The disk is full, or the workspace cannot be written to.
        """
        drafts = self._read()
        drafts.pop(pair_id, None)
        if draft != Draft():
            drafts[pair_id] = asdict(draft)
        if drafts:
            with safeio.storing(self._path):
                self._path.parent.mkdir(mode=safeio.PRIVATE_FOLDER, parents=True, exist_ok=True)
            safeio.write_json(self._path, drafts)
        else:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, object]:
        try:
            drafts = safeio.read_json(self._path)
        except InputError:
            return {}
        return drafts if isinstance(drafts, dict) else {}
