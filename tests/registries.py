"""Registries as tests change them: what is added is forgotten at the end, and files are looked for again."""

from __future__ import annotations

from typing import Any

import pytest

from kdbench.registry import Registry


def reopen(registry: Registry[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test add members to a registry, and let it look for files and packages once more."""
    registry.all()
    for part in ("_named", "_members", "_by_member"):
        monkeypatch.setattr(registry, part, dict(getattr(registry, part)))
    monkeypatch.setattr(registry, "_searched", False)
