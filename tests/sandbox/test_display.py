"""How values are shown, with the libraries that make them, on each sandbox."""

from __future__ import annotations

import base64
import struct

import pytest

from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.types import Ending, Image, Outcome
from dynasaur_mcp.values import tell_values

from .conftest import OpenPool, shown

pytestmark = pytest.mark.anyio


async def run(session: Session, code: str, *packages: str) -> Outcome:
    outcome = await session.run(code, {}, packages, timeout_seconds=120)
    assert outcome.ending is Ending.RETURNED, outcome
    return outcome


def size_of(image: Image) -> tuple[int, int]:
    data = base64.b64decode(image.base64)
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


async def test_figures_and_pictures_are_shown(open_sandbox: OpenPool) -> None:
    async with open_sandbox(memory_bytes=1 << 30) as pool, pool.session("me") as session:
        plots = """
from matplotlib import pyplot as plt
for width in (2, 3):
    plt.figure(figsize=(width, 1), dpi=100)
    plt.plot([1, 2])
'done'
"""
        outcome = await run(session, plots, "matplotlib", "pillow")
        assert [size_of(image) for image in outcome.images] == [(200, 100), (300, 100)]
        assert (outcome.shown, outcome.notes) == ("'done'", ())
        assert (await run(session, "plt.get_fignums()")).shown == "[]"
        failed = await session.run("plt.figure(figsize=(5, 1), dpi=100)\n1 / 0", {}, ())
        assert (failed.ending, failed.images) == (Ending.RAISED, ())
        goes_on = await run(session, "plt.plot([1, 2])\nplt.get_fignums()")
        assert ([size_of(image) for image in goes_on.images], goes_on.shown) == ([(500, 100)], "[1]")
        figure = await run(session, "f, axes = plt.subplots(figsize=(4, 1), dpi=100); f")
        assert [size_of(image) for image in figure.images] == [(400, 100)]
        many = await run(session, "for _ in range(6): plt.figure(figsize=(1, 1))")
        assert len(many.images) == 4
        assert [note.split(". ")[0] for note in many.notes] == ["Pictures left out: 2"]
        more = await run(session, "for _ in range(60): plt.figure(figsize=(1, 1))")
        assert (len(more.images), len(more.notes)) == (4, 1)
        picture = await run(session, "from PIL import Image\nImage.new('RGB', (64, 48), 'red')")
        assert [size_of(image) for image in picture.images] == [(64, 48)]
        assert picture.shown == "Image of 64x48 pixels"
        for mode in ("CMYK", "YCbCr", "HSV", "F"):
            picture = await run(session, f"Image.new({mode!r}, (64, 48))")
            assert [size_of(image) for image in picture.images] == [(64, 48)]
        nothing = await run(session, "Image.new('RGB', (0, 5))")
        assert (nothing.images, "size=0x5" in nothing.shown) == ((), True)
        huge = await run(session, "import os\nImage.frombytes('RGB', (1000, 1000), os.urandom(3_000_000))")
        (smaller,) = huge.images
        assert size_of(smaller) == (500, 500)
        assert huge.notes[0].startswith("A picture is shown at 1/2 of its size")


async def test_figure_that_cannot_be_drawn_is_told_once(open_sandbox: OpenPool) -> None:
    bad = "from matplotlib import pyplot as plt\nplt.figure(figsize=(1, 1)).text(0, 0, r'$\\bad{$')\n'done'"
    async with open_sandbox(memory_bytes=1 << 30) as pool, pool.session("me") as session:
        outcome = await run(session, bad, "matplotlib")
        assert (outcome.shown, outcome.images) == ("'done'", ())
        assert outcome.notes[0].startswith("A picture could not be drawn: ValueError: ")
        assert (await run(session, "plt.get_fignums()")).shown == "[]"
        title = "".join(map(chr, range(0x6F22, 0x6F22 + 70)))
        glyph = await run(session, f"plt.figure(figsize=(1, 1)).text(0, 0, {title!r})")
        assert len(glyph.images) == 1
        assert glyph.stderr == ""
        assert glyph.notes[0].startswith("While a picture was drawn: Glyph 28450 ")
        assert len(glyph.notes) == 10


