"""The process of one side: reads arguments line by line, does a round, answers with its figures. See `harness.Side`."""

import gc
import importlib
import json
import logging
import os
import sys


def main() -> None:
    """Until standard input ends. What a round prints goes to standard error."""
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), name)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.ERROR)
    for text in sys.stdin:
        gc.collect()
        answers.write(json.dumps(function(**json.loads(text))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
