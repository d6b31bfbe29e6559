"""Whether the declared rust-version suffices for every dependency; `cargo metadata` on standard input.

With ``--print``, the declared version alone, which needs no cargo.
"""

import json
import sys
import tomllib
from pathlib import Path


def number(version: str) -> tuple[int, ...]:
    """1.86 and 1.86.0 are the same version."""
    parts = [int(part) for part in version.split(".")]
    return (*parts, 0, 0)[:3]


def main() -> None:
    """Name the packages that need more than the workspace declares."""
    if sys.argv[1:] == ["--print"]:
        cargo = tomllib.loads((Path(__file__).parents[1] / "Cargo.toml").read_text(encoding="utf-8"))
        print(cargo["workspace"]["package"]["rust-version"])
        return
    metadata = json.load(sys.stdin)
    members = set(metadata["workspace_members"])
    packages = metadata["packages"]
    declared = {package["rust_version"] for package in packages if package["id"] in members}
    if len(declared) != 1 or None in declared:
        sys.exit(f"the workspace's crates declare rust-versions {declared}: one is needed")
    (version,) = declared
    newer = [
        f"{package['name']} {package['version']} needs {package['rust_version']}"
        for package in packages
        if package["rust_version"] is not None and number(package["rust_version"]) > number(version)
    ]
    if newer:
        sys.exit(f"rust-version {version} is too low: " + ", ".join(newer))
    print(f"rust-version {version} suffices for {len(packages)} packages")


if __name__ == "__main__":
    main()