async def test_value_that_gives_no_picture_of_itself_is_shown_as_text(open_sandbox: OpenPool) -> None:
    code = """
class Formula:
    def __init__(self, png): self.png = png
    def _repr_png_(self): return self.png
    def __repr__(self): return "x + 1"
Formula({})
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        none = await run(session, code.format("None"))
        assert (none.shown, none.images, none.notes) == ("x + 1", (), ())
        huge = await run(session, code.format("bytes(1 << 20)"))
        assert (huge.shown, huge.images) == ("Formula", ())
        assert huge.notes[0].startswith("A picture of 1,048,576 bytes is left out")


async def test_actions_show_figures_and_return_pictures_and_tables(open_sandbox: OpenPool) -> None:
    plot = """
def plot(width: int) -> int:
    from matplotlib import pyplot as plt
    plt.figure(figsize=(width, 1), dpi=100)
    return width
"""
    draw = """
from PIL import Image
def draw(width: int) -> Image.Image:
    return Image.new("RGB", (width, 8))
"""
    table = """
import pandas as pd
def table(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"n": range(rows)})
"""
    packages = ("matplotlib", "pillow", "pandas")
    async with open_sandbox(memory_bytes=1 << 30, wall_seconds=120) as pool, pool.session("me") as session:
        plotted = await session.call("plot", {"plot": plot}, packages, {"width": 2})
        assert (plotted.value, [size_of(image) for image in plotted.images]) == (2, [(200, 100)])
        drawn = await session.call("draw", {"draw": draw}, packages, {"width": 16})
        assert (drawn.value, [size_of(image) for image in drawn.images]) == ("Image of 16x8 pixels", [(16, 8)])
        made = await session.call("table", {"table": table}, packages, {"rows": 100})
        assert made.value.startswith("DataFrame of 100 rows x 1 columns, its beginning:\n\n| n |\n| --- |\n| 0 |")
        assert made.links == ("table_1.csv",)
        check = await pool.workers.check("draw", {"draw": draw}, packages)
        assert check.problems == ()
        assert check.schemas
        assert check.schemas.output["properties"] == {"result": {"type": "string"}}


async def test_numbers_of_numpy_are_returned_deep_in_a_value_too(open_sandbox: OpenPool) -> None:
    source = """
import numpy as np
def f(n: int) -> dict:
    rows = [np.arange(n), np.bool_(True), np.float32(.5)]
    return {"count": np.int64(n), "rows": rows, "none": object if n > 5 else None}
