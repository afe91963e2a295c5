"""The AI operator: who answers clients from the active prompt, with tools, and hands over to people in time."""
