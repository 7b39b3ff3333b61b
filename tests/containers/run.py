"""Build the image and run docker/compose.yaml's services with it, for real: `make containers`.

PostgreSQL and Label Studio are processes of this machine, started with the compose file's commands,
environments and secret files; web and worker are two containers of the image, closed as the file
says. All share a network of their own, in which nothing else is: no port is taken, and nobody gets
out. Needs root on Debian, with buildah, crun, debootstrap and postgresql; hours on a slow network.

    .venv/bin/python -m tests.containers.run [--keep FOLDER] [--report FILE]
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from demo.annotator import Annotator
from demo.digits import choose_digits
from demo.label_studio_api import LabelStudioApi
from demo.label_studio_process import ENVIRONMENT
from demo.project import create_digits_project
from demo.queue_watch import wait_for_queue
from demo.service import Service, ServiceError, clean_environment
from tests.containers.compose_file import COMPOSE, ROOT, process_of, read_compose
from tests.containers.container import Container, container
from tests.containers.image import BASE, IMAGE, Buildah
from tests.postgres import private_postgres

PROGRAMS = ("buildah", "crun", "debootstrap", "ip", "unshare")
# The names that compose gives the services, each with an address of its own.
HOSTS = """127.0.0.1 localhost
127.0.0.2 database
127.0.0.3 label-studio
127.0.0.4 rarefirst.internal web
"""
LABELS, BATCH = 40, 10
LABEL_STUDIO = "http://label-studio:8080"


class Report:
    """What happened when, for people to read."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Note one line, and show it."""
        self.lines.append(f"[{time.monotonic() - self._began:7.1f} s] {text}")
        sys.stdout.write(self.lines[-1] + "\n")
        sys.stdout.flush()


def main() -> int:
    """Build, then run inside of a network and a mount table of our own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder that images stay in for the next run")
    parser.add_argument("--report", type=Path, help="file that the transcript is written to")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return _inside(Buildah(options.keep), options.report)
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        sys.stderr.write(
            f"containers: needs root and {', '.join(PROGRAMS)}; missing: {', '.join(missing)}. "
            "Debian: apt-get install buildah crun debootstrap iproute2 postgresql\n"
        )
        return 2
    with ExitStack() as stack:
        folder = options.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="rarefirst-images-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        built = _build(Buildah(folder.resolve()), folder.resolve())
        arguments = ["--inside", "--keep", str(folder.resolve())]
        arguments += ["--report", str(options.report.resolve())] if options.report else []
        return subprocess.run(
            ["unshare", "--mount", "--net", "--propagation=private",
             sys.executable, "-m", "tests.containers.run", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "RAREFIRST_BUILT": built},
            check=False,
        ).returncode  # fmt: skip


def _build(buildah: Buildah, folder: Path) -> str:
    started = time.monotonic()
    if not buildah.has(BASE):
        buildah.import_base(folder / "debian")
    base_s = time.monotonic() - started
    return f"base image {base_s:.0f} s, image {buildah.build():.0f} s"


def _inside(buildah: Buildah, report_file: Path | None) -> int:
    report = Report()
    config = buildah.config()
    size, base = buildah.size_of(IMAGE), buildah.size_of(BASE)
    report.say(f"image {size / 1e9:.2f} GB, {base / 1e9:.2f} GB of it the base; built: "
               f"{os.environ.get('RAREFIRST_BUILT', 'before')}")  # fmt: skip
    _own_network()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="rarefirst-containers-") as name,
            ExitStack() as ends,
        ):
            _scenario(Path(name), buildah, config, report, ends)
        worked = True
    except (ServiceError, AssertionError) as error:
        report.say(f"it did not work: {error}")
        worked = False
    if report_file is not None:
        report_file.write_text("\n".join(report.lines) + "\n")
    return 0 if worked else 1


def _own_network() -> None:
    """Loopback, names for its addresses, and what crun wants to see of control groups."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    hosts = Path(tempfile.mkdtemp()) / "hosts"
    hosts.write_text(HOSTS)
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    # A mixture of both versions it refuses; nothing of ours is limited by them.
    subprocess.run(["umount", "--recursive", "/sys/fs/cgroup"], check=False)
    subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)


