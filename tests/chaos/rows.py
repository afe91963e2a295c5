"""Which test proves which promise: rows 1 to 11 and 21 to 23 of the table of promises, each with its gate.

A test is named by its node id; `test_rows.py` keeps the names true. `make chaos` is the long run of rows 1 to 4 and 7.
"""

from collections.abc import Mapping
from typing import NamedTuple

DELIVERY = "tests/actors/delivery/test_worker.py::"
CACHE = "tests/test_cache.py::"
SPOOL = "tests/e2e/test_spool.py::"
LISTEN = "tests/store/postgres/test_listen.py::"
CHAOS = "tests/chaos/test_chaos.py::"
INSTANCES = "tests/chaos/test_instances.py::"


class Row(NamedTuple):
    """One promise."""

    promise: str
    gate: str
    tests: tuple[str, ...]


ROWS: Mapping[int, Row] = {
    1: Row(
        "an accepted event is never lost",
        "lost 0, unexpected 0, no call told wrong, invented or missing though heard, through kill -9 of the gateway",
        (f"{CHAOS}test_row_1_nothing_accepted_is_lost", "tests/e2e/test_kill.py::test_what_was_answered_is_told_however_often_the_gateway_is_killed"),
    ),
    2: Row(
        "... nor when PostgreSQL dies",
        "lost 0 through immediate stops, killed backends, an exhausted pool and a full disk; 95 % of the rate within 10 s",
        (f"{CHAOS}test_row_2_nothing_is_lost_when_postgresql_dies", f"{SPOOL}test_posts_are_answered_while_postgresql_is_away", "tests/store/embedded/test_embedded.py::test_a_server_that_dies_is_started_again_and_the_pool_goes_on"),
    ),
    3: Row(
        "at least once means about once",
        "a thing is told again only where its answer was lost, word for word, with the same id",
        (f"{CHAOS}test_row_3_a_repeat_is_the_same_word_for_word", f"{DELIVERY}test_an_ack_waits_for_the_database_and_nothing_is_sent_twice"),
    ),
    4: Row(
        "a 2xx from us means durable",
        "every post answered 200 is in the journal, though the gateway was killed at that moment",
        (f"{CHAOS}test_row_4_every_200_is_durable", f"{CHAOS}test_row_4_killed_with_its_database_at_every_200", f"{SPOOL}test_what_was_answered_is_there_when_the_gateway_is_killed_right_behind_it"),
    ),
    5: Row(
        "retries follow the published schedule",
        "exact times within the jitter; Retry-After obeyed; what cannot succeed is not repeated",
        (
            "tests/actors/delivery/test_schedule.py::test_the_published_schedule", "tests/actors/delivery/test_schedule.py::test_410_parks",
            "tests/actors/delivery/test_schedule.py::test_retry_after_is_obeyed_to_the_second",
            f"{DELIVERY}test_what_failed_is_tried_by_the_schedule", f"{DELIVERY}test_a_moment_the_other_side_named_is_kept",
            f"{DELIVERY}test_a_rate_limit_pauses_all_and_uses_no_attempt",
            f"{DELIVERY}test_what_cannot_succeed_is_not_repeated",
        ),
    ),
    6: Row(
        "one dead CRM harms nobody else",
        "the other tenant's slowest within thrice what it was, or a second, on a machine that does much else; the dead one's calls follow in order",
        (f"{CHAOS}test_row_6_a_crm_that_hangs_harms_its_own_tenant_alone", f"{DELIVERY}test_the_breaker_opens_tries_one_and_closes"),
    ),
    7: Row(
        "order per call is kept",
        "0 inversions",
        (f"{CHAOS}test_row_7_no_call_is_told_out_of_order", f"{DELIVERY}test_the_order_of_a_lane_survives_failures", "tests/actors/delivery/test_schedule.py::test_no_lane_ever_turns_round"),
    ),
    8: Row(
        "a crash stays in its actor",
        "an exception at every await of one actor: no neighbour misses a tick; too many park it",
        (
            "tests/actors/runtime/test_supervisor.py::test_a_throw_at_any_await_of_one_actor_costs_its_neighbours_nothing",
            "tests/actors/runtime/test_supervisor.py::test_too_many_crashes_park_the_actor_and_restart_brings_it_back",
        ),
    ),
    9: Row(
        "no orphan tasks, threads or sockets",
        "as many of each as before, after 50 tenants came and went",
        (
            "tests/actors/test_reconciler.py::test_fifty_tenants_leave_nothing_behind",
            "tests/actors/runtime/test_supervisor.py::test_nothing_is_left_after_fifty_children",
        ),
    ),
    10: Row(
        "poison is isolated",
        "the one that always raises is set aside with its traceback, its neighbours are told",
        ("tests/actors/calls/test_poison.py::test_one_poisoned_event_never_stops_the_rest",),
    ),
    11: Row(
        "the AMI reader is never the slow one",
        "a flood while PostgreSQL is away: one session, nothing waits in the PBX, no call missing",
        (f"{CHAOS}test_row_11_a_flood_while_postgresql_is_away", "tests/adapters/asterisk/test_flood.py::test_asterisk_never_has_to_wait_for_us", "tests/adapters/test_backlog.py::test_more_goes_to_the_disk_and_comes_back_in_order"),
    ),
    21: Row(
        "caches never lie for long",
        "a change is known though LISTEN was killed, stalled or said nothing",
        (
            f"{CACHE}test_a_notification_changes_the_copy_in_less_than_a_second",
            f"{CACHE}test_a_change_is_known_when_the_listen_connection_was_killed_first",
            f"{CACHE}test_the_poll_alone_finds_a_change",
            f"{LISTEN}test_a_stalled_backend_is_found_by_the_heartbeat",
            f"{LISTEN}test_a_killed_backend_is_replaced_and_everything_read_again",
        ),
    ),
    22: Row(
        "restart without a gap",
        "under load no request fails and no call is told wrong",
        ("tests/e2e/test_restart.py::test_restarts_fail_no_request_and_tell_no_call_wrong", "tests/adapters/asterisk/test_restarts.py::test_killed_twice_in_one_call_it_is_right_or_uncertain"),
    ),
    23: Row(
        "one owner per tenant",
        "one of two killed, or stopped for longer than its lease: epochs only rise, nothing is told by two or by a stale owner",
        (
            *(
                f"{INSTANCES}{name}"
                for name in (
                    "test_row_23_one_owner_a_tenant", "test_row_23_what_an_owner_leaves_is_taken_over",
                    "test_row_23_nothing_is_lost_between_two_owners",
                )
            ),
            "tests/e2e/test_instances.py::test_the_other_instance_takes_over",
            "tests/actors/delivery/test_worker.py::test_an_instance_that_was_replaced_sends_nothing",
        ),
    ),
}  # fmt: skip
