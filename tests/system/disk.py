"""A small disk, to be full."""

import fcntl
import os
import subprocess

PAGE = 4096


class Disk:
    """small: False without root, or where nothing may be mounted; then it is a directory, which is never full."""

    def __init__(self, path, size="64m"):
        self.path = path
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "weir-test", str(path)]
        self.copies = []
        self.small = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0

    def fill(self):
        with open(self.path / "filler", "wb", buffering=0) as f:
            try:
                while f.write(bytes(4096)):
                    pass
            except OSError:
                pass

    def fill_for_good(self, environment):
        """What its database has freed is not used again either: a copy that does not get on still reads it."""
        self.fill()
        reads, writes = os.pipe()
        fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, PAGE)  # while it is empty: later it may not fit any more
        copy = subprocess.Popen(["mdb_copy", str(environment)], stdout=writes, stderr=subprocess.DEVNULL)
        os.close(writes)
        copy.stdout = open(reads, "rb")
        self.copies.append(copy)
        assert copy.stdout.read(3 * PAGE)  # it lets others write once two are through

    def empty(self):
        (self.path / "filler").unlink()
        self.let_go()

    def let_go(self):
        while self.copies:
            copy = self.copies.pop()
            copy.stdout.close()
            copy.kill()
            copy.wait()

    def stop(self):
        self.let_go()
        if self.small:
            subprocess.run(["umount", "-l", str(self.path)], check=True)
