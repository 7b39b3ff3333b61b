"""The dashboard's pages, for people in a browser."""

from __future__ import annotations

from pathlib import Path

from flask import (
    Blueprint,
    Response,
    g,
    make_response,
    render_template,
    request,
    url_for,
)
from werkzeug.exceptions import NotFound

from backend.dashboard import figures
from backend.dashboard.actions import act, said_after
from backend.dashboard.plotly_js import packed_plotly, plotly_version, style_ids
from backend.dashboard.protection import (
    COOKIE,
    FIELD,
    HEADERS,
    Sessions,
    check_origin,
    own_hosts,
)
from backend.dashboard.words import FILTERS
from backend.errors import BackendError, NoLogin
from backend.projects import ProjectStore
from backend.routes.services import services

_HOME = Path(__file__).resolve().parents[1] / "dashboard"
_FOREVER_S = 365 * 24 * 3600
_PICTURE_S = 3600
_STATIC_S = 300  # an update of ours is there soon
_STATIC = {
    "dashboard.css": "text/css; charset=utf-8",
    "plotly.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

blueprint = Blueprint("dashboard", __name__, template_folder=str(_HOME / "templates"))
for _name, _filter in FILTERS.items():
    blueprint.add_app_template_filter(_filter, _name)


def projects_page() -> Response:
    """All projects."""
    from backend.status import service_status

    return _page("projects.html", service=service_status(services().settings))


@blueprint.get("/project/<int:project_id>")
def project(project_id: int) -> Response:
    """Everything of one project that small files tell."""
    from backend.dashboard.project import project_page

    page = project_page(services().settings, project_id)
    return _page("project.html", page=page, said=said_after(request.args.get("done", "")))


@blueprint.get("/project/<int:project_id>/now")
def now(project_id: int) -> Response:
    """What the loop does now; the page asks for it every few seconds."""
    from backend.dashboard.project import now_page

    return _page("panels/now.html", page=now_page(services().settings, project_id))


@blueprint.get("/project/<int:project_id>/queue")
def queue(project_id: int) -> Response:
    """The head of the queue; a panel for the page's script, a page of its own without it."""
    from backend.dashboard.queue import queue_panel

    made = services()
    panel = queue_panel(made.settings, _store(project_id), images=_guarded())
    return _panel("queue", project_id, panel=panel)


@blueprint.get("/project/<int:project_id>/review")
def review(project_id: int) -> Response:
    """Labels to look at again."""
    from backend.dashboard.review import review_panel

    made = services()
    panel = review_panel(made.settings, _store(project_id), images=_guarded())
    return _panel("review", project_id, panel=panel)


@blueprint.get("/project/<int:project_id>/compare")
def compare(project_id: int) -> Response:
    """Two versions side by side; ``orders``: also how alike they order what is unlabeled."""
    from backend.dashboard.comparison import comparison

    a, b = request.args.get("a", ""), request.args.get("b", "")
    found = comparison(_store(project_id), a, b)
    order = None
    if "orders" in request.args:
        from backend.dashboard.likeness import order_likeness

        order = order_likeness(services().settings, project_id, found.a.name, found.b.name)
        if _by_script():
            return _page("panels/likeness.html", order=order)
    return _page("compare.html", project=project_id, found=found, order=order)


@blueprint.get("/project/<int:project_id>/picture/<int:task_id>")
def picture(project_id: int, task_id: int) -> Response:
    """A small picture of a task's image, where it is at hand and a login guards it."""
    from backend.dashboard.pictures import Pictures

    pictures = Pictures(services().settings, _store(project_id), shown=_guarded())
    data = pictures.small(task_id)
    if data is None:
        raise NotFound("no picture of this task is at hand")
    response = Response(data, content_type="image/jpeg")
    response.cache_control.private = True
    response.cache_control.max_age = _PICTURE_S
    response.add_etag()
    response.make_conditional(request)
    return response


@blueprint.post("/project/<int:project_id>/actions/<name>")
def action(project_id: int, name: str) -> Response:
    """Do what a button is for, then show the project again."""
    made = services()
    if not _guarded():
        raise NoLogin(
            "buttons need a login: set BASIC_AUTH_USER and BASIC_AUTH_PASS, also in the "
            "connection's settings in Label Studio, or use the command line"
        )
    check_origin(request.headers, own_hosts(made.settings.own_url))
    _sessions().check(request.cookies.get(COOKIE, ""), request.form.get(FIELD, ""))
    act(made.jobs, made.settings, project_id, name, request.form.get("version", ""))
    response = Response(status=303)
    response.location = url_for("dashboard.project", project_id=project_id, done=name)
    return response


@blueprint.get("/dashboard/<name>")
def static(name: str) -> Response:
    """Our style sheet and script."""
    if name not in _STATIC:
        raise NotFound("no such file")
    response = Response((_HOME / "static" / name).read_bytes(), content_type=_STATIC[name])
    response.cache_control.max_age = _STATIC_S
    response.add_etag()
    response.make_conditional(request)
    return response


@blueprint.get("/dashboard/plotly-<version>.js")
def plotly(version: str) -> Response:
    """The installed plotly's JavaScript."""
    if version != plotly_version():
        raise NotFound("another plotly is installed now; open the page again")
    response = Response(packed_plotly(), content_type="text/javascript; charset=utf-8")
    response.headers["Content-Encoding"] = "gzip"
    response.cache_control.public = True
    response.cache_control.immutable = True
    response.cache_control.max_age = _FOREVER_S
    return response


@blueprint.errorhandler(BackendError)
def refused(error: BackendError) -> Response:
    """An error as a page."""
    response = _page("error.html", message=str(error), request_id=g.request_id)
    response.status_code = error.http_status
    return response


def guarded(response: Response) -> Response:
    """Any answer of ours, with what browsers may do with it; unless it says more, keep nothing."""
    response.headers.update(HEADERS)
    if "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    return response


def _page(template: str, **shown: object) -> Response:
    """A page, with a session for its buttons."""
    sessions = _sessions()
    cookie = request.cookies.get(COOKIE, "")
    new = not sessions.is_ours(cookie)
    if new:
        cookie = sessions.begin()
    text = render_template(
        template,
        **shown,
        token=sessions.token(cookie),
        may_act=_guarded(),
        figures=figures,
        plotly_version=plotly_version(),
        style_ids=style_ids,
    )
    response = make_response(text)
    if new:
        response.set_cookie(
            COOKIE, cookie, httponly=True, samesite="Strict", secure=request.is_secure
        )
    return response


def _panel(name: str, project_id: int, **shown: object) -> Response:
    template = f"panels/{name}.html" if _by_script() else "panel.html"
    return _page(template, name=name, project=project_id, **shown)


def _by_script() -> bool:
    """Whether our script asks for a panel, to put it into a page."""
    return "X-Panel" in request.headers


def _store(project_id: int) -> ProjectStore:
    return services().jobs.stores.connected(project_id)


def _guarded() -> bool:
    """Whether a login guards us: only then pictures are shown and buttons work."""
    return services().settings.basic_auth is not None


def _sessions() -> Sessions:
    return Sessions(services().settings.data_dir)
