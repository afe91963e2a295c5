"""Calls: PBX sessions, posted events, one actor a tenant that commits, click-to-call, smart redirect, recordings."""
