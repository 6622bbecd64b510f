"""What services call, and what each connected person must then get: the wire contract as a table.

A value that is a function judges what stands in its place; everything else must be equal, types included
(1 is not 1.0, and neither is True).
"""

import base64
import dataclasses
import time

USER = "alice"
ROOM = "event:123"
STREAM = f"user:{USER}"


@dataclasses.dataclass(frozen=True)
class Call:
    """One notification."""

    method: str
    request: dict
    type: str
    payload: dict
    # Critical: its frames, and the answer to the caller, say where it is kept.
    stored: bool = False
    # Text that must be found in the frame byte for byte.
    verbatim: str = ""


# Spaces, order and a number that no double can hold are there to be kept.
VERBATIM = '{"event_id":"123", "available":41,"ratio":1.50,"seat":9007199254740993,"name":"Gr\u00f6\\u00dfe"}'

CALLS = [
    Call(
        "NotifyBookingResult",
        {"user_id": USER, "booking_id": "b-1", "success": True, "message": "Booking confirmed",
         "booking_reference": "BK12345", "event_id": "123", "seat_numbers": ["A1", "A2"], "total_amount": "100.00",
         "currency": "USD", "idempotency_key": "k-1"},
        "booking:confirmed",
        {"booking_id": "b-1", "message": "Booking confirmed", "booking_reference": "BK12345", "event_id": "123",
         "seat_numbers": ["A1", "A2"], "total_amount": "100.00", "currency": "USD"},
        stored=True,
    ),
    Call(
        "NotifyBookingResult",
        {"user_id": USER, "booking_id": "b-2", "success": False, "message": "Sold out"},
        "booking:failed",
        {"booking_id": "b-2", "message": "Sold out"},
        stored=True,
    ),
    Call(
        "NotifyQueuePosition",
        {"user_id": USER, "event_id": "123", "position": 42, "total": 5_000_000_000, "estimated_wait_seconds": 90,
         "version": 7},
        "booking:queue_position",
        {"event_id": "123", "position": 42, "total": 5_000_000_000, "estimated_wait_seconds": 90, "version": 7},
    ),
    Call(
        "NotifyQueuePosition",
        {"user_id": USER, "event_id": "123", "position": 0, "version": 8},
        "booking:queue_position",
        {"event_id": "123", "position": 0, "version": 8},
    ),
    Call(
        "NotifyPaymentStatus",
        {"user_id": USER, "payment_id": "p-1", "booking_id": "b-1", "status": "processing"},
        "payment:processing",
        {"payment_id": "p-1", "booking_id": "b-1", "status": "processing"},
        stored=True,
    ),
    Call(
        "NotifyPaymentStatus",
        {"user_id": USER, "payment_id": "p-1", "booking_id": "b-1", "status": "success", "amount": "100.00",
         "currency": "USD", "message": "Paid"},
        "payment:success",
        {"payment_id": "p-1", "booking_id": "b-1", "status": "success", "amount": "100.00", "currency": "USD",
         "message": "Paid"},
        stored=True,
    ),
    Call(
        "NotifyPaymentStatus",
        {"user_id": USER, "payment_id": "p-2", "status": "failed", "message": "Card declined \u2013 \"try again\""},
        "payment:failed",
        {"payment_id": "p-2", "status": "failed", "message": "Card declined \u2013 \"try again\""},
        stored=True,
    ),
    Call(
        "BroadcastEvent",
        {"room": ROOM, "event_type": "ticket:availability",
         "payload": {"event_id": "123", "available": 42, "share": 0.5, "open": True, "note": None, "rows": ["A", "B"]}},
        "ticket:availability",
        {"event_id": "123", "available": 42, "share": 0.5, "open": True, "note": None, "rows": ["A", "B"]},
    ),
    Call(
        "BroadcastEvent",
        {"room": ROOM, "event_type": "ticket:availability",
         "payload_json": base64.b64encode(VERBATIM.encode()).decode()},
        "ticket:availability",
        {"event_id": "123", "available": 41, "ratio": 1.5, "seat": 9007199254740993, "name": "Gr\u00f6\u00dfe"},
        verbatim=VERBATIM,
    ),
    Call(
        "SendToUser",
        {"user_id": USER, "event_type": "notification:new", "payload": {"id": "n-1", "title": "Doors open at 19:00"}},
        "notification:new",
        {"id": "n-1", "title": "Doors open at 19:00"},
        stored=True,
    ),
]

# Calls that must be refused, and the field that the refusal names.
REFUSED = [
    ("NotifyBookingResult", {"booking_id": "b-3", "success": True}, "user_id"),
    ("NotifyPaymentStatus", {"user_id": USER, "payment_id": "p-3", "status": "lost"}, "status"),
    ("BroadcastEvent", {"room": ROOM}, "event_type"),
    ("GetHistory", {"limit": 5}, "user_id"),
    ("GetDeliveryState", {}, "user_id"),
]


def greeting():
    """`system:connected`, as every connection of the user gets it before anything was sent to them."""
    return {"type": "system:connected", "payload": {
        "connection_id": a_text,
        "user_id": USER,
        "authenticated": True,
        "server_time": lambda ms: is_int(ms) and abs(ms / 1000 - time.time()) < 60,
        "ping_interval_ms": 30_000,
        "streams": [{"stream": STREAM, "epoch": a_text, "offset": 0}],
    }}


def joined(members):
    """`room:joined` for the member number `members`. The count is the shard's own, so it depends on who landed where."""
    return {"type": "room:joined", "id": "join", "payload": {
        "room": ROOM, "members": lambda told: is_int(told) and 1 <= told <= members,
    }}


def frame(call, answer):
    """What a person gets of a call, where `answer` is what its caller got."""
    position = {name: answer[name] for name in ("stream", "epoch", "offset")} if call.stored else {}
    return {"type": call.type, "payload": call.payload, **position}


def answer(call, connections, stored_before):
    """What the caller of a notification gets that reached so many connections, after so many stored ones."""
    place = {"stream": STREAM, "offset": stored_before + 1, "epoch": a_text} if call.stored \
        else {"stream": "", "offset": 0, "epoch": ""}
    return {"success": True, "delivered_connections": connections, "published": False, "message": is_text, **place}


def stats(connections):
    """What GetConnectionStats says of so many connections of one user, all in one room."""
    return {
        "total_connections": connections,
        "authenticated_connections": connections,
        "unique_users": 1,
        "rooms": lambda rooms: rooms.get(ROOM) == connections,
        "connections_per_core": lambda counts: sum(counts) == connections,
    }


def is_int(value):
    return type(value) is int


def is_text(value):
    return isinstance(value, str)


def a_text(value):
    return is_text(value) and value != ""


def agrees(expected, actual):
    """Whether `actual` is what the table says."""
    if callable(expected):
        return expected(actual)
    if type(expected) is not type(actual):
        return False
    if isinstance(expected, dict):
        return expected.keys() == actual.keys() and all(agrees(expected[key], actual[key]) for key in expected)
    if isinstance(expected, list):
        return len(expected) == len(actual) and all(map(agrees, expected, actual))
    return expected == actual
