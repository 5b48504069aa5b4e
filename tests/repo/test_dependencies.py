"""pyproject.toml declares what the code imports, and constraints.txt pins what is installed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repo.modules import OPTIONAL, ROOT, Import, imports, sources, third_party

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMESPACES = {"google": {"protobuf", "googleapis-common-protos"}}


def names(requirements: Iterable[str]) -> set[str]:
    """The canonical distribution names in a list of requirements, this project's own left out."""
    found = {canonicalize_name(Requirement(line).name) for line in requirements}
    return found - {canonicalize_name(PROJECT["name"])}


PLAIN = names(PROJECT["dependencies"])
EXTRAS = {extra: names(lines) for extra, lines in PROJECT["optional-dependencies"].items()}
PROVIDERS = {
    module: {canonicalize_name(name) for name in found} for module, found in metadata.packages_distributions().items()
}


def providers(target: str) -> set[str]:
    """The distributions that provide an imported module."""
    top = target.partition(".")[0]
    return NAMESPACES.get(top, PROVIDERS.get(top, {top}))


def constraints() -> dict[str, Requirement]:
    """The pins by canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins}


def allowed(statement: Import) -> set[str]:
    """The distributions that an import statement may rely on."""
    if statement.module.startswith("training"):
        return PLAIN | EXTRAS["train"] | EXTRAS["gpu"]
    if statement.module in OPTIONAL:
        return PLAIN | EXTRAS[OPTIONAL[statement.module]]
    return PLAIN.union(*(EXTRAS[extra] for extra in EXTRAS if extra != "dev")) if statement.lazy else PLAIN


def test_what_is_imported_is_declared() -> None:
    foreign = [found for found in imports() if third_party(found.target)]
    assert [str(found) for found in foreign if not providers(found.target) & allowed(found)] == []


def test_what_needs_an_extra_is_imported_late() -> None:
    assert set(OPTIONAL) <= set(sources())
    users = [found for found in imports() if found.target in OPTIONAL and not found.module.startswith("training")]
    assert [str(found) for found in users if not found.lazy and found.module not in OPTIONAL] == []


def test_the_plain_install_is_free_of_torch() -> None:
    reached, left = set(), set(PLAIN)
    while left:
        name = left.pop()
        reached.add(name)
        requirements = [Requirement(line) for line in metadata.requires(name) or []]
        needed = {item.name for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})}
        left |= {canonicalize_name(item) for item in needed} - reached
    assert reached >= {"grpcio", "onnxruntime", "typing-extensions"}
    assert reached.isdisjoint({"torch", "transformers", "peft", "pyarrow"})


def test_every_declared_dependency_is_pinned_within_its_range() -> None:
    pins = constraints()
    installed = {"gpu", "train", "parquet", "otel", "bench", "docs", "http", "openvino", "dev"}
    tested = [extra for extra in EXTRAS if extra in installed]
    lines = PROJECT["dependencies"] + [line for extra in tested for line in PROJECT["optional-dependencies"][extra]]
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        if name == canonicalize_name(PROJECT["name"]):
            continue
        (pin,) = pins[name].specifier
        assert pin.operator == "==", f"{name}: constraints.txt must pin one release"
        assert requirement.specifier.contains(pin.version), f"{name}: {pin.version} is outside {requirement.specifier}"


def test_installed_releases_are_those_of_the_constraints() -> None:
    """A local build such as torch 2.13.0+cpu satisfies its pin."""
    installed = {canonicalize_name(item.name): item.version for item in metadata.distributions()}
    wrong = [f"{pin} but {installed[name]}" for name, pin in constraints().items()
             if name in installed and not pin.specifier.contains(installed[name])]  # fmt: skip
    assert wrong == []
    assert constraints()["torch"].specifier.contains("2.13.0+cpu")
