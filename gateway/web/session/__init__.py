"""Who sent a request: sign-in, sessions, passwords, throttling, embedded sessions from a CRM."""
