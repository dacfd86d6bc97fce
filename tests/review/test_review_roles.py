"""Names and roles."""

from __future__ import annotations

import itertools

import pytest

from fairvlm_core import InputError
from fairvlm_core.review import ACTIONS, ROLES, Roles, check_reviewer, may, read_roles, role_of

FILE = """
default = "none"
[roles]
"Ada Example" = "admin"
"grace@example.org" = "adjudicator"
Bob = "reviewer"
"""


def test_roles_come_from_the_workspaces_file(tmp_path):
    (tmp_path / "review.toml").write_text(FILE)
    roles = read_roles(tmp_path)
    names = ("ada  example", "Grace@Example.org", "Bob", "Mallory")
    assert [role_of(name, roles) for name in names] == ["admin", "adjudicator", "reviewer", "none"]
    assert may(role_of(" Ada  Example", roles), "make_queue")
    assert not may(role_of("Bob", roles), "make_queue")
    assert not may(role_of("Mallory", roles), "judge")


def test_without_a_file_everyone_may_do_everything_and_with_one_strangers_review(tmp_path):
    assert read_roles(tmp_path) == Roles("admin", {})
    (tmp_path / "review.toml").write_text("")
    assert role_of("Mallory", read_roles(tmp_path)) == "reviewer"


def test_a_higher_role_includes_the_lower_ones():
    allowed = [{action for action in ACTIONS if may(role, action)} for role in ROLES]
    assert allowed[0] == set()
    assert all(lower < higher for lower, higher in itertools.pairwise(allowed))
    assert allowed[-1] == set(ACTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "roles = 5",
        "[roles]\nAda = 'boss'",
        "default = 'boss'",
        "[role]\nAda = 'admin'",
        "[roles\n",
        "[roles]\n'<b>' = 'admin'",
    ],
)
def test_a_file_that_is_wrong_names_itself_or_the_name(tmp_path, text):
    (tmp_path / "review.toml").write_text(text)
    with pytest.raises(InputError, match=r"review\.toml|reviewer name:") as caught:
        read_roles(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Ada", "Dr. Ada O'Neill-Müller", "ada_2", "a@b.org", "李雷", "José", "R2"])
def test_names_people_have(name):
    assert check_reviewer(f"  {name} ") == check_reviewer(name)


@pytest.mark.parametrize(
    "name", ["", "   ", "...", "a" * 65, "<script>", "[red]", "a\0b", "a/b", "*Ada*", "Ada\u202eadA"]
)
def test_what_is_no_name(name):
    with pytest.raises(InputError, match="reviewer"):
        check_reviewer(name)


def test_two_ways_to_write_one_letter_are_one_name():
    assert check_reviewer("Jose\u0301") == check_reviewer("Jos\u00e9")
