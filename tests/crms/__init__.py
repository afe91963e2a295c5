"""One suite over every CRM: the same calls, chats and orders, each CRM before its strict sandbox.

`crm.py` says what a sandbox has to offer, `of_KIND.py` registers one, `outbox.py` delivers as the gateway's outbox does, in memory and
without its pauses; `test_*.py` run for every CRM that is registered. A CRM is added by its one file.
"""
