"""What the compiler and the linker do for the installed programs, read from the programs."""

import os
import re

import procs
import pytest
import weir

DAEMONS = ["weir-router", "weir-healthd", "weir-admin"]


def read(daemon, *options, program="readelf"):
    path = os.path.join(os.path.dirname(weir.binary()), daemon)
    out = procs.run([program, "--wide", *options, path])
    assert out.returncode == 0, out.stderr
    return out.stdout


@pytest.fixture(params=DAEMONS)
def daemon(request):
    if "__asan_init" in read(request.param, "--symbols"):
        pytest.skip("a build for tests")
    return request.param


def test_position_independent(daemon):
    assert re.search(r"Type:\s+DYN", read(daemon, "--file-header"))
    assert re.search(r"\(FLAGS_1\).*\bPIE\b", read(daemon, "--dynamic"))


def test_nothing_is_written_after_the_start(daemon):
    """Full RELRO: everything is bound before main, and read-only from then on."""
    assert "GNU_RELRO" in read(daemon, "--program-headers")
    dynamic = read(daemon, "--dynamic")
    assert "BIND_NOW" in dynamic or re.search(r"\(FLAGS_1\).*\bNOW\b", dynamic)
    assert "TEXTREL" not in dynamic


def test_nothing_is_both_written_and_executed(daemon):
    segments = re.findall(r"^\s+([A-Z_]+)\s+0x\S+ 0x\S+ 0x\S+ 0x\S+ 0x\S+ ([RWE ]{3})", read(daemon, "--program-headers"), re.M)
    flags = dict(segments)
    assert "GNU_STACK" in flags and len([s for s in segments if s[0] == "LOAD"]) >= 3
    assert not [s for s in segments if "W" in s[1] and "E" in s[1]]


def test_no_paths_of_the_build(daemon):
    assert not re.search(r"\((RPATH|RUNPATH)\)", read(daemon, "--dynamic"))


def test_guarded_stack_and_buffers(daemon):
    imported = read(daemon, "--dyn-syms")
    assert "__stack_chk_fail" in imported
    for checked in ("__memcpy_chk", "__snprintf_chk", "__vsnprintf_chk"):
        assert checked in imported
    assert not re.search(r" (gets|strcpy|strcat|sprintf|vsprintf)@", imported)


def test_control_flow(daemon):
    """Functions that are called indirectly are marked as such, for processors that check it. (Whether they do is up to the
    system's own startup code and libraries, which must be marked too.)"""
    if not re.search(r"Machine:.*X86-64", read(daemon, "--file-header")):
        pytest.skip("of x86-64 only")
    assert "endbr64" in read(daemon, "--disassemble=main", program="objdump")
