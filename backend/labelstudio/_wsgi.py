"""The official server (label-studio-ml 2.x) with `RareFirst` as its model.

    gunicorn -c python:backend.gunicorn_conf backend.labelstudio._wsgi:app
    python -m backend.labelstudio._wsgi --port 9090        # Flask's own server, to try it
    rarefirst worker                                       # beside either of them

A ``_wsgi.py`` of label-studio-ml's own making serves `RareFirst` too. This one adds what the
official server lacks: the events that it drops, /versions, /job_status and /train, a limit for
bodies, and errors in the shape of our own app where it does not answer them itself.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence

from flask import Flask

from backend import events
from backend.app import furnish
from backend.logs import configure_logging
from backend.routes import ml_api
from backend.routes.services import install
from backend.settings import Settings

# A flag is a setting by another name: in the environment it holds for the whole process.
_FLAGS = {
    "port": "PORT",
    "host": "RAREFIRST_HOST",
    "log_level": "LOG_LEVEL",
    "model_dir": "RAREFIRST_DATA_DIR",
    "basic_auth_user": "BASIC_AUTH_USER",
    "basic_auth_pass": "BASIC_AUTH_PASS",
}


def make_app(settings: Settings) -> Flask:
    """The official server's application, with our model, limits and the routes that it lacks.

    Raises:
        ImportError: label-studio-ml is not installed; saying how to install it.
        ValueError: user or password has a letter that the official server cannot compare.
    """
    if settings.basic_auth is not None and not "".join(settings.basic_auth).isascii():
        raise ValueError(
            "BASIC_AUTH_USER or BASIC_AUTH_PASS holds a letter outside ASCII; the official server "
            "answers each request with an error then: choose others, or run `rarefirst web`"
        )
    # The package opens a cache.db when it is imported, in the working directory by default.
    os.environ.setdefault("MODEL_DIR", str(settings.data_dir))
    # Before the package: it says how to install it.
    from backend.labelstudio.ml_base import RareFirst, services

    from label_studio_ml import api  # isort: skip

    # It logs headers and bodies at DEBUG: passwords and tokens.
    logging.getLogger("label_studio_ml").setLevel(max(logging.INFO, logging.root.level))
    api.TRAIN_EVENTS = tuple(dict.fromkeys((*api.TRAIN_EVENTS, *events.HINTS)))
    user, password = settings.basic_auth or (None, None)
    app: Flask = api.init_app(RareFirst, user, password)
    install(app, services())
    # Ours before theirs: an error has its request id by then, and a wrong login our answer.
    theirs = app.before_request_funcs.pop(None, [])
    furnish(app, services())
    app.before_request_funcs[None] += theirs
    app.add_url_rule("/versions", view_func=ml_api.versions)
    app.add_url_rule("/train", view_func=ml_api.train, methods=["POST"])
    app.add_url_rule("/job_status", view_func=ml_api.job_status, methods=["GET", "POST"])
    app.add_url_rule("/job_status/<job>", view_func=ml_api.job_status)
    return app


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="rarefirst under Label Studio's official server")
    parser.add_argument("-p", "--port", type=int, help="port to listen on (PORT)")
    parser.add_argument("--host", help="address to listen on (RAREFIRST_HOST)")
    parser.add_argument("--log-level", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    parser.add_argument("--model-dir", help="folder of everything kept (RAREFIRST_DATA_DIR)")
    parser.add_argument(
        "--basic-auth-user",
        default=os.environ.get("ML_SERVER_BASIC_AUTH_USER"),
        help="user asked for (BASIC_AUTH_USER); the worker needs to know it too",
    )
    parser.add_argument(
        "--basic-auth-pass",
        default=os.environ.get("ML_SERVER_BASIC_AUTH_PASS"),
        help="password asked for (BASIC_AUTH_PASS); the worker needs to know it too",
    )
    parser.add_argument("--check", action="store_true", help="make a model before serving")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve with Flask's own server, as the official ``_wsgi.py`` does when it is run."""
    flags = _flags(arguments)
    for name, variable in _FLAGS.items():
        value = getattr(flags, name)
        if value is not None:
            os.environ[variable] = str(value)
    settings = Settings()
    configure_logging(settings, "web")
    app = make_app(settings)
    if flags.check:
        from backend.labelstudio.ml_base import RareFirst

        logging.getLogger(__name__).info("the model answers %s", RareFirst().model_version)
    app.run(host=settings.host, port=settings.port)


if __name__ == "__main__":
    main()
else:
    _settings = Settings()
    configure_logging(_settings, "web")
    app = make_app(_settings)
