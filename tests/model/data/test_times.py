import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.model.data.interactions import Interactions
from meshfold.model.data.table_files import TableFiles
from meshfold.model.data.times import times_of
from meshfold.model.errors import InvalidData
from meshfold.model.types import Float64s, Int64s

HOUR = timezone(timedelta(hours=1))
JANUARY = 1_577_836_800  # 2020-01-01T00:00:00Z
DAY = 86_400


def _of_csv(folder: Path, cells: Sequence[str]) -> Int64s | Float64s:
    rows = "".join(f'"{cell}",1\n' for cell in cells)
    (folder / "a.csv").write_text("t,v\n" + rows, encoding="utf-8")
    return times_of(TableFiles.open(folder / "a.csv").read(["t"])["t"])


def _of_parquet(folder: Path, values: pa.Array) -> Int64s | Float64s:
    pq.write_table(pa.table({"t": values}), folder / "a.parquet", coerce_timestamps=None)
    return times_of(TableFiles.open(folder / "a.parquet").read(["t"])["t"])


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (pa.array([5, -1]), [5, -1]),
        (pa.array([5, 1], pa.int32()), [5, 1]),
        (pa.array([5, 1], pa.uint8()), [5, 1]),
        (pa.array([0.5, 2.0]), [0.5, 2.0]),
        (pa.array([3.0, 2.0], pa.float32()), [3, 2]),
        (pa.array([JANUARY + 1, JANUARY], pa.uint64()), [JANUARY + 1, JANUARY]),
        (pa.array([JANUARY * 1000, 0]), [JANUARY, 0]),
        (pa.array([float(JANUARY * 1000 + 500)] * 2), [JANUARY + 0.5] * 2),
        (pa.array([JANUARY * 10**6 + 1] * 2), [JANUARY + 1e-6] * 2),
        (pa.array([JANUARY * 10**9] * 2), [JANUARY] * 2),
        (pa.array([Decimal("1577836800.25"), Decimal("1577836800.00")]), [JANUARY + 0.25, JANUARY]),
        (pa.array([Decimal(JANUARY * 1000)] * 2), [JANUARY] * 2),
        (pa.array([datetime(1970, 1, 2), datetime(1969, 12, 31)]), [DAY, -DAY]),
        (pa.array([datetime(1970, 1, 1, 1, tzinfo=HOUR)] * 2), [0, 0]),
        (pa.array([datetime(1970, 1, 1, microsecond=500_000)] * 2), [0.5, 0.5]),
        (pa.array([JANUARY] * 2, pa.timestamp("s", "Europe/Berlin")), [JANUARY] * 2),
        (pa.array([JANUARY * 1000] * 2, pa.timestamp("ms")), [JANUARY] * 2),
        (pa.array([10**9 + 1] * 2, pa.timestamp("ns")), [1.000000001] * 2),
        (pa.array([date(1970, 1, 3), date(1500, 1, 1)]), [2 * DAY, -171_664 * DAY]),
        (pa.array([DAY * 1000] * 2, pa.date64()), [DAY] * 2),
        (pa.array(["2020-01-01", "2020-01-01T00:00:01Z"]), [JANUARY, JANUARY + 1]),
        (pa.array([str(JANUARY * 1000)] * 2, pa.large_string()), [JANUARY] * 2),
        (pa.array(["2020-01-01 00:00:00 UTC"] * 2).dictionary_encode(), [JANUARY] * 2),
        (pa.array([datetime(1970, 1, 2)] * 2).dictionary_encode(), [DAY] * 2),
    ],
)
def test_times_are_seconds(tmp_path: Path, given: pa.Array, seconds: list[float]) -> None:
    assert _of_parquet(tmp_path, given).tolist() == seconds


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["7", "8"], [7, 8]),
        (["7", "8.5"], [7.0, 8.5]),
        (["7", "-2"], [7, -2]),
        ([f"{JANUARY}000"] * 2, [JANUARY] * 2),
        ([f"{JANUARY}.0", f"{JANUARY + 1}.0"], [JANUARY, JANUARY + 1]),
        (["1.5778368E9", "1.5778368E+9"], [JANUARY] * 2),
        (["1.5778368e12", "1577836800500"], [JANUARY, JANUARY + 0.5]),
        ([f" {JANUARY} ", "0"], [JANUARY, 0]),
        (["1970-01-01", "1970-01-02"], [0, DAY]),
        (["1970-01-01T00:00:10", "1970-01-01 00:00:20"], [10, 20]),
        (["1970-01-01T00:00:10Z", "1970-01-01T01:00:00+01:00"], [10, 0]),
        # With and without a zone, and without a time of day.
        (["1970-01-01T01:00:00", "1970-01-01T01:00:00+01:00", "1970-01-02"], [3600, 0, DAY]),
        (["2020-01-01 00:00:00 UTC", "2020-01-01 00:00:01.5 UTC"], [JANUARY, JANUARY + 1.5]),
        (["2020/01/01", "2020/1/2 3:04"], [JANUARY, JANUARY + DAY + 11_040]),
        (["2020-01-01T00:00:00.123456789Z"], [JANUARY + 0.123456789]),
        (["1500-01-01", "2020-01-01T00:00:00 Z"], [-171_664 * DAY, JANUARY]),
        # A number above 12 in any row tells the order of day and month in all.
        (["1/2/2020", "1/31/2020"], [JANUARY + DAY, JANUARY + 30 * DAY]),
        (["2/1/2020", "31/1/2020 13:45"], [JANUARY + DAY, JANUARY + 30 * DAY + 49_500]),
        (["01.01.2020", "02.02.2020"], [JANUARY, JANUARY + 32 * DAY]),
    ],
)
def test_times_in_text_are_numbers_or_dates(tmp_path: Path, cells: list[str], seconds: list[float]) -> None:
    assert _of_csv(tmp_path, cells).tolist() == seconds


