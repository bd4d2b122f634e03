"""Severe settings for every test: float64, strict promotion, two host devices, no accelerator."""

import gc
import importlib.metadata
import os
import pathlib
import shutil
import zlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The suite's time is spent compiling small programs that run once: without optimisation, and where jaxlib still has it
# by the older code generator, which takes half as long; each in one piece. The commands that .ci/run starts run as a
# user's do.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    + " --xla_cpu_use_fusion_emitters=false" * importlib.metadata.version("jaxlib").startswith("0.10."),
)

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Tracing makes many small objects that live: to look for dead ones among them took a tenth of the time.
gc.set_threshold(100_000, 20, 100)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A half of the suite each, not every other test: what a module draws and compiles is made by one process."""
    if config.getvalue("dist") == "load":
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log)


def pytest_addoption(parser):
    parser.addoption("--turn", type=turn, metavar="K/N", help="of every table of cases the K-th share of N")


def turn(text):
    """K modulo N, and N, of "K/N"."""
    k, n = map(int, text.split("/"))
    return k % n, n


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Which cases a share has does not hang on their order, often that of engines or cells: each has of all."""
    if chosen := config.getoption("--turn"):
        k, n = chosen
        mine = lambda item: not hasattr(item, "callspec") or zlib.crc32(item.nodeid.encode()) % n == k
        config.hook.pytest_deselected(items=[item for item in items if not mine(item)])
        items[:] = filter(mine, items)


@pytest.fixture(scope="module", autouse=True)
def compiled_programs():
    """Forgets a module's compiled programs behind it: those of the whole suite together fill the memory."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def patch(tmp_path_factory):
    """For modules that run recipes: a monkeypatch; runs alike compile once, and Optax may multiply by integers."""
    cache = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: getattr(jax.config, name) for name in cache}
    for name, value in cache.items():
        jax.config.update(name, value)
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
        yield patch
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the data of the stored runs."""
    for name in ("text.txt", "series.txt"):
        shutil.copy(pathlib.Path(__file__).with_name("runs") / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def equal_ranks():
    """For modules that write their own axes out: JAX's switch that refuses arrays of unequal ranks."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="session")
def shared_data():
    """The folder of public data files that SEQJAX_DATA names; tests that need it skip without."""
    folder = os.environ.get("SEQJAX_DATA")
    if not folder:
        pytest.skip("SEQJAX_DATA is not set: it names the folder of public data files")
    return pathlib.Path(folder)
