"""Guards round archives: what a container may hold, checked before anything in it is decoded."""