def _scenario(
    folder: Path, buildah: Buildah, image: dict[str, Any], report: Report, ends: ExitStack
) -> None:
    folder.chmod(0o755)
    compose = read_compose()
    secret_files = _make_secrets(folder, compose)
    token = (secret_files / "label-studio-token").read_text()

    started = time.monotonic()
    ends.enter_context(_database(compose, secret_files))
    ends.enter_context(_label_studio(folder, compose, secret_files))
    report.say(f"Label Studio runs on PostgreSQL after {time.monotonic() - started:.0f} s, "
               "migrations included")  # fmt: skip

    data = folder / "data"
    data.mkdir()
    uid, gid = (int(number) for number in image["User"].split(":"))
    os.chown(data, uid, gid)
    started = time.monotonic()
    running: list[Container] = []
    changed: dict[str, Path] = {}
    for name in ("web", "worker"):
        root, changed[name] = ends.enter_context(buildah.mounted())
        running.append(container(
            name, compose["services"][name], image, root=root, folder=folder / "containers",
            data=data, secrets=secret_files, hosts=Path("/etc/hosts"),
        ))  # fmt: skip
        running[-1].service.start()
        ends.callback(running[-1].service.stop)
        _until(running[-1].is_well, running[-1], 300)
    web, worker = running
    report.say(f"web and worker are healthy after {time.monotonic() - started:.0f} s")
    for one in running:
        _say_how_closed(one, report)

    digits = choose_digits(0, pool_size=300, rare_in_pool=20)
    api = LabelStudioApi(LABEL_STUDIO, token)
    ends.callback(api.close)
    project = create_digits_project(api, digits, title="Digits", progress=lambda _: None)
    connected = web.run("rarefirst", "connect", "--project", str(project))
    assert connected.returncode == 0, connected.stderr + connected.stdout
    report.say(f"project {project} with 300 tasks, 20 of them rare ({', '.join(digits.rare)}), "
               "connected by `rarefirst connect` in the web container")  # fmt: skip
    _label(api, project, digits, report)

    status = web.run("rarefirst", "status", "--project", str(project))
    assert status.returncode == 0, status.stderr
    report.say("`rarefirst status` in the web container:")
    report.lines += ["", *status.stdout.rstrip().splitlines(), ""]
    for one in (worker, web):
        _end(one, report)
    for one in running:
        written = [path for path in changed[one.name].rglob("*") if path.is_file()]
        # Empty files are what secrets and /etc/hosts were bound to.
        content = [str(path) for path in written if path.stat().st_size]
        assert not content, content
    report.say("written by either container outside of /data and /tmp: nothing")
    secret = [token, (secret_files / "rarefirst-password").read_text()]
    assert not any(text in one.log() for text in secret for one in running)
    kept = sorted({path.relative_to(data).parts[0] for path in data.rglob("*")})
    report.say(f"in the volume: {', '.join(kept)}; no secret in either log")


def _make_secrets(folder: Path, compose: dict[str, Any]) -> Path:
    files = folder / "secrets"
    files.mkdir()
    for secret in compose["secrets"].values():
        (files / Path(secret["file"]).name).write_text(secrets.token_hex(20))
    return files


@contextmanager
def _database(compose: dict[str, Any], secret_files: Path) -> Iterator[None]:
    environment = compose["services"]["database"]["environment"]
    password = (secret_files / "database-password").read_text()
    with private_postgres(port=5432, password=password, host="127.0.0.2") as server:
        assert environment["POSTGRES_USER"] == "labelstudio"
        server.execute("postgres", f"create database {environment['POSTGRES_DB']}")
        yield


@contextmanager
def _label_studio(folder: Path, compose: dict[str, Any], secret_files: Path) -> Iterator[None]:
    """Its service of the compose file, without the entry point of its image."""
    theirs = process_of(compose["services"]["label-studio"])
    here = theirs.here(
        {"/run/secrets": str(secret_files), "/with-secrets": str(COMPOSE.parent / "with-secrets")}
    )
    words = ["env" if word == "./deploy/docker-entrypoint.sh" else word for word in here.command]
    words = [str(ENVIRONMENT / "bin" / word) if word == "label-studio" else word for word in words]
    service = Service(
        "Label Studio",
        words,
        # What its image sets.
        env=clean_environment(
            {**here.environment, "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "ls")}
        ),
        log_path=folder / "label-studio.log",
    )
    (folder / "ls").mkdir()
    service.start()
    try:
        service.wait_until_up(f"{LABEL_STUDIO}/health", timeout_s=900)
        yield
    finally:
        service.stop()


def _say_how_closed(one: Container, report: Report) -> None:
    look = "grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/1/status; touch /opt/x /usr/x /x 2>&1"
    said = one.run("sh", "-c", look).stdout.splitlines()
    uid = one.user.split(":")[0]
    assert said[0].split()[1:] == [uid] * 4, said
    assert said[1:3] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"], said
    assert sum("Read-only file system" in line for line in said) == 3, said
    report.say(
        f"{one.name}: user {uid}, no capability, no new privileges, root file system read-only"
    )


def _label(api: LabelStudioApi, project: int, digits: Any, report: Report) -> None:
    version, found, positions = "", 0, []
    for batch in range(LABELS // BATCH):
        queue, waited = wait_for_queue(api, project, other_than=version, timeout_s=1200)
        version = queue.version
        order = "first queue" if batch == 0 else "new order"
        labeled = Annotator(api, project, digits.truth).label(BATCH)
        rare = [
            batch * BATCH + place
            for place, label in enumerate(labeled, 1)
            if label.answer in digits.rare
        ]
        positions += rare
        found += len(rare)
        report.say(f"{order} {version} after {waited:.1f} s; labels {batch * BATCH + 1} to "
                   f"{batch * BATCH + BATCH}: {len(rare)} rare, {found} of 20 so far")  # fmt: skip
    expected = LABELS * 20 / 300
    places = ", ".join(map(str, positions))
    report.say(f"rare ones at places {places} of {LABELS}; random order finds {expected:.1f}")
    assert found >= 15, f"only {found} of 20 rare ones were among the first {LABELS}"


def _until(check: Callable[[], bool], one: Container, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not check():
        assert one.service.alive, f"{one.name} ended.\n{one.service.log_tail()}"
        assert time.monotonic() < deadline, f"{one.name} is not healthy.\n{one.service.log_tail()}"
        time.sleep(1)


def _end(one: Container, report: Report) -> None:
    """As `docker stop` does."""
    started = time.monotonic()
    one.signal("TERM")
    while one.service.alive and time.monotonic() < started + 30:
        time.sleep(0.1)
    assert not one.service.alive, f"{one.name} does not end on SIGTERM"
    report.say(f"{one.name} ended {time.monotonic() - started:.1f} s after SIGTERM")


if __name__ == "__main__":
    sys.exit(main())
