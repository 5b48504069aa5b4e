"""One target led by coverage: python -m tests.fuzz.guided TARGET [OPTION OF LIBFUZZER ...]; needs atheris.

An input that keeps its reader busy for as long as ``make fuzz`` allows ends the process, as one that fails does.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["cascade"]):
    from tests.fuzz.targets import TARGETS

from hypothesis import given, settings

from tests.fuzz.engine import HANG_S


def main(name: str) -> None:
    """Never returns: libFuzzer ends the process, with 0 if nothing failed."""
    target = TARGETS[name]

    @settings(database=None, deadline=None)
    @given(target.inputs)
    def run(value: object) -> None:
        target.check(value)

    atheris.Setup([sys.argv[0], f"-timeout={HANG_S}", *sys.argv[2:]], run.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1])
