"""twentyms: the command, and what a file of tools imports."""

from __future__ import annotations

from toolbox.decorator import CallContext, ToolError, tool

__all__ = ["CallContext", "ToolError", "tool"]
