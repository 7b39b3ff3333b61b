"""Plots as files: a picture (PNG) and a page that needs no network (HTML).

matplotlib and plotly take a second to import, so each is imported where it draws.
"""
