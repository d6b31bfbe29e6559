"""What lies in a folder, less what differs between two runs of the same command: seconds and dates.

Names that begin with a dot are drafts, by which no reader is led; they are told apart.
"""

import json
import re
import tomllib

VOLATILE = re.compile(r"seconds|date|time_profile|pid|began|ended")


def tree(folder):
    """Content by path."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else _content(path)
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith(".")
    }


def drafts(folder):
    """Names of what a killed process may leave."""
    return {str(path.relative_to(folder)) for path in folder.rglob(".*")}


def differences(clean, found):
    """One line for each path that is not the same."""
    wrong = [f"{name} is missing" for name in clean.keys() - found.keys()]
    wrong += [f"{name} is left behind" for name in found.keys() - clean.keys()]
    wrong += [f"{name} differs" for name in clean.keys() & found.keys() if clean[name] != found[name]]
    return sorted(wrong)


def _content(path):
    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            return _still(json.loads(content))
        if path.suffix == ".jsonl":
            # A record that holds seconds has another checksum each time.
            records = [_still(json.loads(line)) for line in content.splitlines()]
            return [{k: v for k, v in record.items() if k != "crc32"} for record in records]
        if path.suffix == ".toml":
            return _still(tomllib.loads(content.decode()))
    except (ValueError, AttributeError):
        return content
    return content


def _still(value):
    if isinstance(value, dict):
        return {k: _still(v) for k, v in value.items() if not VOLATILE.search(k)}
    if isinstance(value, list):
        return [_still(item) for item in value]
    return value
