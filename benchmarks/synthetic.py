"""Libraries of made-up actions: names, docstrings, parameters and code as people write them, each source of its own.

They are written as the store writes them, but without a worker to check them and without a flush for each file: a
hundred thousand take about a minute.
"""

import contextlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dynasaur_mcp.library.audit import Deed
from dynasaur_mcp.library.change import Keeping
from dynasaur_mcp.library.folder import open_folder
from dynasaur_mcp.library.ledger import Ledger
from dynasaur_mcp.library.reading import hash_source, read_action, read_shape
from dynasaur_mcp.types import Action, Parameter, Schemas, Status, Tests

BATCH = 2000
CHECKED = 200
"""Every so-manieth action is also read from its source, and must be the same."""

THINGS = """
    account address aircraft album alert animal answer apartment appointment article asset author badge bank
    batch battery bill bird blood_test book booking branch bridge budget building bus cable calendar camera
    campaign card cargo cell channel chapter chart cheque chemical city claim class client clinic coin comment
    company component concert contact contract country coupon course courier crop currency customer data_point
    deadline dealer delivery department deposit device diagnosis discount disk dish doctor document dollar
    donation drug earthquake email employee engine event exam expense experiment farm fare fee field file film
    fine flight flood football_match forecast form fuel fund game garden gene gift goal grade grant guest
    harvest holiday hospital hotel house image income ingredient insurance interest interview inventory invoice
    island issue job journal journey key keyword lake language lawsuit lease lecture lesson letter library
    licence light link loan location log_line machine magazine mail market mass meal measurement medal medicine
    meeting member menu message metal meter mineral module molecule month mortgage motor mountain movie museum
    music_track neighbour network news_item node note number nurse offer office order outage package page
    painting parcel park part participant passenger password patent patient pattern payment pension permit
    person phone photo planet plant plot podcast poem point police_report poll port portfolio post price prize
    probe product profit project property protein province pupil purchase question queue quote race
    radio_station rain_gauge rate receipt recipe record refund region rental repair report reservation
    restaurant result review river road robot room rota route salary sale sample satellite school score season
    seat security sensor server service share shelf ship shipment shop signal site skill soil_sample song
    species sport_team staff station statute stock storm story street student subscription supplier survey table
    tariff task tax team temperature term text ticket tide time_slot tool topic tour tower trade traffic_count
    train transaction translation tree trial trip truck tutor unit user vaccine valve vehicle vendor venue video
    village vote voucher wage warehouse waste_bin water_level wave weather_report week weight well wind_turbine
    word worker workout workshop year zone
""".split()  # noqa: SIM905

OWNERS = """
    monthly weekly daily yearly overdue pending failed duplicate archived recent local national regional foreign
    urban rural private public internal external partial total average largest smallest first last missing
    invalid verified urgent old new open closed shared rejected accepted planned actual hourly seasonal remote
    seized rare common unpaid paid draft final
""".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Kind:
    """What a family of actions does."""

    verb: str
    sentence: str
    more: str
    parameters: tuple[tuple[str, str, str | None, str], ...]
    returns: str
    body: str
    example: str
    output: str
    schema: dict[str, object]


NUMBERS: dict[str, object] = {"type": "array", "items": {"type": "number"}}
TEXTS: dict[str, object] = {"type": "array", "items": {"type": "string"}}
TABLE: dict[str, object] = {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "number"}}}
NUMBER: dict[str, object] = {"type": "number"}
INTEGER: dict[str, object] = {"type": "integer"}

