"""A trained model in a folder, of one's own or from the Hugging Face hub: parameters, how it is made, and a card."""

import json
import os
import re
from pathlib import Path
from typing import Any

import jax

from seqjax.base import PyTree
from seqjax.interop.config import from_config, to_config
from seqjax.interop.extras import needed
from seqjax.interop.files import load_params, printed, save_params
from seqjax.version import __version__

PARAMS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

TEXT = """\
---
library_name: seqjax
tags:
- seqjax
---

# {name}

`{call}`

{count:,} parameters in {types}, written by seqjax {version}. To read them:

```python
import seqjax as sj

model, params = sj.interop.from_pretrained("{place}"{more})
```
"""


def save_pretrained(folder: str | os.PathLike, module: Any, params: PyTree, *, config: bool = True) -> None:
    """Writes a model to a folder that `from_pretrained` reads, and that can be shared as it is.

    - ``model.safetensors``: the parameters by name, see `save_params`;
    - ``config.json``: the module as a record, see `to_config`;
    - ``README.md``: a card that says what it is; one that is there already is left alone.

    Args:
      folder: made where it is missing; files of these names are replaced.
      module: the cell, layer or model.
      params: its parameters.
      config: whether to write the module down; False for one that cannot be said, such as one with a function of your
        own: whoever reads the folder then gives it.

    Raises:
      TypeError: as `save_params`.
      ValueError: a module that cannot be said; nothing has been written then.

    Example:
      >>> import jax, tempfile, seqjax as sj
      >>> model = sj.serial(sj.embedding(65, 8), sj.recurrent(sj.lstm(8, 16)), sj.dense(16, 65))
      >>> folder = tempfile.mkdtemp()
      >>> sj.interop.save_pretrained(folder, model, model.init(jax.random.key(0)))
      >>> again, params = sj.interop.from_pretrained(folder)
      >>> again == model, params[2].b.shape
      (True, (65,))
    """
    said = to_config(module) if config else {"version": None, "module": None}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_params(folder / PARAMS, module, params)
    record = {"seqjax": __version__, **said, "printed": printed(module)}
    (folder / CONFIG).write_text(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    if not (folder / CARD).exists():
        (folder / CARD).write_text(_card(folder.resolve().name, module, params, config), "utf-8")


def from_pretrained(
    folder_or_id: str | os.PathLike, *, module: Any = None, revision: str | None = None
) -> tuple[Any, PyTree]:
    """Reads a model that `save_pretrained` wrote, from a folder or from the Hugging Face hub.

    Only what `to_config` can write is made: no code of the folder runs.

    Args:
      folder_or_id: a folder; or what is no folder here and has the form ``name`` or ``owner/name``, which is
        downloaded by ``huggingface_hub`` and kept in its cache.
      module: in place of what ``config.json`` says, for a folder without; the parameters must be of its call.
      revision: of the hub's repository, a branch, a tag or a commit.

    Returns:
      The module and its parameters.

    Raises:
      FileNotFoundError: neither a folder nor an id, or a folder without these files.
      ValueError: files that `from_config` or `load_params` refuse, or a folder that names no module.

    Example:
      A model with a function of one's own, which the folder cannot say:

      >>> import jax, jax.numpy as jnp, tempfile, seqjax as sj
      >>> def decay(params, x):
      ...     return x * jnp.exp(-params)
      >>> model = sj.serial(sj.recurrent(sj.gru(3, 4)), sj.pointwise(decay, lambda key: jnp.ones(4)))
      >>> folder = tempfile.mkdtemp()
      >>> sj.interop.save_pretrained(folder, model, model.init(jax.random.key(0)), config=False)
      >>> _, params = sj.interop.from_pretrained(folder, module=model)
      >>> params[1].tolist()
      [1.0, 1.0, 1.0, 1.0]
    """
    folder = _folder(os.fspath(folder_or_id), revision)
    if module is None:
        module = from_config(_config(folder))
    return module, load_params(folder / PARAMS, module)


def _folder(place: str, revision: str | None) -> Path:
    if os.path.isdir(place):
        return Path(place)
    if not ID.fullmatch(place):
        raise FileNotFoundError(
            f"from_pretrained: expected a folder, or an id of the hub such as owner/name, got {place}. "
            "Write a folder with save_pretrained."
        )
    hub = needed("huggingface_hub", extra="files")
    try:
        return Path(hub.snapshot_download(place, revision=revision, allow_patterns=[PARAMS, CONFIG]))
    except Exception as error:  # no such repository, no network: the hub has many ways to say so
        raise FileNotFoundError(
            f"from_pretrained: expected a folder, or an id that the hub knows, got {place}: there is no such folder, "
            f"and the hub says {type(error).__name__}: {error}. Correct it."
        ) from error


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"from_pretrained: expected {CONFIG} and {PARAMS} in {folder}, got no {CONFIG}. "
            "Write the folder with save_pretrained, or pass module=."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"from_pretrained: expected JSON in {folder / CONFIG}, got something else ({error}). "
            "Write the folder with save_pretrained, or pass module=."
        ) from error
    if isinstance(config, dict) and config.get("module", ...) is None:
        raise ValueError(
            f"from_pretrained: expected {folder / CONFIG} to say how the module is made, got only how it prints: "
            f"{config.get('printed')}. Make it, and pass module=."
        )
    return config


def _card(name: str, module: Any, params: PyTree, said: bool) -> str:
    leaves = jax.tree.leaves(params)
    return TEXT.format(
        name=name,
        call=printed(module),
        count=sum(leaf.size for leaf in leaves),
        types=", ".join(sorted({str(leaf.dtype) for leaf in leaves})) or "no array",
        version=__version__,
        place=name,
        more="" if said else ", module=…",
    )
