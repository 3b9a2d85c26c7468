"""Tests of the daemon have a home for one."""

from tests.daemon_home import daemon_home

__all__ = ["daemon_home"]
