"""Name servers made up for one daemon, by a library that is loaded into it."""

import os

import nodes as real_nodes
import procs
import pytest
import weir

SOURCE = real_nodes.ROOT / "tests" / "names" / "preload.c"


class Names:
    """env: for the daemon. Names can be looked up while they have an address here; else that takes unknown_ms."""

    def __init__(self, directory, unknown_ms=0, **addresses):
        if os.path.basename(os.path.dirname(os.path.dirname(weir.binary()))) in ("asan", "fuzz"):
            pytest.skip("a sanitizer wants to be loaded first")
        self.file = directory / "names"
        self.set(**addresses)
        library = directory / "names.so"
        made = procs.run(["cc", "-std=c17", "-shared", "-fPIC", "-O1", str(SOURCE), "-o", str(library)])
        assert made.returncode == 0, made.stderr
        self.env = {"LD_PRELOAD": str(library), "NAMES": str(self.file), "NAMES_MS": str(unknown_ms)}

    def set(self, **addresses):
        text = "".join(f"{name} {address}\n" for name, address in addresses.items())
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)
