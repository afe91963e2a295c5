"""Deals that live in two CRMs: events become runs, runs are carried, both sides are compared."""
