"""A report as Markdown, to be read in a terminal or on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.evaluation.section import Column, Number, Section


def as_markdown(title: str, facts: Mapping[str, str], sections: Sequence[Section], pictures: Mapping[str, str]) -> str:
    """The whole report.

    Args:
        title: its heading.
        facts: what was evaluated, by name.
        sections: in order.
        pictures: file names by caption; none where none were drawn.
    """
    lines = [f"# {title}", ""]
    lines += [f"- {name}: {fact}" for name, fact in facts.items()]
    for section in sections:
        lines += ["", *_write_section(section)]
    if pictures:
        lines += ["", "## Pictures"]
        lines += [line for caption, file in pictures.items() for line in ("", f"![{caption}]({file})")]
    return "\n".join(lines) + "\n"


def _write_section(section: Section) -> list[str]:
    lines = [f"## {section.title}", ""]
    lines += [f"- {note}" for note in section.notes]
    lines += [""] if section.notes else []
    lines += _write_mean(section)
    if len(section.entities) > 1:
        lines += ["", *_write_entities(section)]
    return [*lines, "", section.intro]


def _write_mean(section: Section) -> list[str]:
    """A row per number and a column per role: there are more numbers than fit beside each other."""
    several = len(section.entities) > 1
    values = section.mean if several else next(iter(section.entities.values()))
    head = f"mean of {len(section.entities)} entities" if several else next(iter(section.entities))
    rows = [[head, *(section.roles.get(role, role) for role in values)]]
    for column in section.columns:
        numbers = [each.get(column.name) for each in values.values()]
        if any(number is not None for number in numbers):
            heading = f"{column.heading} (sum)" if several and column.over == "sum" else column.heading
            rows.append([heading, *(write(number, column) for number in numbers)])
    return write_table(rows)


def _write_entities(section: Section) -> list[str]:
    """A row per entity, with the leading numbers of all roles that have them."""
    mean = section.mean
    columns = {column: having for column in section.columns if column.leading and (having := _having(column, mean))}
    rows = [["entity", *(_heading(section, column, having) for column, having in columns.items())]]
    for name, numbers in section.entities.items():
        cells = [
            " / ".join(write(numbers.get(role, {}).get(column.name), column) for role in having)
            for column, having in columns.items()
        ]
        rows.append([name, *cells])
    return write_table(rows)


def _having(column: Column, mean: Mapping[str, Mapping[str, Number]]) -> list[str]:
    """The roles that have this number; one of them, where it is the same for all."""
    having = [role for role in mean if mean[role].get(column.name) is not None]
    return having[:1] if column.shared else having


def _heading(section: Section, column: Column, roles: Sequence[str]) -> str:
    if len(roles) == 1:
        return column.heading
    return f"{column.heading}: {' / '.join(section.roles.get(role, role) for role in roles)}"


def write(number: Number, column: Column) -> str:
    """One number as the column writes it; a dash where there is none."""
    if number is None:
        return "-"
    return f"{round(number) if column.form.endswith('d') else number:{column.form}}"


def write_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose columns stand under each other as plain text too; all but the first to the right."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_write_row([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    rule = _write_row(["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])])
    return [lines[0], rule, *lines[1:]]


def _write_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
