"""The kinds of call the lab plays, by family, each with its truth from the SIP side. `KINDS` has them all by name."""

from tests.lab.kinds import click, forwarding, incoming, lines, outgoing, plain, queues, sharing, transfers
from tests.lab.kinds.truth import DEVICES, KINDS, Truth

FAMILIES = (plain, incoming, forwarding, lines, queues, outgoing, click, transfers, sharing)

__all__ = ["DEVICES", "FAMILIES", "KINDS", "Truth"]
