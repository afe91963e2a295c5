"""Who is asking: sign-in, sessions, passwords, throttling, embedded sessions from a CRM."""