@pytest.mark.parametrize(
    "cell",
    [
        "2020-01-31T13:45:00Z",
        "2020-01-31t13:45:00z",
        "2020-01-31 13:45",
        "2020-1-31 13:45:00.000000",
        "2020-01-31 13:45:00,000",
        "2020-01-31 13:45:00+00:00",
        "2020-01-31 14:45:00+01",
        "2020-01-31 10:15:00-0330",
        "2020-01-31 13:45:00 +0000 UTC",
        "2020-01-31T13:45:00Z[UTC]",
        "2020-01-31T14:45:00+01:00[Europe/Berlin]",
        "2020-01-31 13:45:00 GMT",
        "2020/01/31 1:45 PM",
        "2020.01.31 13:45",
        "20200131T134500Z",
        "20200131T134500.000",
        "1/31/2020 13:45",
        "1/31/2020 1:45:00 PM",
        "01/31/2020, 1:45 p.m.",
        "31.01.2020 13:45",
        "31-01-2020 13:45:00",
        "Fri, 31 Jan 2020 13:45:00 GMT",
        "31-Jan-2020 13:45:00",
        "31 January 2020, 13:45",
        "January 31, 2020 at 1:45 PM",
        "Jan 31, 2020 13:45:00",
        "Fri Jan 31 13:45:00 2020",
        "Fri Jan 31 13:45:00 +0000 2020",
        "Fri Jan 31 2020 13:45:00 GMT+0000 (Coordinated Universal Time)",
    ],
)
def test_one_moment_in_many_forms(tmp_path: Path, cell: str) -> None:
    assert _of_csv(tmp_path, [cell]).tolist() == [JANUARY + 30 * DAY + 49_500]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["7", "then"], "row 2: expected seconds, .* or a date such as .*, got 'then'"),
        (["1970-01-01", "then"], "row 2: expected seconds, .*, got 'then'"),
        (["1", "nan"], "row 2: expected seconds, .*, got 'nan'"),
        (["1", "1e999"], "row 2: the time must be finite"),
        (["1", "-inf"], "row 2: expected seconds, .*, got '-inf'"),
        (["1", "Infinity"], "row 2: expected seconds, .*, got 'Infinity'"),
        (["1", "NaN"], "row 2: expected seconds, .*, got 'NaN'"),
        (["0x5e0be100"], "row 1: expected seconds, .*, got '0x5e0be100'"),
        ([f"{JANUARY}", "0X5E0BE100"], "row 2: expected seconds, .*, got '0X5E0BE100'"),
        ([f"{JANUARY}.5", "0x5e0be100"], "row 2: expected seconds, .*, got '0x5e0be100'"),
        (["2020-01-01", "0x5e0be100"], "row 2: expected seconds, .*, got '0x5e0be100'"),
        (["1_577_836_800"], "row 1: expected seconds, .*, got '1_577_836_800'"),
        (["1,577,836,800"], "row 1: expected seconds, .*, got '1,577,836,800'"),
        (["0b1011"], "row 1: expected seconds, .*, got '0b1011'"),
        (["1", ""], "row 2: the time is missing"),
        (["1970-01-01", "  "], "row 2: the time is missing"),
        (["1/2/20"], "row 1: expected seconds, .* got '1/2/20'"),
        (["2020-02-30"], "row 1: there is no such date or time: '2020-02-30'"),
        (["2020-13-01"], "row 1: there is no such date or time"),
        (["2020-01-01 24:01:00 UTC"], "row 1: there is no such date or time"),
        (["2020/01/01 13:00 PM"], "row 1: there is no such date or time"),
        (["31 Feb 2020"], "row 1: there is no such date or time"),
        (
            ["99999999999999999999"],
            "row 1: expected seconds, .* before 2100, got '99999999999999999999'; write .* counter, number its rows",
        ),
    ],
)
def test_a_time_that_is_none_is_refused(tmp_path: Path, cells: list[str], message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        _of_csv(tmp_path, cells)


@pytest.mark.parametrize(
    ("cell", "zone"),
    [
        ("2020-01-31 13:45 PST", "PST"),
        ("2020-01-31T13:45:00.5CEST", "CEST"),
        ("2020-01-31 13:45:00 Europe/Berlin", "Europe/Berlin"),
        ("2020-01-31T13:45:00[America/Argentina/Buenos_Aires]", "America/Argentina/Buenos_Aires"),
        ("Fri Jan 31 13:45:00 PST 2020", "PST"),
        ("Fri, 31 Jan 2020 13:45:00 EST", "EST"),
        ("1/31/2020 1:45 PM Pacific Standard Time", "Pacific Standard Time"),
        ("31.01.2020 13:45 MEZ", "MEZ"),
        ("January 31, 2020 at 1:45 p.m. (Eastern Time)", "Eastern Time"),
        ("2020/01/31 13:45 Etc/GMT+8", "Etc/GMT+8"),
        ("2020-01-31 13:45 EST5EDT", "EST5EDT"),
        ("2020-01-31 13:45 UTC+8", "UTC+8"),
    ],
)
def test_a_zone_with_a_name_is_the_cause_that_is_told(tmp_path: Path, cell: str, zone: str) -> None:
    told = (
        rf"row 2: expected Z, UTC, .* got the zone '{re.escape(zone)}' in '.*; write the column with offsets"
    )
    for cells in (["2020-01-31T13:45:00Z", cell], ["1577836800", cell]):
        with pytest.raises(InvalidData, match=told):
            _of_csv(tmp_path, cells)


@pytest.mark.parametrize(
    "cell", ["2020-01-31 13:45 o'clock", "13:45 PST", "at 1:45 PM", "2020-01-31 PST", "a 1:45 b c"]
)
def test_other_texts_have_no_zone(tmp_path: Path, cell: str) -> None:
    with pytest.raises(InvalidData, match="row 1: expected seconds, .*; write the column so"):
        _of_csv(tmp_path, [cell])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            [f"{JANUARY}", f"{JANUARY}000"],
            r"row 1: '1577836800' reads as seconds, but row 2 holds '1577836800000', which reads as milliseconds; ",
        ),
        (
            [f"{JANUARY}000000", "7", f"{JANUARY}000"],
            r"row 1: '1577836800000000' reads as microseconds, but row 3 holds '1577836800000', .* as milliseconds",
        ),
        (
            [f"{JANUARY}.5", f"{JANUARY}000.5"],
            "row 1: .* reads as seconds, but row 2 holds .* as milliseconds",
        ),
        (
            ["20200131", "20200131134500"],
            "row 1: '20200131' reads as seconds, but row 2 holds '20200131134500'",
        ),
        (
            ["7", "2020-01-01"],
            "row 1: '7' reads as a number, but row 2 holds '2020-01-01', which reads as a date",
        ),
        (
            ["2020-01-01 00:00:00 UTC", f"{JANUARY}"],
            "row 1: .* reads as a date, but row 2 holds .* as a number",
        ),
        (["1/31/2020", "1/1/2020", "31/1/2020"], "row 1: .* as month first, but row 3 holds '31/1/2020'"),
        (["01.01.2020", "02.01.2020"], "row 2: '02.01.2020' may begin with the day or with the month"),
    ],
)
def test_a_column_that_means_two_things_shows_both_rows(
    tmp_path: Path, cells: list[str], message: str
) -> None:
    with pytest.raises(InvalidData, match=message):
        _of_csv(tmp_path, cells)


