"""The actions: each brings about one thing, is idempotent, and is safe to kill."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backend.reconcile.actions import (
    activate,
    bootstrap,
    cleanup,
    connect,
    embed,
    finetune,
    fit,
    promote,
    publish,
    sync,
)
from backend.reconcile.context import ProjectContext
from backend.reconcile.plan import Plan, Step

Action = Callable[[ProjectContext, Plan], None]

ACTIONS: Mapping[Step, Action] = {
    "sync": sync.run,
    "connect": connect.run,
    "activate": activate.run,
    "promote": promote.run,
    "bootstrap": bootstrap.run,
    "embed": embed.run,
    "fit": fit.run,
    "publish": publish.run,
    "finetune": finetune.run,
    "cleanup": cleanup.run,
}
