"""The catalogue is asked before anything heavy is loaded."""

import subprocess
import sys

MODULES = ("absent", "cache", "entries", "fetched", "listing", "references", "sets")


def test_the_catalogue_loads_neither_torch_nor_numpy():
    imports = ", ".join(f"merged_diffusion.catalogue.{name}" for name in MODULES)
    code = f"import sys, {imports}; assert not {{'torch', 'numpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