@pytest.mark.parametrize(
    ("values", "one", "other"),
    [
        ([1, 2, 3, 5_000_000_000], 0, 3),
        ([JANUARY, 9_000_000_000, JANUARY * 1000], 0, 2),  # a bad value between seconds and milliseconds
        ([*range(1, 1000), JANUARY * 1000, JANUARY], 999, 1000),
        ([4_102_444_800, 41_024_448_001], 0, 1),  # a step of more than ten times
        ([10**9 + 10**6 * n for n in range(3000)] + [10**13], 0, 3000),
        ([43_861, 132_223_104_000_000_000], 0, 1),
    ],
)
def test_a_counter_with_a_step_that_two_units_have_is_refused(
    tmp_path: Path, values: list[int], one: int, other: int
) -> None:
    shown = (
        f"row {one + 1}: '?{values[one]}'? reads as .*, but row {other + 1} holds '?{values[other]}'?, which "
    )
    remedy = "reads as .*; write the column in one unit; where it is a counter, number its rows 1, 2, 3$"
    with pytest.raises(InvalidData, match=shown + remedy):
        _of_csv(tmp_path, [str(v) for v in values])
    with pytest.raises(InvalidData, match=shown + remedy):
        _of_parquet(tmp_path, pa.array(values))


def test_rows_of_two_files_are_shown_with_their_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"t\n{JANUARY}\n{JANUARY}\n")
    (tmp_path / "b.csv").write_text(f"t\n{JANUARY}000\n")
    with pytest.raises(
        InvalidData, match=r"a\.csv: column t, row 1: .* but row 1 of .*b\.csv holds '1577836800000'"
    ):
        times_of(TableFiles.open(tmp_path).read(["t"])["t"])


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3],  # a counter
        [20200101, 20200102],  # a date as a number
        [20200101134500, 20200102134500],
        [132_223_104_000_000_000, 132_223_104_000_000_001],  # 100 ns since 1601
        [1_212_092_628_029_698_048, 1_212_092_628_029_698_049],  # an id that ascends
        [JANUARY * 10**9, JANUARY * 10**9 + 1, JANUARY * 10**9 + 2, JANUARY * 10**9 + 3],
        [-5, 0, 5],
        [JANUARY, 2 * JANUARY, 5_000_000_000],  # a counter that leaves the seconds of 2100
        [0, *(3**n for n in range(39))],  # a counter that grows through all ranges
        [*range(1, 12_000_000_000, 999_999_937)],  # bytes of a log
        [7, *(10**9 + 10**6 * n * n for n in range(1, 2_000))],
        [*(int(4e9 * 1.5**n) for n in range(15))],  # from the range of seconds into that of milliseconds
        [-(10**12), -5, 4_102_444_800, 41_024_448_000, 410_244_480_000],  # steps of ten times
    ],
)
def test_numbers_keep_their_order_whatever_they_count(tmp_path: Path, values: list[int]) -> None:
    for read in (_of_csv(tmp_path, [str(v) for v in values]), _of_parquet(tmp_path, pa.array(values))):
        assert (np.diff(read) > 0).all()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([JANUARY * 10**9 + n for n in range(500)], pa.timestamp("ns")),
        pa.array([f"2020-01-01T00:00:00.{n:09} UTC" for n in range(500)]),
        pa.array([f"{JANUARY}.{n:09}" for n in range(500)]),
        pa.array([Decimal(f"{JANUARY}.{n:09}") for n in range(500)]),
        pa.array(np.nextafter(np.float64(JANUARY * 1000), np.inf) + np.arange(500) / 2**11),
    ],
)
def test_times_finer_than_float64_stay_different_and_in_order(tmp_path: Path, values: pa.Array) -> None:
    order = np.random.default_rng(0).permutation(len(values))
    read = _of_parquet(tmp_path, values.take(pa.array(order)))
    assert (np.diff(read[np.argsort(order)]) > 0).all()
    assert np.abs(read - JANUARY).max() < 1
    ids = np.asarray(order, np.int64)
    ones = np.ones(len(ids), np.int64)
    assert Interactions(ones, ids, read, {}).item_ids.tolist() == list(range(len(ids)))


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.timestamp("us"), pa.float64()])
def test_no_rows_are_no_times(tmp_path: Path, kind: pa.DataType) -> None:
    assert len(_of_parquet(tmp_path, pa.array([], kind))) == 0
    assert len(_of_csv(tmp_path, [])) == 0


