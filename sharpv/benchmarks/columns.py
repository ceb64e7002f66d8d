"""The columns of a table that a benchmark fills: Table 3's, or one of its own with a heading."""

from typing import Any

from omegaconf import DictConfig

from sharpv.reports.tables.table3_columns import BENCHMARK_COLUMNS


def headings(benchmark: DictConfig) -> dict[str, str]:
    """The benchmark's own column and how it is called; empty where it fills Table 3's."""
    columns: Any = benchmark.columns
    return {str(column): str(columns[column]) for column in columns} if isinstance(columns, DictConfig) else {}


def require_columns(benchmarks: list[DictConfig]) -> None:
    """ValueError for benchmarks whose columns no table could print, or that would fill the same one."""
    filled: dict[str, str] = {}
    for benchmark in benchmarks:
        own, form = headings(benchmark), "columns: {my_benchmark: 'My benchmark'}"
        if own and (len(own) > 1 or set(own) & set(BENCHMARK_COLUMNS)):
            raise ValueError(
                f"benchmark {benchmark.name!r} has columns {own}: name one column that is none of Table 3's "
                f"({', '.join(BENCHMARK_COLUMNS)}), with its heading, as in {form}"
            )
        for column in benchmark.columns:
            if column not in own and column not in BENCHMARK_COLUMNS:
                raise ValueError(
                    f"benchmark {benchmark.name!r} fills {column!r}, which is no column of Table 3 "
                    f"({', '.join(BENCHMARK_COLUMNS)}): give it a heading, as in {form}"
                )
            if column in filled:
                raise ValueError(
                    f"benchmarks {filled[column]!r} and {benchmark.name!r} both fill the column {column!r}"
                )
            filled[column] = benchmark.name
