"""Pictures of tasks as people may see them: a small one out of the image cache, or a name.

Nothing is fetched for a page: what the loop has not read, or what the cache has dropped, is shown
by its name. A small picture is always decoded and encoded anew, so that no byte of a file that
somebody imported reaches a browser as it is.
"""

from __future__ import annotations

import io
import threading

from pydantic import BaseModel, ConfigDict

from backend.errors import MediaError
from backend.labelstudio.image_bytes import decode_data_uri
from backend.labelstudio.image_cache import ImageCache, image_key
from backend.labelstudio.media import safe_name
from backend.mirror_reader import MirrorReader
from backend.projects import ProjectStore
from backend.settings import Settings

SIDE_PX = 240
_MOST_PIXELS = 50_000_000  # decoded in the web process: larger ones are shown by name
_QUALITY = 80
_one_at_a_time = threading.Lock()


class Picture(BaseModel):
    """What is shown of a task's image: its name, and whether there is a small picture of it."""

    model_config = ConfigDict(frozen=True)

    name: str
    there: bool = False


class Pictures:
    """The pictures of one project.

    Args:
        settings: the service's.
        store: the project's folder.
        shown: pictures may be shown at all.
    """

    def __init__(self, settings: Settings, store: ProjectStore, *, shown: bool = True) -> None:
        self._settings = settings
        self._store = store
        self._shown = shown
        self._cache = ImageCache(
            settings.data_dir / "images", max_bytes=settings.image_cache_mb << 20
        )

    def of(self, uri: str) -> Picture:
        """What to show of an address."""
        there = _is_data(uri) or self._cache.holds(image_key(uri, self._store.key))
        return Picture(name=safe_name(uri) or "no image", there=self._shown and bool(uri) and there)

    def small(self, task_id: int) -> bytes | None:
        """A small JPEG of a task's image; None where it is not at hand or cannot be decoded.

        Raises:
            BackendError: where the mirror cannot be read.
        """
        tasks = MirrorReader(self._store.path("mirror")).some([task_id])
        if not self._shown or tasks is None or not len(tasks):
            return None
        data = self._bytes(str(tasks.uris[0]))
        return None if data is None else _shrunk(data, self._settings)

    def _bytes(self, uri: str) -> bytes | None:
        if not _is_data(uri):
            return self._cache.get(image_key(uri, self._store.key))
        try:
            return decode_data_uri(uri.strip(), max_bytes=self._settings.max_image_mb << 20)
        except MediaError:
            return None


def _is_data(uri: str) -> bool:
    return uri.strip()[:5].lower() == "data:"


def _shrunk(data: bytes, settings: Settings) -> bytes | None:
    """A JPEG whose longer side is at most ``SIDE_PX``."""
    from models.backbones.images import as_rgb, open_image
    from models.errors import ImageError

    most = min(settings.max_image_megapixels * 1_000_000, _MOST_PIXELS)
    try:
        with _one_at_a_time:
            image = as_rgb(open_image(data, max_pixels=most), at_least_px=SIDE_PX)
            image.thumbnail((SIDE_PX, SIDE_PX))
    except ImageError:
        return None
    image.info.clear()  # comments and profiles of the file would be written into ours
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
