"""Mutations of what readers see: the page, its list of cells, the charts."""

from __future__ import annotations

import json
from functools import partial

from tests.tamper.forgery import CELLS, PAGE, Forgery, Record, chart
from tests.tamper.mutation import mutation

from sae_assay.report import render

mutate = partial(mutation, "Page and charts")


def number(forgery: Forgery) -> tuple[Record, int]:
    """A cell whose number the page shows with three digits, and where the number stands in the page's text."""
    html = forgery.file(PAGE).read_text(encoding="utf-8")
    for cell in forgery.cells():
        start = html.find(f'data-cell="{cell["id"]}"')
        if cell["format"] == "fixed3" and start >= 0 and cell["shown"].startswith("0."):
            return cell, html.index(f">{cell['shown']}<", start) + 1
    raise AssertionError("the page shows no such number")


def show(forgery: Forgery, text: str) -> Record:
    """Let the page show another text for a number; returns the number's cell."""
    cell, place = number(forgery)
    html = forgery.file(PAGE).read_text(encoding="utf-8")
    forgery.write(PAGE, html[:place] + text + html[place + len(cell["shown"]) :])
    return cell


def everywhere(forgery: Forgery, text: str) -> None:
    """The same in the page, in cells.json and in the list that the page embeds."""
    cell = show(forgery, text)
    listed = json.loads(forgery.file(CELLS).read_text(encoding="utf-8"))
    for one in listed["cells"]:
        if one["id"] == cell["id"]:
            one["shown"] = text
    forgery.write(CELLS, json.dumps(listed, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")


def sealed(forgery: Forgery, *paths: str) -> None:
    """Let every record and dvc.lock agree with these files, and commit."""
    forgery.reseal(*paths)
    forgery.commit()


@mutate("A number on the page", "CELL_DISPLAY_MISMATCH", "OUTPUT_HASH_MISMATCH")
def page_number(forgery: Forgery) -> None:
    show(forgery, "0.999")


@mutate("A number on the page, and the page's hash in every record and in dvc.lock", "CELL_DISPLAY_MISMATCH")
def page_number_and_hash(forgery: Forgery) -> None:
    show(forgery, "0.999")
    sealed(forgery, PAGE)


@mutate("A number on the page and in cells.json, and both hashes everywhere", "CELL_DISPLAY_MISMATCH")
def page_number_cells_and_hashes(forgery: Forgery) -> None:
    everywhere(forgery, "0.999")
    sealed(forgery, PAGE, CELLS)


@mutate("A digit of a number on the page replaced by its look-alike in another script", "CELL_DISPLAY_MISMATCH")
def page_look_alike(forgery: Forgery) -> None:
    cell, _ = number(forgery)
    show(forgery, cell["shown"].replace("0", "О", 1))  # a Cyrillic O
    sealed(forgery, PAGE)


@mutate("A full-width digit in a number of cells.json, hash resealed", "CELL_DISPLAY_MISMATCH")
def cells_look_alike(forgery: Forgery) -> None:
    cell, _ = number(forgery)
    forgery.replace(CELLS, f'"shown":"{cell["shown"]}"', f'"shown":"{cell["shown"].replace("0", "０", 1)}"')
    sealed(forgery, CELLS)


@mutate("A sentence with a number of its own on the page, hash resealed", "UNTRACED_NUMBER")
def page_number_without_a_cell(forgery: Forgery) -> None:
    forgery.replace(PAGE, "</main>", "<p>The metric explains 97 % of the truth.</p></main>")
    sealed(forgery, PAGE)


@mutate("A sentence with a number in words of another script on the page, hash resealed", "UNTRACED_NUMBER")
def page_number_in_another_script(forgery: Forgery) -> None:
    forgery.replace(PAGE, "</main>", "<p>The metric explains ९७ % of the truth.</p></main>")
    sealed(forgery, PAGE)


@mutate("A verdict on the page turned from FAIL to PASS, hash resealed", "OUTPUT_HASH_MISMATCH")
def page_verdict(forgery: Forgery) -> None:
    html = forgery.file(PAGE).read_text(encoding="utf-8")
    before, _, after = html.rpartition(">FAIL<")
    assert before, "the page shows no verdict FAIL"
    forgery.write(PAGE, f"{before}>PASS<{after}")
    sealed(forgery, PAGE)


@mutate("Two numbers of the page exchanged, each with its own cell, hash resealed", "OUTPUT_HASH_MISMATCH")
def page_numbers_exchanged(forgery: Forgery) -> None:
    html = forgery.file(PAGE).read_text(encoding="utf-8")
    first, second = (piece.split("</data>", 1)[0] for piece in html.split("<data ")[1:12:10])
    assert first != second
    html = html.replace(f"<data {first}</data>", "\0", 1).replace(f"<data {second}</data>", f"<data {first}</data>", 1)
    forgery.write(PAGE, html.replace("\0", f"<data {second}</data>", 1))
    sealed(forgery, PAGE)


@mutate("A style that hides every second row of the page's tables, hash resealed", "OUTPUT_HASH_MISMATCH")
def page_rows_hidden(forgery: Forgery) -> None:
    forgery.replace(PAGE, "</style>", "tr:nth-child(even){display:none}</style>")
    sealed(forgery, PAGE)


@mutate("A script that rewrites numbers when the page opens, hash resealed", "OUTPUT_HASH_MISMATCH")
def page_script(forgery: Forgery) -> None:
    script = "<script>for (const d of document.querySelectorAll('data')) d.textContent = d.value * 2</script>"
    forgery.replace(PAGE, "</body>", f"{script}</body>")
    sealed(forgery, PAGE)


# Charts --------------------------------------------------------------------------------------------------------------------
def datum(forgery: Forgery, name: str) -> Record:
    """A chart's specification in which one plotted value is another one."""
    spec = json.loads(forgery.file(chart(name)).read_text(encoding="utf-8"))
    rows = next(rows for rows in spec["datasets"].values() if any(isinstance(v, float) for v in rows[0].values()))
    field = next(field for field, value in rows[0].items() if isinstance(value, float))
    rows[0][field] += 0.25
    return spec


def draw(forgery: Forgery, name: str, spec: Record) -> list[str]:
    """Write a chart and its pictures as the project draws them; returns their paths."""
    for suffix, content in (("json", render.text(spec)), ("svg", render.picture(spec))):
        forgery.write(chart(name, suffix), content)
    return [chart(name, suffix) for suffix in ("json", "svg")]


@mutate("A chart's datum", "CHART_MISMATCH", "OUTPUT_HASH_MISMATCH")
def chart_datum(forgery: Forgery) -> None:
    forgery.write(chart("truth_scatter"), render.text(datum(forgery, "truth_scatter")))


@mutate("A chart's datum, its pictures drawn from it, the page rendered with them, all resealed", "CHART_MISMATCH")
def chart_datum_and_all_behind_it(forgery: Forgery) -> None:
    forgery.pass_off(*draw(forgery, "truth_scatter", datum(forgery, "truth_scatter")))


@mutate("A chart that draws another chart's table, its pictures drawn from it, hashes resealed", "CHART_MISMATCH")
def chart_of_another_table(forgery: Forgery) -> None:
    spec = json.loads(forgery.file(chart("truth_scatter")).read_text(encoding="utf-8"))
    other = json.loads(forgery.file(chart("truth_controls")).read_text(encoding="utf-8"))
    rows = iter(other["datasets"].values())
    spec["datasets"] = {name: next(rows, []) for name in spec["datasets"]}
    sealed(forgery, *draw(forgery, "truth_scatter", spec))


@mutate("A chart's points kept and its axis cut, its pictures drawn so, hashes resealed", "CHART_MISMATCH")
def chart_axis(forgery: Forgery) -> None:
    spec = json.loads(forgery.file(chart("truth_scatter")).read_text(encoding="utf-8"))

    def cut(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("y"), dict) and node["y"].get("type") == "quantitative":
                node["y"].setdefault("scale", {})["domain"] = [0.7, 0.9]
            for value in node.values():
                cut(value)
        elif isinstance(node, list):
            for value in node:
                cut(value)

    cut(spec)
    sealed(forgery, *draw(forgery, "truth_scatter", spec))


@mutate("A bit of a chart's SVG, hash resealed before anything was published", "OUTPUT_HASH_MISMATCH")
def chart_pixel(forgery: Forgery) -> None:
    forgery.forget()
    forgery.flip(chart("truth_scatter", "svg"))
    sealed(forgery, chart("truth_scatter", "svg"))
