"""What has a name (experts, pairs, sets, statistics), where it lies and what is missing. Needs no torch."""
