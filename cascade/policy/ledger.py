"""Which policies are applied, and which were: *policy* -> a revision in a history -> files that outlive the server.

    FOLDER/policies.json                what is current, and when each revision was applied first
    FOLDER/policies/NAME/REVISION.toml  the revisions

A revision's file is written before the index names it, and each file replaces the one before in one step: whatever
happens on the way, the index names complete files only.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cascade.errors import CascadeError, LimitExceededError, NotFoundError, PolicyError, PreconditionError
from cascade.policy.load import load
from cascade.policy.model import Policy, revision_of

KEPT = 100  # revisions of one policy
POLICIES = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Revision:
    """A policy of some time, and when it was applied first."""

    policy: Policy
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class History:
    """One policy's revisions, oldest first, and which of them is applied."""

    current: str
    revisions: tuple[Revision, ...]

    @property
    def policy(self) -> Policy:
        """What is applied."""
        return self.find(self.current)

    def find(self, revision: str) -> Policy:
        """The policy of a revision.

        Raises:
            NotFoundError: it is not kept.
        """
        for kept in self.revisions:
            if kept.policy.revision == revision:
                return kept.policy
        raise NotFoundError("revision: this server keeps no such revision of the policy")

    def applied(self, policy: Policy, now: datetime) -> History:
        """The history from now on; what was applied before keeps the time of the first time."""
        known = any(kept.policy.revision == policy.revision for kept in self.revisions)
        revisions = self.revisions if known else (*self.revisions, Revision(policy, now))
        if len(revisions) > KEPT:
            oldest = next(kept for kept in revisions if kept.policy.revision != policy.revision)
            revisions = tuple(kept for kept in revisions if kept is not oldest)
        return History(policy.revision, revisions)


@dataclass(frozen=True)
class Ledger:
    """All histories by name; ``default`` names the policy of requests that name none.

    ``source`` identifies the policy file that was read last: only another one is news. ``pushed`` tells that the
    default policy was changed in another way since.
    """

    default: str = ""
    source: str = ""
    pushed: bool = False
    histories: Mapping[str, History] = field(default_factory=dict)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """What is applied, the default first."""
        names = sorted(self.histories, key=lambda name: name != self.default)
        return tuple(self.histories[name].policy for name in names)

    def history(self, name: str = "") -> History:
        """The history of a policy; of the default one where the name is empty.

        Raises:
            NotFoundError: there is no such policy.
        """
        try:
            return self.histories[name or self.default]
        except KeyError:
            raise NotFoundError("policy: this server has no policy of that name") from None

    def expect(self, name: str, revision: str) -> None:
        """Checks that a policy is still at the revision that its changer has seen; an empty one is no policy yet.

        Raises:
            PreconditionError: it is not.
        """
        current = self.histories[name].current if name in self.histories else ""
        if revision != current:
            found = f"at revision {current}" if current else "not there"
            expected = revision or "nothing, as for a new name,"
            raise PreconditionError(f"policy {name} is {found}, and {expected} was expected: read it again")

    def applied(self, policy: Policy, *, source: str | None = None) -> Ledger:
        """The ledger with a policy applied; one that came from the policy file is the default from then on.

        Raises:
            LimitExceededError: it has a new name, and there are too many.
        """
        now = datetime.now(UTC)
        before = self.histories.get(policy.name)
        if before is None and len(self.histories) == POLICIES:
            raise LimitExceededError("policies", POLICIES)
        history = before.applied(policy, now) if before else History(policy.revision, (Revision(policy, now),))
        histories = {**self.histories, policy.name: history}
        if source is not None:
            return Ledger(policy.name, source, False, histories)
        return replace(self, histories=histories, pushed=self.pushed or policy.name == self.default)


class LedgerFolder:
    """Keeps a ledger in a folder, which it locks: two servers that changed it would forget each other's changes.

    Raises:
        CascadeError: the folder cannot be used, or another server uses it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise CascadeError(f"{folder}: another server keeps its policies there") from None
        except OSError as error:
            raise CascadeError(f"{folder}: cannot keep policies there: {error.strerror or error}") from error

    def close(self) -> None:
        """Gives the folder free."""
        os.close(self._lock)

    def read(self) -> Ledger:
        """The ledger that was written last; an empty one if there is none.

        Raises:
            PolicyError: a file is missing or damaged, or a policy is not valid any more.
        """
        path = self._folder / "policies.json"
        if not path.exists():
            return Ledger()
        try:
            index = _Index.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise PolicyError([f"{path} cannot be read: {error}"]) from error
        histories = {name: self._history(name, entry) for name, entry in index.policies.items()}
        if index.default not in histories:
            raise PolicyError([f"{path} has no policy {index.default}, the default"])
        return Ledger(index.default, index.source, index.pushed, histories)

    def write(self, ledger: Ledger) -> None:
        """Writes what changed: new revisions, then the index.

        Raises:
            CascadeError: the disk does not take it; what was written before stands.
        """
        index = _Index(
            default=ledger.default,
            source=ledger.source,
            pushed=ledger.pushed,
            policies={
                name: _Entry(
                    current=history.current,
                    applied=[(kept.policy.revision, kept.applied_at) for kept in history.revisions],
                )
                for name, history in ledger.histories.items()
            },
        )
        try:
            for history in ledger.histories.values():
                self._write_revisions(history.revisions)
            replace_file(self._folder / "policies.json", index.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise CascadeError(f"{self._folder}: cannot be written: {error.strerror or error}") from error
        try:
            self._forget(ledger)
        except OSError as error:  # what the index says is what holds: it was a change all the same
            log.warning("old revisions cannot be deleted", extra={"error": error.strerror})

    def _write_revisions(self, revisions: Sequence[Revision]) -> None:
        for kept in revisions:
            path = self._path(kept.policy.name, kept.policy.revision)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, kept.policy.toml)

    def _forget(self, ledger: Ledger) -> None:
        for name, history in ledger.histories.items():
            known = {f"{kept.policy.revision}.toml" for kept in history.revisions}
            for path in self._path(name, "").parent.glob("*.toml"):
                if path.name not in known:
                    path.unlink()

    def _history(self, name: str, entry: _Entry) -> History:
        """A history as this release reads it: a policy's revision is another one where there are new defaults."""
        current = self._load(name, entry.current)
        revisions = []
        for revision, applied_at in entry.applied:
            try:
                policy = current if revision == entry.current else self._load(name, revision)
            except PolicyError as error:
                fields = {"policy": name, "revision": revision, "problems": error.problems}
                log.warning("an earlier revision cannot be restored any more", extra=fields)
            else:
                revisions.append(Revision(policy, applied_at))
        if current.revision not in (kept.policy.revision for kept in revisions):
            raise PolicyError([f"{self._folder / 'policies.json'}: {name}@{entry.current} was never applied"])
        return History(current.revision, tuple(revisions))

    def _load(self, name: str, revision: str) -> Policy:
        path = self._path(name, revision)
        policy = load(path)
        if revision_of(path.read_text(encoding="utf-8")) != revision:
            raise PolicyError([f"{path} was changed after it was written"])
        return policy

    def _path(self, name: str, revision: str) -> Path:
        return self._folder / "policies" / name / f"{revision}.toml"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    current: str
    applied: list[tuple[str, datetime]]


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid")

    default: str
    source: str
    pushed: bool
    policies: dict[str, _Entry]


def replace_file(path: Path, text: str) -> None:
    """Writes a file so that there is the old one or the new one under its name at any time, after a power cut too."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
