"""Keeping our registration in a CRM and its extension map equal to ours."""
