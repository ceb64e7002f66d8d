"""Times, memory and operations of dense and pruned answers: python scripts/profile.py --help"""

import importlib.util
import os
import sys
from pathlib import Path

if __name__ == "profile":
    # `cProfile`, which transformers imports, asks for the standard library's module of this name, and scripts/ is the
    # first place where a script's imports look: hand it over.
    found = importlib.util.spec_from_file_location("profile", Path(os.__file__).with_name("profile.py"))
    assert found is not None
    assert found.loader is not None
    sys.modules["profile"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(sys.modules["profile"])

if __name__ == "__main__":
    from sharpv.metrics.profiling.command import main

    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"error: {error}")
