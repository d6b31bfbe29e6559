"""Files that may be anything: checked against what is there and read as data; nothing in them is executed."""