KINDS = (
    Kind(
        "sum", "Add up the {owner} {thing} values above a threshold.",
        "Values at or below it are left out, so that noise in {plain} figures does not count.",
        (("values", "list[float]", None, "One figure for each {plain}."),
         ("threshold", "float", "0.0", "What a {plain} must exceed to be counted.")),
        "float", "return sum(value for value in values if value > threshold)",
        "[1.0, 2.5], threshold=1.5", "2.5", {"values": NUMBERS, "threshold": NUMBER}),
    Kind(
        "count", "Count how many {owner} {thing} names begin with a prefix.",
        "Case does not matter. Empty names are skipped.",
        (("names", "list[str]", None, "Names of {plain} records."), ("prefix", "str", "''", "Text at the beginning.")),
        "int", "return sum(bool(name) and name.lower().startswith(prefix.lower()) for name in names)",
        "['ab', 'b'], 'A'", "1", {"names": TEXTS, "prefix": {"type": "string"}}),
    Kind(
        "rank", "Sort {owner} {thing} rows by one column, highest first.",
        "Rows without the column go last. The order of equal {plain} rows stays.",
        (("rows", "list[dict[str, float]]", None, "One mapping for each {plain}."),
         ("column", "str", None, "Key to sort by."), ("limit", "int", "10", "Rows to give back at most.")),
        "list[dict[str, float]]",
        "return sorted(rows, key=lambda row: -row.get(column, float('-inf')))[:limit]",
        "[{{'a': 1.0}}, {{'a': 2.0}}], 'a', limit=1", "[{{'a': 2.0}}]",
        {"rows": TABLE, "column": {"type": "string"}, "limit": INTEGER}),
    Kind(
        "normalize", "Rescale {owner} {thing} measurements to the range from 0 to 1.",
        "All equal measurements become 0. Useful before {plain} curves are compared.",
        (("values", "list[float]", None, "Measurements of one {plain}."),),
        "list[float]",
        "low, high = min(values), max(values)\n    return [(value - low) / ((high - low) or 1) for value in values]",
        "[2.0, 4.0]", "[0.0, 1.0]", {"values": NUMBERS}),
    Kind(
        "find", "Find {owner} {thing} identifiers in free text.",
        "An identifier is a letter followed by digits. Each {plain} is given once, in the order of the text.",
        (("text", "str", None, "Notes that mention {plain} identifiers."),
         ("letter", "str", "'{letter}'", "Letter that such an identifier begins with.")),
        "list[str]",
        "import re\n\n    return list(dict.fromkeys(re.findall(rf'\\b{{letter}}\\d+\\b', text)))",
        "'see {letter}12, {letter}12'", "['{letter}12']", {"text": {"type": "string"}, "letter": {"type": "string"}}),
    Kind(
        "group", "Group {owner} {thing} records by the first field and total the second.",
        "The answer maps each {plain} group to its total. Needs no header.",
        (("records", "list[tuple[str, float]]", None, "Pairs of a group and the amount of one {plain}."),),
        "dict[str, float]",
        "totals: dict[str, float] = {{}}\n    for group, amount in records:\n"
        "        totals[group] = totals.get(group, 0.0) + amount\n    return totals",
        "[('a', 1.0), ('a', 2.0)]", "{{'a': 3.0}}", {"records": {"type": "array", "items": {"type": "array"}}}),
    Kind(
        "smooth", "Moving average over a series of {owner} {thing} readings.",
        "The window is centred where there are enough {plain} readings, and shorter at both ends.",
        (("readings", "list[float]", None, "{plain} readings in the order of time."),
         ("window", "int", "3", "Readings to average over; odd.")),
        "list[float]",
        "half = window // 2\n    spans = [readings[max(0, at - half) : at + half + 1] for at in range(len(readings))]\n"
        "    return [sum(span) / len(span) for span in spans]",
        "[1.0, 2.0, 3.0]", "[1.5, 2.0, 2.5]", {"readings": NUMBERS, "window": INTEGER}),
    Kind(
        "format", "Write a {owner} {thing} amount as text with a unit.",
        "Thousands are set apart by commas, as in a {plain} statement.",
        (("amount", "float", None, "The amount of the {plain}."), ("unit", "str", "'EUR'", "What it is counted in."),
         ("digits", "int", "2", "Digits behind the point.")),
        "str", "return f'{{amount:,.{{digits}}f}} {{unit}}'",
        "1234.5", "'1,234.50 EUR'", {"amount": NUMBER, "unit": {"type": "string"}, "digits": INTEGER}),
)  # fmt: skip


def make_actions(count: int, seed: int = 0) -> Iterator[tuple[Action, Schemas]]:
    """Always the same ones for a seed; fewer are the first of more. There are 130,000."""
    all_of = [(kind, owner, thing) for kind in KINDS for owner in OWNERS for thing in THINGS]
    random.Random(seed).shuffle(all_of)
    if count > len(all_of):
        raise SystemExit(f"there are {len(all_of):,} made-up actions, not {count:,}")
    shapes: dict[str, str] = {}
    for kind, owner, thing in all_of[:count]:
        action, schemas = _make_action(kind, owner, thing)
        if kind.verb not in shapes:
            shapes[kind.verb] = read_shape(action.source, action.name)
        yield replace(action, shape=shapes[kind.verb]), schemas


def _make_action(kind: Kind, owner: str, thing: str) -> tuple[Action, Schemas]:
    name = f"{kind.verb}_{owner}_{thing}"
    plain = thing.replace("_", " ")
    words = {"owner": owner, "thing": plain, "plain": plain, "letter": thing[0].upper()}
    parameters = tuple(
        Parameter(each, annotation, default and default.format(**words), meaning.format(**words))
        for each, annotation, default, meaning in kind.parameters
    )
    written = ", ".join(f"{p.name}: {p.annotation}" + (f" = {p.default}" if p.default else "") for p in parameters)
    arguments = ", ".join(f"{p.name}: {p.annotation}" + (f"={p.default}" if p.default else "") for p in parameters)
    example = f"{name}({kind.example.format(**words)})"
    lines = [
        kind.sentence.format(**words), "", kind.more.format(**words), "", "Args:",
        *(f"    {p.name}: {p.description}" for p in parameters), "", "Examples:",
        f"    >>> {example}", f"    {kind.output.format(**words)}",
    ]  # fmt: skip
    docstring = "\n".join(lines)
    indented = "\n".join(f"    {line}".rstrip() for line in lines)[4:]
    source = (
        f'"""About {owner} {plain} data."""\n\n\n'
        f'def {name}({written}) -> {kind.returns}:\n    """{indented}\n    """\n    {kind.body.format(**words)}\n'
    )
    action = Action(
        name=name,
        source=source,
        sha256=hash_source(source),
        signature=f"{name}({arguments}) -> {kind.returns}",
        docstring=docstring,
        parameters=parameters,
        returns=kind.returns,
        examples=(example,),
    )
    required = [p.name for p in parameters if p.default is None]
    given = {"type": "object", "properties": dict(kind.schema), "required": required}
    output = {"type": "object", "properties": {"result": {}}, "required": ["result"]}
    return action, Schemas(given, output, True)


def fill_library(folder: Path, count: int) -> None:
    """A library of that many active, tested actions."""
    open_folder(folder)
    with contextlib.closing(Ledger(folder)) as ledger:
        made = enumerate(make_actions(count))
        while batch := list(itertools.islice(made, BATCH)):
            with ledger.changing() as change:
                for number, (action, schemas) in batch:
                    if number % CHECKED == 0:
                        assert read_action(action.source) == action, action.name
                    path = folder / f"{action.name}.py"
                    path.write_text(action.source)
                    status = path.stat()
                    change.note_file(path.name, (status.st_mtime_ns, status.st_size))
                    change.add_version(action, Keeping("bench", Status.ACTIVE, Tests(1), schemas), Deed.DEFINE)
