"""Images of every origin through a real Label Studio: each embedded, or listed with its reason."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from demo.backend_process import Backend
from demo.project import LABEL_CONFIG
from tests.e2e.harness import NewBackend, Studio, connect_by_hand, eventually, status_of
from tests.e2e.s3_stand_in import S3StandIn
from tests.unit.models.image_files import noise, png, saved, turned

SETTINGS = {
    "RAREFIRST_BOOTSTRAP_MIN_LABELS": "10000",  # training is not what is tested here
    "RAREFIRST_TIMER_S": "2",
    "RAREFIRST_ALLOWED_HOSTS": "localhost",
}
PNG = saved(noise(), "PNG")


@pytest.fixture
def s3() -> Iterator[S3StandIn]:
    made = S3StandIn(
        {
            "plain": {"a b.png": PNG, "late.png": PNG, "page.png": b"<html>Sign in</html>"},
            "signed": {"a.png": PNG},
        }
    )
    yield made
    made.close()


def data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def add_storage(studio: Studio, kind: str, project: int, **fields: object) -> None:
    """Connect a storage to the project as its settings page does, and import what is in it."""
    made = studio.owner.request(
        "POST",
        f"/api/storages/{kind}",
        body={"project": project, "use_blob_urls": True, "title": kind, **fields},
    ).json()
    studio.owner.request("POST", f"/api/storages/{kind}/{made['id']}/sync", body={})


def unreadable(backend: Backend, project: int) -> dict[str, dict[str, Any]]:
    return {image["image"]: image for image in status_of(backend, project)["unreadable"]}


def test_every_origin_of_an_image(studio: Studio, s3: S3StandIn, new_backend: NewBackend) -> None:
    root = studio.files
    (root / "set").mkdir()
    (root / "set" / "photograph.jpg").write_bytes(turned(noise(), 6, "JPEG"))
    (root / "set" / "empty.png").write_bytes(b"")
    (root / "other").mkdir()
    (root / "other" / "hidden.png").write_bytes(PNG)
    project = studio.owner.create_project("images", LABEL_CONFIG)

    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    for bucket, presign in (("plain", False), ("signed", True)):
        add_storage(
            studio, "s3", project, bucket=bucket, presign=presign, s3_endpoint=s3.url, **keys
        )
    add_storage(studio, "localfiles", project, path=str(root / "set"))
    s3.locked.add("late.png")
    (uploaded,) = studio.owner.upload(project, [("upload.png", PNG)]).values()

    whole = {
        "uploaded": uploaded,
        "own address": studio.url + uploaded,
        "16 bits": data_uri(png((2, 1), bits=16, colour=0, rows=b"\x00\x80\x00\x00\x00")),
        "cmyk": data_uri(saved(noise().convert("CMYK"), "JPEG")),
        "clear palette": data_uri(saved(noise().convert("P"), "PNG", transparency=0)),
        "animated": data_uri(saved(noise(), "GIF", save_all=True, append_images=[noise()])),
        "one pixel": data_uri(saved(Image.new("RGB", (1, 1)), "PNG")),
        **{kind: data_uri(saved(noise(), kind)) for kind in ("WEBP", "AVIF", "TIFF", "BMP")},
    }
    broken = {
        "s3://plain/gone.png": "storage (424)",
        "s3://nobody/a.png": "does a storage of Label Studio cover it?",
        "s3://signed/a.png": "switch pre-signed URLs off",
        "s3://plain/late.png": "storage (424)",
        "s3://plain/page.png": "found a web page",
        "/data/local-files/?d=set/empty.png": "found an empty file",
        "/data/local-files/?d=other/hidden.png": "does a Local Files storage",
        s3.url + "/plain/a.png": "RAREFIRST_ALLOWED_HOSTS",
        s3.url.replace("127.0.0.1", "localhost") + "/plain/a.png": "private or reserved",
        "ftp://example.org/a.png": "found ftp:, expected",
    }
    in_data = {
        data_uri(PNG[:-300]): "cut off",
        data_uri(b"<!DOCTYPE html>"): "found a web page",
        data_uri(b""): "found an empty file",
        data_uri(b"\x00\x00\x00\x18ftypheic" + bytes(12)): "HEIC",
        data_uri(png((30_000, 30_000), bits=8, colour=2, rows=bytes(99))): "30000 x 30000",
        "data:image/png;base64,%%%": "not valid base64",
    }
    imported = [*whole.values(), *broken, *in_data]
    from_storages = {"s3://signed/a.png", "s3://plain/late.png", "s3://plain/page.png",
                     "/data/local-files/?d=set/empty.png"}  # fmt: skip
    studio.owner.import_tasks(
        project, [{"data": {"image": uri}} for uri in imported if uri not in from_storages]
    )
    embedded, failed = len(whole) + 2, len(broken) + len(in_data)  # "a b.png", "photograph.jpg"

    backend = new_backend(extra=SETTINGS)
    connect_by_hand(studio.owner, project, backend)

    def settled() -> bool:
        found = status_of(backend, project)
        return found.get("embedded") == embedded and len(found["unreadable"]) == failed

    eventually(settled, f"{embedded} embedded, {failed} listed")
    found = status_of(backend, project)
    listed = unreadable(backend, project)
    reasons = [image["reason"] for image in found["unreadable"]]
    for image, reason in broken.items():
        assert reason in listed[image]["reason"], image
    for reason in in_data.values():
        assert any(reason in said for said in reasons), reason
    assert found["failed"] == {reason: reasons.count(reason) for reason in reasons}
    said = backend.command("status", "--project", str(project))
    assert f"{failed} images that could not be read" in said
    assert backend.service.log_path.read_text().count("could not be read") <= 3

    # The storage lets us again, and a setting that decides about images changes: due at once.
    s3.locked.clear()
    backend.stop()
    run_dir = backend.service.log_path.parent
    extra = {**backend.settings.extra, "RAREFIRST_MAX_IMAGE_MB": "60"}
    again = Backend(replace(backend.settings, extra=extra), run_dir=run_dir)
    again.start()
    try:
        eventually(lambda: status_of(again, project)["embedded"] == embedded + 1, "late.png too")
        assert "s3://plain/late.png" not in unreadable(again, project)
    finally:
        again.stop()
