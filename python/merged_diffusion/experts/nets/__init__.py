"""Networks, written afresh: the bundled experts' in ``small``, the public ones under their own key names."""