def test_equal_times_stay_equal(tmp_path: Path) -> None:
    ticks = [JANUARY * 10**9 + n for n in (1, 0, 1, 2, 0)]
    read = _of_parquet(tmp_path, pa.array(ticks, pa.timestamp("ns")))
    assert read[0] == read[2]
    assert read[1] == read[4]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([True, False]), "must hold times, got bool"),
        (pa.array([time(1)]), "must hold times, got time64"),
        (pa.array([timedelta(1)]), "must hold times, got duration"),
        (pa.array([[1]]), "must hold times, got list"),
        (pa.array([1, None]), "row 2: the time is missing"),
        (pa.array([1.0, float("nan")]), "row 2: the time is missing"),
        (pa.array([1.0, float("inf")]), "row 2: the time must be finite"),
        (pa.array([2**64 - 1], pa.uint64()), "row 1: expected an int64 number"),
        (
            pa.array([float(JANUARY)], pa.float32()),
            "row 1: its float type has steps of 94 s",
        ),
        (pa.array([float(JANUARY * 1000)], pa.float32()), "has steps of 94 s"),
        (pa.array([20200131.0], pa.float32()), "row 1: its float type has steps of"),
        (pa.array([1e300]), "row 1: expected seconds, .* got 1e\\+300"),
    ],
)
def test_what_is_no_time_is_refused(tmp_path: Path, values: pa.Array, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        _of_parquet(tmp_path, values)


def test_dates_are_what_python_reads(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    moments = [datetime.fromtimestamp(int(s), UTC) for s in rng.integers(-(10**10), 2 * 10**10, 300)]
    forms: list[Any] = [
        "%Y-%m-%dT%H:%M:%S+00:00",
        "%Y/%m/%d %I:%M:%S %p",
        "%d %b %Y %H:%M:%S",
        "%a %b %d %H:%M:%S %Y",
    ]
    cells = [moment.strftime(forms[place % len(forms)]) for place, moment in enumerate(moments)]
    assert _of_csv(tmp_path, cells).tolist() == [int(moment.timestamp()) for moment in moments]
