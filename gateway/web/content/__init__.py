"""What bots read of a company and people write: profile, catalog, prompts. Operations without a page, an address or a command.

    profile.py   catalog.py   catalog_csv.py   prompts.py      validate, store, audit
    sandbox.py                                                  a prompt tried on a language model

Each takes a tenant and plain data and gives the result, or raises Invalid with every problem by its path: pages, the REST API
and the tenant file say the same. Read `gateway/web/api/bot_config.py` for what bots get of it.
"""
