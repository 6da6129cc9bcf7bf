"""The report of a run of scripts/gpu-check, in Markdown as prettier writes it."""

import re

# The number of lines shown from the end of a failed part's output.
SHOWN_LINES = 100


def report_name(date, device):
    """A file name, such as 2030-01-31-nvidia-h200.md."""
    return f"{date}-{re.sub('[^a-z0-9]+', '-', device.lower()).strip('-')}.md"


def table(head, rows):
    cells = [["" if cell is None else str(cell).replace("|", "\\|") for cell in row] for row in [head, *rows]]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def block(text):
    """A fenced block whose fence is longer than any in its text."""
    longest = max([2, *(len(run) for run in re.findall("`+", text))])
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def summary(results):
    failed = [name for name, found, _ in results if found.outcome == "failed"]
    not_run = sum(found.outcome == "not run" for _, found, _ in results)
    ran = f"Failed: {', '.join(failed)}." if failed else "All that ran passed."
    return ran + (f" {not_run} of {len(results)} parts did not run." if not_run else "")


def part_row(name, found, seconds):
    if found.outcome == "not run":
        return [name, found.outcome, "", "", "", "", ""]
    return [name, found.outcome, found.passed, found.failed, found.skipped, f"{seconds:.1f}", found.remark]


def render(facts, results):
    """`facts`: "date", "device" and other facts of the run, by name; `results`: name, Found and seconds of each part."""
    device, date = facts["device"], facts["date"]
    rows = [[name, value] for name, value in facts.items() if name != "date"]
    sections = [
        f"# {device}, {date}",
        f"Results of `scripts/gpu-check`. {summary(results)} The times are those of the checks, not benchmarks.",
        table(["what", "value"], rows),
        table(
            ["part", "outcome", "passed", "failed", "skipped", "seconds", "remark"],
            [part_row(*result) for result in results],
        ),
    ]
    not_run = [f"- {name}: {found.remark}" for name, found, _ in results if found.outcome == "not run"]
    if not_run:
        sections += ["## What did not run", "\n".join(not_run)]
    for name, found, _ in results:
        if found.tables:
            sections.append(f"## Figures of the {name}")
        for title, (head, *rest) in found.tables:
            sections += [f"### {title}", table(head, rest)]
    for name, found, _ in results:
        if found.outcome == "failed":
            last = found.log.rstrip().split("\n")[-SHOWN_LINES:]
            sections += [f"## The end of {name}", block("\n".join(line.rstrip() for line in last))]
    return "\n\n".join(sections) + "\n"
