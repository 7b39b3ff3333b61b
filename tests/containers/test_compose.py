"""docker/compose.yaml: right by the schema, closed where it can be, and true to the code."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from backend.settings import Settings
from docs.settings_table import names_of
from tests.containers.compose_file import (
    COMPOSE,
    ROOT,
    process_of,
    read_compose,
    secrets_of,
)

# compose-spec/compose-spec, schema/compose-spec.json at 170098ba07d9 (2026-06-23), Apache-2.0.
SCHEMA = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
OURS = ("web", "worker", "worker-gpu")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read_compose()


def test_the_file_is_right_by_the_compose_specification(compose: dict[str, Any]) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft7Validator(SCHEMA)
    for document in (yaml.safe_load(COMPOSE.read_text()), compose):
        assert [error.message for error in validator.iter_errors(document)] == []
    # And the schema would notice.
    wrong = {**compose, "services": {"web": {**compose["services"]["web"], "comand": []}}}
    assert list(validator.iter_errors(wrong))


def test_all_that_is_named_is_there(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for kind in ("secrets", "configs", "networks"):
            for item in service.get(kind, []):
                named = item["source"] if isinstance(item, dict) else item
                known = {*compose.get(kind, {}), *({"default"} if kind == "networks" else ())}
                assert named in known, f"{name}: {named}"
        for volume in service["volumes"]:
            assert volume.split(":")[0] in compose["volumes"]
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        assert service["healthcheck"]["test"][0] == "CMD"
        # Compose's variable for a file that a container reads, and no container gets it else.
        process, secrets = process_of(service), secrets_of(compose, service)
        files = {v for n, v in process.environment.items() if n.endswith("_FILE")}
        assert files == set(secrets), name
    for config in compose["configs"].values():
        assert (COMPOSE.parent / config["file"]).is_file()


def test_no_secret_is_in_the_file_or_in_an_environment(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable in service["environment"]:
            secret = any(word in variable for word in ("PASS", "TOKEN", "KEY"))
            allowed = variable.endswith("_FILE") or "ENABLE_LEGACY" in variable
            assert not secret or allowed, f"{name}: {variable}"
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *_files(compose), "docker/.env"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ignored.returncode == 128:
        pytest.skip("not a git checkout: nothing is ignored here")
    assert len(ignored.stdout.splitlines()) == len(compose["secrets"]) + 1


def _files(compose: dict[str, Any]) -> list[str]:
    return [f"docker/{secret['file']}" for secret in compose["secrets"].values()]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_are_closed(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service
    # What is written goes to one volume and to memory.
    assert service["volumes"] == ["rarefirst:/data"]
    assert [line.split(":")[0] for line in service["tmpfs"]] == ["/tmp"]
    assert service["environment"]["RAREFIRST_DATA_DIR"] == "/data"


def test_nothing_listens_beyond_this_machine(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert compose["networks"]["database"]["internal"] is True
    on_it = {n for n, s in compose["services"].items() if "database" in s.get("networks", [])}
    assert on_it == {"database", "label-studio"}
    assert compose["services"]["database"]["networks"] == ["database"]


def test_our_variables_are_settings(compose: dict[str, Any]) -> None:
    known = {n for field, info in Settings.model_fields.items() for n in names_of(field, info)}
    known |= {f"{name}_FILE" for name in known}
    for name in OURS:
        assert set(compose["services"][name]["environment"]) <= known
    # One image and one environment, two commands.
    web, worker, gpu = (compose["services"][name] for name in OURS)
    assert (web["command"], worker["command"]) == (["rarefirst", "web"], ["rarefirst", "worker"])
    same = ("image", "build", "environment", "secrets", "volumes")
    assert all(web[key] == worker[key] == gpu[key] for key in same)
    assert {key for key in {*worker, *gpu} if worker.get(key) != gpu.get(key)} == {
        "profiles",
        "deploy",
    }


def test_label_studio_takes_our_address_for_webhooks_too(compose: dict[str, Any]) -> None:
    web = compose["services"]["web"]
    host = urlsplit(web["environment"]["RAREFIRST_OWN_URL"]).hostname
    assert host is not None
    assert "." in host  # docs/label-studio.md, section 3: else 400 "Enter a valid URL."
    assert host in web["networks"]["default"]["aliases"]


def test_the_version_and_protection_of_label_studio(compose: dict[str, Any]) -> None:
    service = compose["services"]["label-studio"]
    lock = (ROOT / "requirements-label-studio.lock").read_text()
    assert f"label-studio=={service['image'].split(':')[1]} " in lock
    # docs/label-studio.md, section 1.
    assert service["environment"]["SSRF_PROTECTION_ENABLED"] == "false"
    assert service["environment"]["ML_BLOCK_LOCAL_IP"] == "false"


def test_variables_of_the_machine_reach_the_file() -> None:
    found = read_compose({"BASIC_AUTH_USER": "anna", "VARIANT": "cpu", "LABEL_STUDIO_PORT": ""})
    web = found["services"]["web"]
    assert web["environment"]["BASIC_AUTH_USER"] == "anna"
    assert web["build"]["args"]["VARIANT"] == "cpu"
    assert found["services"]["label-studio"]["ports"] == ["127.0.0.1:8080:8080"]


# The script that starts it all -----------------------------------------------------------------

DOCKER = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/said"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files of docker/ elsewhere, and a program `docker` that only notes what it is told."""
    folder = tmp_path / "docker"
    folder.mkdir()
    for name in ("up", "compose.yaml"):
        (folder / name).write_bytes((COMPOSE.parent / name).read_bytes())
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)
    return folder


