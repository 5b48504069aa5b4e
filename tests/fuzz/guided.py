"""One target led by coverage: python -m tests.fuzz.guided TARGET [OPTION OF LIBFUZZER ...]; needs atheris."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["cascade"]):
    from tests.fuzz.targets import TARGETS

from hypothesis import given, settings


def main(name: str) -> None:
    """Never returns: libFuzzer ends the process, with 0 if nothing failed."""
    target = TARGETS[name]

    @settings(database=None, deadline=None)
    @given(target.inputs)
    def run(value: object) -> None:
        target.check(value)

    atheris.Setup(sys.argv[1:], run.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1])
