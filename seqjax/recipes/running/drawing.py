"""Figures of a run: the numbers behind each are kept, and the same numbers make the same file.

``loss.json`` beside ``loss.png`` holds the kind of figure and the numbers it shows; a figure is always drawn from that
file, so that it can be drawn again by ``python -m seqjax.recipes.pictures RUN/loss.json --figures pdf``. A number that
is not finite is null there, and a gap in a line.
"""

import importlib
import json
import math
from pathlib import Path
from typing import Any

from seqjax.recipes.running import files
from seqjax.recipes.running.options import BadInput, Figures
from seqjax.recipes.running.run import Run

PICTURES = "seqjax.recipes.pictures"
# Kinds of figures, and the functions from their numbers to a figure.
DRAWN = {
    "learning curve": f"{PICTURES}.curves:curves",
    "curves": f"{PICTURES}.curves:curves",
    "compared": f"{PICTURES}.compared:compared",
    "seeds": f"{PICTURES}.seeds:seeds",
    "confusion": f"{PICTURES}.tables:confusion",
    "attention": f"{PICTURES}.tables:attention",
    "automaton": f"{PICTURES}.automaton:automaton",
    "captions": f"{PICTURES}.captions:captions",
    "forecast": f"{PICTURES}.series:forecast",
    "free run": f"{PICTURES}.series:free_run",
    "gaps": f"{PICTURES}.gaps:gaps",
    "hidden states": f"{PICTURES}.hidden_states:hidden_states",
    "lattice": f"{PICTURES}.lattice:lattice",
    "piano roll": f"{PICTURES}.piano_roll:piano_roll",
    "spikes": f"{PICTURES}.spikes:spikes",
    "gradients": "seqjax.gradients.figures:training",
    "chains": "seqjax.gradients.figures:chains",
    "products": f"{PICTURES}.laboratory:products",
    "iterates": "seqjax.gradients.figures:iterates",
    "bifurcation": "seqjax.gradients.figures:bifurcation",
    "basins": f"{PICTURES}.laboratory:basins",
    "cliff": "seqjax.gradients.figures:cliff",
    "clipping": "seqjax.gradients.figures:clipping",
    "depth": "seqjax.gradients.figures:depth",
    "bounded": "seqjax.gradients.figures:bounded",
    "flow": f"{PICTURES}.laboratory:flow",
    "distance": "seqjax.gradients.figures:distance",
    "unrolled": "seqjax.gradients.figures:unrolled",
    "shapes": "seqjax.gradients.figures:shapes",
    "latch": "seqjax.gradients.figures:latch",
    "remedies": "seqjax.gradients.figures:remedy_curves",
    "capacity": "seqjax.gradients.figures:capacity",
    "gates": "seqjax.gradients.figures:gates",
    "reset activity": "seqjax.gradients.figures:reset_activity",
    "tagger": "seqjax.gradients.figures:tagger",
}
SETTINGS: Any = {"svg.hashsalt": "seqjax", "pdf.fonttype": 42}  # names of parts in an SVG; text of a PDF stays text
# No date and no version: the same numbers give the same bytes.
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": "seqjax", "Date": None},
}


def save(run: Run, name: str, kind: str, /, **numbers: Any) -> Path:
    """Writes what a figure shows as ``NAME.json`` in the run's folder, and draws it beside, as ``--figures`` asks.

    Args:
      run: whose folder and options.
      name: of both files.
      kind: one of `DRAWN`.
      **numbers: what its function takes; arrays, too.

    Returns:
      The path of the figure.

    Example:
      >>> import tempfile
      >>> run = Run(Path(tempfile.mkdtemp()), {"options": {"figures": "svg"}})
      >>> told = {"lines": {"training": ([0, 10], [2.5, 1.5])}, "levels": {}, "x_label": "updates", "y_label": "nats"}
      >>> save(run, "loss", "curves", **told).name
      'loss.svg'
      >>> read(run.folder / "loss.json")[1]["lines"]
      {'training': [[0, 10], [2.5, 1.5]]}
    """
    path = run.folder / f"{name}.json"
    text = json.dumps({"figure": kind, "numbers": plain(numbers)}, ensure_ascii=False, allow_nan=False)
    files.replace(path, text + "\n")
    return draw(path, run.config["options"].get("figures", "png"))


def draw(path: Path, figures: Figures) -> Path:
    """Draws the figure whose numbers a file holds, beside it; its path."""
    import matplotlib

    kind, numbers = read(path)
    module, _, function = DRAWN[kind].partition(":")
    drawn = path.with_suffix(f".{figures}")
    with matplotlib.rc_context(SETTINGS):
        figure = getattr(importlib.import_module(module), function)(**numbers)
        figure.savefig(drawn, dpi=200, metadata=METADATA[figures])
    return drawn


def read(path: Path) -> tuple[str, dict[str, Any]]:
    """The kind and the numbers of a figure; anything else is bad input."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"figures: expected {path} to be the numbers of a figure, got no readable JSON. Name the file beside one."
        ) from error
    if not isinstance(found, dict) or found.get("figure") not in DRAWN or not isinstance(found.get("numbers"), dict):
        raise BadInput(
            f"figures: expected {path} to be the numbers of a figure, got another kind of file. Name the file beside "
            "one."
        )
    return found["figure"], found["numbers"]


def plain(value: Any) -> Any:
    """Arrays as lists, and None for what is not finite, which JSON cannot hold.

    >>> import numpy as np
    >>> plain({"a": np.array([1.5, np.nan]), "b": (np.int32(2), "c")})
    {'a': [1.5, None], 'b': [2, 'c']}
    """
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
