"""gunicorn's settings, from ours. gunicorn reads the lower-case names of this module."""

from __future__ import annotations

from backend.settings import Settings

_settings = Settings()

bind = f"{_settings.host}:{_settings.port}"
worker_class = "gthread"
workers = _settings.workers
threads = _settings.threads
# A process that does not answer its own arbiter; requests may take as long as they need.
timeout = 120
graceful_timeout = 5
keepalive = 5
# Each process makes its own app and connections: nothing is shared over a fork.
preload_app = False
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "rarefirst-web"
# gunicorn 27 opens a control socket under the home directory, where two instances collide.
control_socket_disable = True
