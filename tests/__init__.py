"""Tests: a package of its own, since label-studio-ml installs another one called ``tests``."""
