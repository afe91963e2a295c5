"""Events of a call that a person would notice: ringing, answer, transfer, end. Pure.

The middle layer of the tracker, above `pbx_state.py`; `calls.py` calls `_look` after everything that may have changed.
"""

from datetime import datetime, timedelta

from adapters.asterisk.call_state import Conversation, Story
from adapters.asterisk.channels import Channel, ChannelState
from adapters.asterisk.pbx_state import Exchange, Ignored, remember
from gateway.domain.events import CallAnswered, CallRinging, CallTransferred, Direction

MOVING = timedelta(seconds=0.3)
"""While somebody who talked is still on the line, others may have changed bridges before they do: so long it is waited
before a talk without them is a transfer."""

RECORDING_WAIT = timedelta(seconds=0.3)
"""How long a recorded call's end waits for the Cdr that names the file, where nothing else did."""


class Telling(Exchange):
    """Compares a call with what was reported of it."""

    def _ringing(self, call: Conversation) -> tuple[str, ...]:
        numbers = (
            leg.employee or leg.on_behalf
            for leg in call.channels.values()
            if leg.state == ChannelState.RINGING and leg.is_leg
        )
        return tuple(dict.fromkeys(number for number in numbers if number is not None))

    def _look(self, call: Conversation, at: datetime) -> None:
        """Reports what is new about a call."""
        ringing = self._ringing(call)
        if any(number not in call.ringing for number in ringing):
            call.ring_untold = True
        call.ringing = ringing
        rings = bool(ringing) or call.outside_ring is not None
        if call.ring_untold and rings and (story := self._story(call)) is not None:
            self._emit_ring(call, story, at)
        self._emit_talk(call, at)

    def _story(self, call: Conversation) -> Story | None:
        return call.story(self._directory, self._numbers)

    def _emit_ring(self, call: Conversation, story: Story, at: datetime) -> None:
        call.ring_untold, call.reported = False, True
        self._events.append(
            CallRinging(
                call_id=call.call_id,
                at=at,
                direction=story.direction,
                caller=story.caller,
                called=story.called,
                trunk=call.trunk,
                extensions=call.ringing,
                uncertain=call.hidden,
            )
        )

    def _talk(self, call: Conversation) -> tuple[Channel, list[Channel]] | None:
        """The other party's leg and the legs that talk with it. Of an internal call the caller is the other party."""
        outside = [
            leg for leg in call.channels.values() if leg.bridge and leg.known and not leg.employee and leg.is_leg
        ]
        anchors = sorted(outside, key=lambda leg: leg.on_behalf is not None)
        internal = (story := self._story(call)) is not None and story.direction is Direction.INTERNAL
        if internal and story is not None:
            mine = [leg for leg in call.channels.values() if leg.bridge and leg.employee == story.caller]
            anchors = [leg for leg in mine if leg is call.origin] or mine[:1]
        for anchor in anchors:
            others = [leg for leg in self._bridges.company(anchor, self._channels) if leg is not anchor]
            if others:
                return anchor, others
        return None

    def _is_talking(self, call: Conversation) -> bool:
        return self._talk(call) is not None

    def _speakers(self, call: Conversation) -> list[str]:
        talk = self._talk(call)
        return [number for leg in (talk[1] if talk else []) if (number := leg.employee or leg.on_behalf)]

    def _emit_talk(self, call: Conversation, at: datetime) -> None:
        if (talk := self._talk(call)) is None:
            call.moving_since = None
            return
        story = call.story(self._directory, self._numbers, final=True)
        assert story is not None
        anchor, others = talk
        speakers = [number for leg in others if (number := leg.employee or leg.on_behalf)]
        if call.answered_at is None:
            if not call.reported:
                self._emit_ring(call, story, at)
            call.answered_at = at
            outgoing = story.direction is Direction.OUTGOING
            call.extension = story.caller or None if outgoing else (speakers[0] if speakers else None)
            call.last_extension = speakers[0] if speakers else call.extension
            if anchor.employee is None:
                call.trunk = self._line(anchor) or call.trunk
            sought = anchor if outgoing else others[0]
            since = call.ringing_since(story.direction, story.caller) or sought.began
            call.wait_s = round(max(0.0, (at - since).total_seconds()), 3)
            self._events.append(
                CallAnswered(
                    call_id=call.call_id, at=at, extension=call.extension, wait_s=call.wait_s, uncertain=call.hidden,
                )
            )  # fmt: skip
        elif speakers and call.last_extension not in speakers:
            self._emit_transfer(call, speakers[0], at)
        else:
            call.moving_since = None

    def _emit_transfer(self, call: Conversation, to: str, at: datetime) -> None:
        since = call.moving_since or at
        stays = any(
            (leg.employee or leg.on_behalf) == call.last_extension and leg.state == ChannelState.UP
            for leg in call.channels.values()
        )
        if stays and at - since < MOVING:
            if call.moving_since is None:
                call.moving_since = at
                self._moving[call.key] = (call, at - self._skew + MOVING)
            return
        call.moving_since = None
        self._events.append(
            CallTransferred(
                call_id=call.call_id, at=since, from_extension=call.last_extension, to_extension=to,
                uncertain=call.hidden,
            )
        )  # fmt: skip
        call.last_extension = to

    def _finish(self, call: Conversation, at: datetime) -> None:
        """The last channel is gone."""
        if call.recording_due and call.recording is None:
            for link in call.links:
                self._calls.pop(link, None)
            self._ending[call.key] = (call, at, at - self._skew + RECORDING_WAIT)
            return
        self._end(call, at)

    def _tick(self, now: datetime) -> None:
        for key in [key for key, (_, _, due) in self._ending.items() if due <= now]:
            self._end_waiting(key)
        for key in [key for key, (_, due) in self._moving.items() if due <= now]:
            call, _ = self._moving.pop(key)
            if call.moving_since is not None and self._calls.get(key) is call:
                self._emit_talk(call, max(now + self._skew, call.moving_since + MOVING))

    def _end_waiting(self, key: str | None = None) -> None:
        for waiting in [key] if key is not None else list(self._ending):
            call, at, _ = self._ending.pop(waiting)
            self._end(call, at)

    def _end(self, call: Conversation, at: datetime, *, uncertain: bool = False) -> None:
        for link in call.links:
            self._calls.pop(link, None)
            remember(self._ended, link)
        if not call.reported and call.origin is None and not call.internal_hints and not call.outside_hint:
            # Channels that the PBX made for itself: no person had a part in it.
            self.ignored.appendleft(Ignored(at, call.key, "no_person"))
            return
        cut = uncertain and call.origin is not None and call.origin.state == ChannelState.DOWN
        if not call.reported and not call.begun and call.adopted is None and not cut:
            self.ignored.appendleft(Ignored(at, call.key, "not_begun"))
            return
        if call.placed and not call.reported and call.origin is not None and not call.origin.called:
            self._called_in(call.origin, call)  # nothing ever showed that the PBX called it
        story = call.story(self._directory, self._numbers, final=True)
        assert story is not None
        self._events.append(call.ended(story, at, uncertain=uncertain))

    def _vanished(self, call: Conversation, at: datetime) -> None:
        """It ended in the gap: as much of it as was known before."""
        call.talk_unknown = self._gap_at is None
        self._end(call, self._gap_at or at, uncertain=True)

    def _drop_oldest(self, now: datetime) -> None:
        oldest = min(self._calls.values(), key=lambda call: call.began)
        self.ignored.appendleft(Ignored(now, oldest.key, "too_many"))
        for channel in list(oldest.channels.values()):
            self._remove(channel)
        self._end(oldest, now + self._skew, uncertain=True)
