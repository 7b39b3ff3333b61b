"""How alike two versions order what is unlabeled: asked of the command, in a process of its own.

That takes torch, the mirror and seconds of a core. Here it would slow down what Label Studio asks,
and its memory would stay; a process gives it back. One at a time.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading

from pydantic import ValidationError

from backend.settings import Settings
from backend.version_differences import OrderLikeness

logger = logging.getLogger(__name__)

_PATIENCE_S = 90.0
_one_at_a_time = threading.Lock()


def order_likeness(
    settings: Settings, project_id: int, a: str, b: str, *, patience_s: float = _PATIENCE_S
) -> OrderLikeness:
    """What `rarefirst versions compare A B` says of the orders; why not, where it cannot.

    Args:
        settings: of the service.
        project_id: a connected project.
        a: a stored version.
        b: another one.
        patience_s: after which the process is ended.
    """
    if not _one_at_a_time.acquire(blocking=False):
        return OrderLikeness(why_not="another comparison is being made; open the page again")
    try:
        done = subprocess.run(
            _command(project_id, a, b),
            env=_environment(settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=patience_s,
            check=False,
        )
        return OrderLikeness.model_validate(json.loads(done.stdout)["order"])
    except subprocess.TimeoutExpired:
        return OrderLikeness(why_not=f"it takes longer than {patience_s:.0f} s; {_by_hand(a, b)}")
    except OSError as error:
        return OrderLikeness(why_not=f"it failed ({error.strerror}); {_by_hand(a, b)}")
    except (ValueError, KeyError, ValidationError):
        said = done.stderr[-2000:].decode(errors="replace")
        logger.warning("versions %s and %s: %s", a, b, said)
        return OrderLikeness(why_not=f"it failed; {_by_hand(a, b)}")
    finally:
        _one_at_a_time.release()


def _command(project_id: int, a: str, b: str) -> list[str]:
    what = ["versions", "compare", a, b, "--project", str(project_id), "--json"]
    # Label Studio's requests are answered first.
    return ["nice", "-n", "10", sys.executable, "-m", "backend.cli", *what]


def _environment(settings: Settings) -> dict[str, str]:
    """This process's, for the same data directory: its settings came from there."""
    return {
        **os.environ,
        "RAREFIRST_DATA_DIR": str(settings.data_dir.resolve()),
        "LABEL_STUDIO_URL": settings.label_studio_url,
    }


def _by_hand(a: str, b: str) -> str:
    return f"`rarefirst versions compare {a} {b}` says more"
