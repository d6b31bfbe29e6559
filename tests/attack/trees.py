"""What lies in a folder, less what differs between two runs of the same command: seconds and dates, and what
the commands of a sweep have spent, of which a killed one takes its own along.

Names that begin with a dot are drafts, by which no reader is led; they are told apart.
"""

import json
import re
import tomllib

VOLATILE = re.compile(r"seconds|date|time_profile|^spent$|^single_runs$")


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
    both = sorted(clean.keys() & found.keys())
    wrong += [
        f"{name} differs{_where(clean[name], found[name])}" for name in both if clean[name] != found[name]
    ]
    return sorted(wrong)


def _where(one, two, path=""):
    """The first place where two values of JSON are not the same."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        key = next(key for key in one if one[key] != two[key])
        return _where(one[key], two[key], f"{path}.{key}")
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        i = next(i for i in range(len(one)) if one[i] != two[i])
        return _where(one[i], two[i], f"{path}[{i}]")
    return f" at {path.lstrip('.')}: {str(two)[:80]} for {str(one)[:80]}" if path else ""


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
