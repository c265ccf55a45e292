"""Tests of what exists for speed alone: they are left out where the plain forms run."""

from pushforward.switch import PLAIN

collect_ignore_glob = ["*.py"] if PLAIN else []
