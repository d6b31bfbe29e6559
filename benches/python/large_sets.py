"""How long does a large set take to start on, and how much memory? Of each form that images come in.

A process of its own loads everything that ``nll`` imports, and then makes the plan of ``nll --limit 4``. It
tells the processor's seconds of both, and by how much the most memory grew above the imports (MiB).

    python benches/python/large_sets.py --images 50000 --folder /dev/shm/sets
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

FORMS = ("stored.npz", "packed.npz", "images.npy", "folder", "images.zip")
SHAPE = (3, 32, 32)


def make(folder: Path, form: str, n: int) -> Path:
    """A set of smooth images with some noise, as large as photographs are in each form."""
    import io

    from PIL import Image

    path = folder / f"{n}-{form}"
    if path.exists():
        return path
    draws = np.random.default_rng(0)
    waves = np.sin(draws.uniform(0, 6, (n, 3, 1, 1)) + np.linspace(0, 6, 32)) * 60
    images = np.clip(128 + waves + draws.normal(0, 8, (n, *SHAPE)).astype(np.float32), 0, 255).astype(
        np.uint8
    )
    if form == "stored.npz":
        np.savez(path, images=images, levels=256)
    elif form == "packed.npz":
        np.savez_compressed(path, images=images, levels=256)
    elif form == "images.npy":
        np.save(path, images)
    else:
        archive = zipfile.ZipFile(path, "w") if form == "images.zip" else None
        for i, image in enumerate(images):
            content = io.BytesIO()
            Image.fromarray(image.transpose(1, 2, 0)).save(content, "png")
            name = f"{i // 1000:05d}/img{i:08d}.png"
            if archive is not None:
                archive.writestr(name, content.getvalue())
                continue
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content.getvalue())
        if archive is not None:
            archive.close()
    return path


def start(path: str) -> dict[str, float]:
    """In this process: what the imports take, and what the plan takes above that."""
    from merged_diffusion.jobs import evaluate
    from merged_diffusion.jobs.metrics import LIKELIHOOD
    from merged_diffusion.jobs.plan import place
    from merged_diffusion.jobs.settings import Settings

    assert evaluate is not None
    imported, before = resource.getrusage(resource.RUSAGE_SELF), _most()
    settings = Settings.of({"data": path, "limit": 4, "pair": "scenes", "device": "cpu", "threads": 1})
    plan, _ = place(settings, None, LIKELIHOOD)
    assert len(plan.data) == 4
    done = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "imports_s": imported.ru_utime + imported.ru_stime,
        "start_s": done.ru_utime + done.ru_stime - imported.ru_utime - imported.ru_stime,
        "above_MiB": (_most() - before) / 1024,
    }


def _most() -> int:
    """The most memory so far, in KiB: ru_maxrss where there is no /proc, which begins with its parent's."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, default=Path("large-sets"))
    parser.add_argument("--form", choices=FORMS, action="append")
    parser.add_argument("--start", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.start:
        print(json.dumps(start(given.start)))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    for form in given.form or FORMS:
        path = make(given.folder, form, given.images)
        command = [sys.executable, __file__, "--start", str(path)]
        found = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        print(json.dumps({"form": form, "n": given.images} | json.loads(found.stdout)), flush=True)


if __name__ == "__main__":
    main()
