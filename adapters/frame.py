"""A softphone of ours in an outside system's pages: whose pages may hold it, and how it speaks with them. A shape.

The gateway serves `/frames/KIND/HOOK_ID`. What is the same for all systems (who is signed in, calls, dialling) is the gateway's
(`gateway/web/frames/`); the adapter's folder has the module that speaks with the system's pages:

    export async function start(phone) -> {show(call)}      phone.dial(number), phone.language
"""

from dataclasses import dataclass

MODULE = "softphone.js"
"""The module's name in the adapter's folder."""


@dataclass(frozen=True, slots=True)
class SoftphoneFrame:
    """The frame of one integration."""

    ancestors: tuple[str, ...]
    """Origins whose pages may hold the frame; never of anybody else: scripts of these origins run in it."""
    scripts: tuple[str, ...]
    """Whole addresses of the system's own script, the likeliest first: nothing else is loaded from elsewhere."""
    shows_incoming: bool = True
    """Whether the client's record opens when it rings."""
