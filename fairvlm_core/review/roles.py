"""Who may do what in a review, from ``review.toml`` in the workspace.

```toml
default = "reviewer"            # for names that are not listed; "none" refuses them

[roles]
"Ada Example" = "admin"
"grace@example.org" = "adjudicator"
```
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ..errors import InputError
from ..safeio import write_json
from .events import person

ROLES_FILE = "review.toml"
OPENED_FILE = "review_opened.json"
ROLES = ("none", "reviewer", "adjudicator", "admin")
ACTIONS: Mapping[str, str] = MappingProxyType(
    {"judge": "reviewer", "adjudicate": "adjudicator", "make_queue": "admin", "export": "admin", "backup": "admin"}
)


@dataclass(frozen=True)
class Roles:
    """Roles by name, as `person` spells it, and the role of a name that is not listed."""

    default: str = "admin"
    listed: Mapping[str, str] = field(default_factory=dict)


def read_roles(workspace: Path | str) -> Roles:
    """The roles of a workspace.

    Without a file everyone is admin: a laptop with one user needs no configuration. With a file, a name that is not listed
    is a reviewer unless `default` says otherwise.

    Raises
    ------
    InputError
        The file is no TOML, or names an unknown key or role.
    """
    path = Path(workspace) / ROLES_FILE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return Roles()
    except (OSError, ValueError) as error:
        raise InputError(f"{ROLES_FILE}: cannot be read ({error}); correct it or remove it") from None
    if unknown := sorted(set(values) - {"default", "roles"}):
        raise InputError(f"{ROLES_FILE}: unknown key {unknown[0]!r}; known are default and [roles]")
    default, listed = values.get("default", "reviewer"), values.get("roles", {})
    if not isinstance(listed, Mapping):
        raise InputError(f"{ROLES_FILE}: [roles] must be a table of names with their roles")
    for name, role in (("default", default), *listed.items()):
        if role not in ROLES:
            raise InputError(f"{ROLES_FILE}: {name}: {str(role)[:40]!r} is not one of {', '.join(ROLES)}")
    return Roles(default, {person(name): role for name, role in listed.items()})


def role_of(name: str, roles: Roles) -> str:
    """The role of a name: one of `ROLES`.

    >>> role_of("anyone", Roles())
    'admin'
    """
    return roles.listed.get(person(name), roles.default)


def may(role: str, action: str) -> bool:
    """Whether a role is enough for an action of `ACTIONS`; a higher role includes the lower ones.

    >>> may("adjudicator", "judge"), may("reviewer", "export")
    (True, False)
    """
    return ROLES.index(role) >= ROLES.index(ACTIONS[action])


def leads(workspace: Path | str, role: str, name: str, made_by: str) -> bool:
    """Whether a person may open a blind queue's results while others read: an adjudicator of `ROLES_FILE`.

    Without that file everyone is admin, so only who made the queue (`made_by`) may.
    """
    listed = (Path(workspace) / ROLES_FILE).is_file()
    return may(role, "adjudicate") and (listed or person(name) == person(made_by))


def results_opened(workspace: Path | str) -> dict[str, str]:
    """Queues whose results an adjudicator has opened to readers: queue id to who opened them."""
    path = Path(workspace) / OPENED_FILE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{OPENED_FILE}: cannot be read ({error}); correct it or remove it") from None


def open_results(workspace: Path | str, queue_id: str, by: str) -> None:
    """Show the results of a queue to its readers."""
    write_json(Path(workspace) / OPENED_FILE, results_opened(workspace) | {queue_id: by})


def sees_results(role: str, *, left: int, complete: bool, opened: bool, blind: bool) -> bool:
    """Whether a person sees the results of a queue.

    In a blind queue nobody does who still has pairs to read (`left`): results show what the miner and other readers think.
    A reviewer sees them when the queue is complete. Who leads the review (`leads`) can open them earlier, to everyone.

    >>> sees_results("reviewer", left=0, complete=False, opened=False, blind=True)
    False
    >>> sees_results("admin", left=0, complete=False, opened=False, blind=True)
    True
    """
    if opened or complete or not blind:
        return True
    return left == 0 and may(role, "adjudicate")
