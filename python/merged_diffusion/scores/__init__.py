"""What likelihood, bound and sampling share: images as given, experts made ready, rows, means and errors."""
