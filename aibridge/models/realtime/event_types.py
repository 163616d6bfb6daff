"""The client's events of the Realtime API, for annotations: at run time, plain dictionaries.

event_types.pyi has the SDK's typed dictionaries, and mypy checks every event against those. Importing them takes 25 MB
and half a second of CPU in each worker, and nothing looks at them while it runs.
"""

from __future__ import annotations

from typing import Any

RealtimeClientEventParam = dict[str, Any]
RealtimeResponseCreateParamsParam = dict[str, Any]
RealtimeSessionCreateRequestParam = dict[str, Any]
