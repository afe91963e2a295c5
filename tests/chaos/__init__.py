"""The chaos harness: the product as real processes on a real PostgreSQL, and things that go wrong by a seed.

    plan.py      what goes wrong and when: all of it follows from the seed
    traffic.py   what goes in (posted calls, calls of a simulated PBX), what came out (the CRM's record of all it took)
    nemeses.py   what goes wrong
    proxy.py     links that can be cut, stalled or left half open;  server.py  a PostgreSQL that can be hurt
    owners.py    with several instances: who owned what when, and what two of them told side by side
    verdict.py   Jepsen's four sets, the judgement of the PBX's calls, repeats, order, recovery times, gates
    stage.py     the product between its sandboxes
    run.py       all of it together: `make chaos`, and the smaller run of `test_chaos.py`
    rows.py      promise -> test, for every row of the table that a test here or elsewhere proves

Nothing here knows how the gateway works: it posts, listens and counts, and reads the database at the end.
"""
