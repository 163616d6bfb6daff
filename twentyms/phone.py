"""Print the link to the browser phone, with the key that opens it where it is locked.

The link is all that stands on stdout, so that a script can use it. Remarks go to stderr.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from gateway.core.phone_access import KEY_LIFE_S, mint_key, phone_key
from shared.process import ConfigError

from . import here, what_is_where
from .arguments import Parser


def main(arguments: Sequence[str]) -> int:
    """Raises ConfigError when there is no phone."""
    Parser("phone", __doc__).parse_args(arguments)
    settings = what_is_where.as_run(here.settings())
    if settings.phone_page == "off":
        raise ConfigError("PHONE_PAGE is off; set PHONE_PAGE=on and start the gateway again")
    if settings.allow_unsigned == "on":
        print(f"{settings.origin}/")
        return 0
    if not settings.twilio_auth_token:
        raise ConfigError("TWILIO_AUTH_TOKEN is not set; set it, or ALLOW_UNSIGNED=on for a phone without a lock")
    key = mint_key(phone_key(settings.twilio_auth_token), int(time.time()))
    print(f"{settings.origin}/?key={key}", flush=True)
    print(f"Whoever has this link can place calls for {KEY_LIFE_S // 3600} hours.", file=sys.stderr)
    return 0
