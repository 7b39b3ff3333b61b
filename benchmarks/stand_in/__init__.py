"""A stand-in for Label Studio with one project of as many tasks as wanted; see server.py."""
