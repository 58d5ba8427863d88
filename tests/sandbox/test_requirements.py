"""Requirements that are refused, and how that is said; those that are taken, with what they bring."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynasaur_mcp.errors import RequirementsInvalid
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.requirements import explain, explain_refusal, read_requirements
from dynasaur_mcp.sandbox.wheels import Target
from dynasaur_mcp.types import PackageRules

from .conftest import make_wheel
from .test_packages import ANY, PYTHON, install, make_store, sets_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("requirement", "named"),
    [("absent", "'absent'"), ("plain>=9", "'plain>=9'"), ("plain==1.0 ; python_version>'3'", "plain==1.0")],
)
async def test_set_that_does_not_resolve_names_the_requirement(
    requirement: str, named: str, tmp_path: Path, wheels: Path
) -> None:
    make_wheel(wheels, "needy", "3.0", requires="plain>=2")
    store = make_store(tmp_path)
    with pytest.raises(RequirementsInvalid) as raised:
        await install(store, requirement, "needy>=3")
    assert named in str(raised.value.problems[0])
    assert requirement in raised.value.culprits
    assert str(tmp_path) not in str(raised.value)
    assert sets_of(store) == []


async def test_requirements_that_exclude_each_other_are_named_together(tmp_path: Path, wheels: Path) -> None:
    with pytest.raises(RequirementsInvalid, match="no versions fit 'needy' and 'plain>=2' together") as raised:
        await make_store(tmp_path).resolve(("needy", "plain>=2"))
    assert raised.value.culprits == ("needy", "plain>=2")


async def test_package_without_wheels_is_refused_rather_than_built(tmp_path: Path, wheels: Path) -> None:
    (wheels / "source-1.0.tar.gz").write_bytes(b"")
    make_wheel(wheels, "above", "1.0", requires="source")
    store = make_store(tmp_path)
    with pytest.raises(RequirementsInvalid, match=r"'source==1\.0' has no wheel for Python"):
        await store.resolve(("source", "plain"))
    with pytest.raises(RequirementsInvalid, match=r"'source==1\.0', which 'above' needs, has no wheel for Python"):
        await store.resolve(("above",))


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        (PackageRules("none"), ["plain", "Needy_Thing"]),
        (PackageRules("listed"), ["plain", "Needy_Thing"]),
        (PackageRules("listed", ("other", "needy.thing")), ["plain"]),
        (PackageRules("listed", ("Plain", "needy-thing")), []),
        (PackageRules("any"), []),
    ],
    ids=["none", "nothing listed", "one listed", "both listed", "any"],
)
async def test_what_the_rules_refuse_is_named_before_anything_is_resolved(
    rules: PackageRules, refused: list[str], tmp_path: Path
) -> None:
    if not refused:
        assert len(read_requirements(("plain>=1", "Needy_Thing"), rules)) == 2
        return
    with pytest.raises(RequirementsInvalid) as raised:
        await PackageStore(tmp_path, Target(PYTHON), rules).resolve(("plain>=1", "Needy_Thing"))
    assert [text.partition(">")[0] for text in raised.value.culprits] == refused
    assert all("--packages" in str(problem) for problem in raised.value.problems)
    assert list(tmp_path.iterdir()) == []


async def test_what_a_listed_package_depends_on_comes_with_it(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path, policy="listed", allowed=("needy",))
    assert (await store.resolve(("needy",))).versions == ("needy==1.0", "plain==1.0")


@pytest.mark.parametrize(
    "text",
    [
        "/etc", "./here", "-e .", "--index-url=x", "-r file", "plain @ file:///x.whl", "https://x/y.whl", "git+https://x/y",
        "plain; platform_version == 'x\n--find-links /etc #'",
        r"plain; platform_version == 'x\n--find-links /etc #'",
        "plain; platform_version == '\udcff'",
        "p" * 501,
        "plain\nneedy", "", "plain --no-binary", "a b",
    ],
)  # fmt: skip
def test_what_is_no_name_in_the_index_is_refused(text: str) -> None:
    with pytest.raises(RequirementsInvalid):
        read_requirements((text,), ANY)


def test_all_refused_requirements_are_told_at_once() -> None:
    with pytest.raises(RequirementsInvalid) as raised:
        read_requirements(("./here", "plain", "plain @ file:///x.whl"), ANY)
    assert len(raised.value.problems) == 2


def test_more_requirements_than_anyone_needs_are_refused() -> None:
    with pytest.raises(RequirementsInvalid, match="51 requirements; at most 50"):
        read_requirements([f"package{number}" for number in range(51)], ANY)


def test_extras_versions_and_markers_are_kept() -> None:
    given = "My_Pkg[a,b] >=1,<2; python_version > '3.8'"
    assert read_requirements((given,), ANY) == {'my-pkg[a,b]<2,>=1; python_version > "3.8"': given}


def test_reason_has_no_decoration_path_or_address() -> None:
    said = "  × No solution found when resolving dependencies:\n  ╰─▶ Because a is in /home/me/x and `https://u:p@h/simple/`.\n"
    assert explain(said) == "Because a is in … and `the package index`."


def test_long_reason_is_told_by_its_end() -> None:
    told = explain("Because a" + ", we can conclude b. And because a" * 40 + " and you require z.")
    assert len(told) <= 410
    assert told.startswith("… ")
    assert told.endswith("you require z.")


def test_refusal_that_blames_nobody_names_all() -> None:
    assert explain_refusal("something new", {"a": "a", "b<2": "b<2"}, "here").culprits == ("a", "b<2")
