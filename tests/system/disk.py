"""A small disk, to be full."""

import os
import subprocess


class Disk:
    """small: False without root, or where nothing may be mounted; then it is a directory, which is never full."""

    def __init__(self, path, size="64m"):
        self.path = path
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "weir-test", str(path)]
        self.small = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0

    def fill(self):
        with open(self.path / "filler", "wb", buffering=0) as f:
            try:
                while f.write(bytes(4096)):
                    pass
            except OSError:
                pass

    def empty(self):
        (self.path / "filler").unlink()

    def stop(self):
        if self.small:
            subprocess.run(["umount", "-l", str(self.path)], check=True)
