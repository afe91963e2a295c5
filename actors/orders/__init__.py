"""Orders, bookings and requests: made, changed, agreed, on any instance, by people, programs and the AI operator alike."""