def up(checkout: Path, *arguments: str) -> tuple[str, list[str]]:
    """Run docker/up. Returns: what it said, and what it told docker."""
    said = checkout.parent / "bin" / "said"
    said.unlink(missing_ok=True)
    path = f"{said.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(checkout / "up"), *arguments],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, said.read_text().splitlines()


def test_secrets_are_made_once(checkout: Path, compose: dict[str, Any]) -> None:
    output, _ = up(checkout)
    folder = checkout / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert {f"secrets/{name}" for name in made} == {
        secret["file"] for secret in compose["secrets"].values()
    }
    secrets = {name: text for name, text in made.items() if name != "pip.conf"}
    # A token of Label Studio has 40 characters at most.
    assert all(len(text) == 40 and int(text, 16) for text in secrets.values())
    assert len(set(secrets.values())) == len(secrets) == 4
    # Users of the containers are not the one who made them.
    assert all(stat.S_IMODE((folder / name).stat().st_mode) == 0o444 for name in secrets)
    assert not [text for text in secrets.values() if text in output]
    up(checkout)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made


def test_one_worker_runs_and_plain_compose_knows_which(checkout: Path) -> None:
    (checkout / ".env").write_text("VARIANT=cpu\n")
    _, told = up(checkout)
    assert told[:2] == [
        "compose -f compose.yaml --profile cpu --profile gpu rm --stop --force worker-gpu",
        "compose -f compose.yaml up --build --detach --wait",
    ]
    assert (checkout / ".env").read_text() == "VARIANT=cpu\nCOMPOSE_PROFILES=cpu\n"
    _, told = up(checkout, "--gpu", "--no-deps", "web")
    assert told[0].endswith("--force worker")
    assert told[1].endswith("--wait --no-deps web")
    assert (checkout / ".env").read_text() == "VARIANT=cpu\nCOMPOSE_PROFILES=gpu\n"


# The shim before Label Studio ------------------------------------------------------------------


def with_secrets(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(COMPOSE.parent / "with-secrets"), *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_program_gets_its_secrets_in_variables(tmp_path: Path) -> None:
    file = tmp_path / "a secret"
    file.write_text("two words and a \"$quote'\n")
    done = with_secrets("NAME", "--", "env", "--", NAME_FILE=str(file), OTHER_FILE="/left/alone")
    assert "NAME=two words and a \"$quote'\n" in done.stdout
    assert "NAME_FILE" not in done.stdout
    assert "OTHER_FILE=/left/alone" in done.stdout


def test_a_secret_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    done = with_secrets("NAME", "--", "echo", "started", NAME_FILE=str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be read or is empty" in done.stderr
    done = with_secrets("NAME", "--", "echo", "started")
    assert done.returncode != 0
    assert "NAME_FILE" in done.stderr
