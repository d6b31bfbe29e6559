"""Sets of images: ``load_data("photos")``."""

from merged_diffusion.data.bundled import load_bundled as load_data

__all__ = ["load_data"]
