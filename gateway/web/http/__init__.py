"""HTTP itself: the two servers, routes, request bodies, streams. Knows no address and no page."""
