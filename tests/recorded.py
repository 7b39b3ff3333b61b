"""The project of the recorded payloads."""

from __future__ import annotations

LABEL_STUDIO = "http://label-studio.test:8080"
PROJECT_ID, CREATED_S = 1, 1795231806
CLASSES = ("airplane", "cat", "dog", "ship")