"""
    async with open_sandbox(memory_bytes=1 << 30) as pool, pool.session("me") as session:
        made = await session.call("f", {"f": source}, ("numpy",), {"n": 2})
        assert made.value == {"count": 2, "rows": [[0, 1], True, 0.5], "none": None}
        odd = await session.call("f", {"f": source}, ("numpy",), {"n": 6})
        assert odd.error.startswith("JSON cannot hold the return value: there is a type in it. ")


async def test_arrays_are_compared_by_all_that_is_in_them_and_not_as_they_are_printed(open_sandbox: OpenPool) -> None:
    make = "import numpy as np\nnear, far, one = np.array([1.23456, 2.5]), np.arange(5000), np.float64(1.23456)"
    async with open_sandbox(memory_bytes=1 << 30) as pool, pool.session("me") as session:
        await run(session, make, "numpy")
        before = await tell_values(session, ["far", "near", "one"])
        await run(session, "np.set_printoptions(precision=2)\nfar[2500] = 1", "numpy")
        after = await tell_values(session, ["far", "near", "one"])
        assert before.keys() == {"far", "near", "one"}
        assert {name for name in before if before[name] != after[name]} == {"far"}


async def test_small_table_is_shown_whole_and_a_large_one_goes_into_a_file(open_sandbox: OpenPool) -> None:
    async with open_sandbox(memory_bytes=1 << 30) as pool, pool.session("me") as session:
        small = await run(session, "import pandas as pd\npd.DataFrame({'a|b': [1, 2], 'c': ['x\\ny', None]})", "pandas")
        assert small.shown.splitlines() == [
            "DataFrame of 2 rows x 2 columns",
            "",
            "| a\\|b | c |",
            "| --- | --- |",
            "| 1 | x y |",
            f"| 2 | {'None' if 'None' in small.shown else 'nan'} |",
        ]
        assert small.links == ()
        large = await run(session, "t = pd.DataFrame({f'c{n}': range(30) for n in range(20)}); t")
        assert large.shown.startswith("DataFrame of 30 rows x 20 columns, its beginning:")
        assert len(large.shown.splitlines()) == 14
        assert large.links == ("table_1.csv",)
        assert [file.path for file in large.files] == ["table_1.csv"]
        assert await shown(session, "pd.read_csv('table_1.csv').equals(t)") == "True"
        indexed = await run(session, "s = pd.Series(range(50), index=[f'k{n}' for n in range(50)], name='v'); s")
        assert "| index | v |" in indexed.shown
        assert indexed.links == ("table_2.csv",)
        assert await shown(session, "open('table_2.csv').readline()") == "',v\\n'"
        cut = await run(session, "pd.DataFrame({'a': ['x' * 500]})")
        assert max(map(len, cut.shown.splitlines())) < 100
        assert cut.links == ("table_3.csv",)
        too_large = await run(session, "pd.DataFrame({'a': range(300_000)})")
        assert (too_large.links, "too large to be saved by itself" in too_large.notes[0]) == ((), True)
        empty = await run(session, "pd.DataFrame()")
        assert empty.shown.startswith("DataFrame of 0 rows x 0 columns")


async def test_table_is_shown_whatever_its_index_is_called(open_sandbox: OpenPool) -> None:
    rows = {
        "t.groupby('a')['a'].count()": ["| a | a |", "| --- | --- |", "| 1 | 2 |", "| 2 | 1 |"],
        "t.set_index(['a', 'b'], drop=False)[['b']].head(1)": ["| a | b | b |", "| --- | --- | --- |", "| 1 | x | x |"],
        "t.groupby('a').agg({'b': ['count']}).head(1)": ["| a | ('b', 'count') |", "| --- | --- |", "| 1 | 2 |"],
        "pd.DataFrame({'v': [5]}, index=pd.MultiIndex.from_tuples([(1, 2)]))": [
            "| level_0 | level_1 | v |",
            "| --- | --- | --- |",
            "| 1 | 2 | 5 |",
        ],
        "t[[]]": [],
    }
    async with open_sandbox(memory_bytes=1 << 30) as pool, pool.session("me") as session:
        await run(session, "import pandas as pd\nt = pd.DataFrame({'a': [1, 1, 2], 'b': list('xyz')})", "pandas")
        for code, table in rows.items():
            assert (await run(session, code)).shown.splitlines()[2:] == table


async def test_table_of_polars_is_shown_and_saved(open_sandbox: OpenPool) -> None:
    async with open_sandbox(memory_bytes=1 << 30) as pool, pool.session("me") as session:
        code = "import polars as pl\npl.DataFrame({'a': range(40), 'b': [str(n) for n in range(40)]})"
        outcome = await run(session, code, "polars")
        assert outcome.shown.startswith(
            "DataFrame of 40 rows x 2 columns, its beginning:\n\n| a | b |\n| --- | --- |\n| 0 | 0 |"
        )
        assert await shown(session, "len(pl.read_csv('table_1.csv'))") == "40"
        nested = await run(session, "pl.DataFrame({'a': [[n] for n in range(40)]})")
        assert nested.notes[0].startswith("The table could not be saved as CSV")
        assert nested.links == ()


async def test_bytes_and_paths_are_linked(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        small = await run(session, "b'abc'")
        assert (small.shown, small.links) == ("b'abc'", ())
        large = await run(session, "bytes(range(256)) * 10")
        assert large.shown.startswith("2,560 bytes: b'\\x00")
        assert large.links == ("bytes_1.bin",)
        path = await run(session, "from pathlib import Path\np = Path('a b.txt'); p.write_text('x'); p")
        assert path.links == ("a b.txt",)
        for elsewhere in ("Path('/etc/passwd')", "Path('nothing')", "Path('.')"):
            assert (await run(session, elsewhere)).links == ()
        linked = await run(session, "Path('out').symlink_to('/etc/passwd'); Path('out')")
        assert linked.links == ()


async def test_bytes_that_do_not_fit_the_workspace_are_said_not_to_be_saved(open_sandbox: OpenPool) -> None:
    async with open_sandbox(workspace_bytes=1 << 20) as pool, pool.session("me") as session:
        outcome = await run(session, "bytes(2 << 20)")
        assert outcome.notes[0].startswith("The bytes could not be saved")
        assert (outcome.links, outcome.files) == ((), ())


async def test_missing_file_comes_with_what_there_is(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        nothing = await session.run("open('price.csv')", {}, ())
        assert nothing.error.endswith("Hint: /workspace is empty.")
        await run(session, "for name in ('a.txt', 'prices.csv', 'z'): open(name, 'w').close()")
        outcome = await session.run("open('data/price.csv')", {}, ())
        assert outcome.error.endswith("Hint: in /workspace there is 'prices.csv', 'a.txt', 'z'.")
        await run(session, "for n in range(100): open(f'f{n:03}', 'w').close()")
        assert (await session.run("open('none')", {}, ())).error.endswith("and 93 more.")


async def test_missing_program_is_not_looked_for_in_the_workspace(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        program = await session.run("import subprocess, sys\nsubprocess.run(['nosuch', '-x'])", {}, ())
        assert program.error.endswith("Hint: the sandbox has no program 'nosuch'.")
        folder = await session.run("subprocess.run([sys.executable, '-V'], cwd='nosuch')", {}, ())
        assert folder.error.endswith("Hint: /workspace is empty.")


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("%pip install -q numpy pandas==2.3", 'Hint: packages come with the call: run_python(requirements=["numpy", '),
        ("!python -m pip install numpy", 'run_python(requirements=["numpy"]).'),
        ("x = 1\n%matplotlib inline", "Hint: this is Python without IPython's ! and %"),
        ("!ls", "Hint: this is Python without IPython's ! and %"),
        ("x = 5 %", ""),
    ],
)
async def test_what_only_ipython_understands_is_told_with_what_to_do(
    open_sandbox: OpenPool, code: str, hint: str
) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        error = (await session.run(code, {}, ())).error
        assert hint in error
        assert ("Hint: " in error) == bool(hint)


async def test_step_that_catches_the_interrupt_and_ends_in_time_is_kept(open_sandbox: OpenPool) -> None:
    # Not `while True: done += 1` on one line: CPython 3.11 leaves that loop out of the `try`.
    code = """
done = 0
try:
    while True:
        done += 1
except KeyboardInterrupt:
    print('stopped')
done > 0
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        await session.run("done = -1", {}, ())
        kept = await session.run(code, {}, (), timeout_seconds=0.3)
        assert (kept.ending, kept.shown, kept.stdout) == (Ending.RETURNED, "True", "stopped\n")
        assert await shown(session, "done > 0") == "True"
        rolled_back = await session.run("done = -2\nwhile True: pass", {}, (), timeout_seconds=0.3)
        assert rolled_back.ending is Ending.TIMEOUT
        assert rolled_back.notes[0] == "The session's variables are as they were before this step."
        assert rolled_back.notes[1].startswith("A step that catches KeyboardInterrupt and ends within ")
        assert await shown(session, "done > 0") == "True"
