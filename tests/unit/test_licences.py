"""The list of licences is that of the locked packages."""

from __future__ import annotations

from docs.licence_list import NOT_HERE, UNSAID, known, licence_of, locked

#: What a service that others run must not be made of.
REFUSED = ("AGPL", "Affero", "SSPL", "BUSL", "Commons Clause", "Non-Commercial", "NonCommercial")


def test_every_locked_package_is_listed_in_its_version() -> None:
    assert sorted(known()) == locked(), "run `.venv/bin/python docs/licence_list.py`"
    assert len(known()) > 100


def test_the_list_says_what_the_installed_packages_say() -> None:
    # Another Python, or another platform, has some packages that were absent at the writing.
    written = {package: said for package, said in known().items() if said != NOT_HERE}
    here = {package: said for package in written if (said := licence_of(package)) is not None}
    assert len(here) > 60
    assert {package: written[package] for package in here} == here


def test_no_licence_forbids_running_the_service() -> None:
    for package, licence in known().items():
        assert not any(word.lower() in licence.lower() for word in REFUSED), (package, licence)


def test_hardly_any_licence_is_unknown() -> None:
    unsaid = [package.name for package, licence in known().items() if licence == UNSAID]
    absent = [package.name for package, licence in known().items() if licence == NOT_HERE]
    assert len(unsaid) <= 3, unsaid
    assert len(absent) <= 25, absent
