"""Networks, written afresh: the bundled experts' in ``small``."""
