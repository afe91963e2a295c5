"""A softphone in the pages of an outside system: calls of one person's number, the client's record, dialling on a click."""
