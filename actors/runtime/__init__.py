"""What every actor stands on: supervision, mailboxes, the directory of slots, shard ownership, peers, group commit."""
