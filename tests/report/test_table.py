from kilotune.report.table import text_table


def test_columns_are_aligned_and_numbers_readable():
    text = text_table(["layer", "kind", "B"], [("a", "conv", 1234567), ("long.name", None, 5)], n_left=2)
    lines = text.splitlines()
    assert [line.split() for line in lines[2:]] == [["a", "conv", "1,234,567"], ["long.name", "5"]]
    assert len({len(lines[0]), len(lines[2]), len(lines[3])}) == 1
    assert lines[3].startswith("long.name  ")


def test_a_wide_table_is_not_cut_and_brackets_are_plain_text():
    name = "block." * 60 + "[bold]x[/bold]"
    assert name in text_table(["name"], [(name,)])


def test_no_line_ends_in_blanks():
    text = text_table(["a", "b"], [("x", ""), ("yy", None)], n_left=2)
    assert all(line == line.rstrip() for line in text.splitlines())
