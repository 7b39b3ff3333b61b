"""Two heaps for all threads, seen from outside: what a process maps."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Each thread keeps something in a heap of its own, where it is given one.
PROGRAM = """
import sys, threading
if "share" in sys.argv:
    from backend.heap import share_heaps
    share_heaps()
from backend.heap import give_back
go, kept = threading.Event(), []
def hold():
    kept.append([bytes(300) for _ in range(1000)])
    go.wait()
threads = [threading.Thread(target=hold) for _ in range(16)]
for thread in threads: thread.start()
while len(kept) < 16: pass
give_back()
# A heap of a thread is mapped in pieces of 64 MiB, of which a part is used.
print(sum(line.split()[1] == "---p" for line in open("/proc/self/maps")))
go.set()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's heaps")
def test_threads_share_heaps() -> None:
    def mapped(*words: str) -> int:
        command = [sys.executable, "-c", PROGRAM, *words]
        done = subprocess.run(command, env={}, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert mapped("share") + 8 < mapped()
