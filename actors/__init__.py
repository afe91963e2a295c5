"""What is alive: the supervisor, mailboxes, the directory, and the actors themselves. Read `actors.runtime.supervisor` next."""
