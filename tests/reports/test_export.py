"""The paper's tables from results, as exact text."""

import csv
import io

import pytest

from merged_diffusion.errors import RunError, RunMismatchError, UsageError
from merged_diffusion.jobs import published_table as paper
from merged_diffusion.reports.export import exported
from merged_diffusion.reports.published import published
from merged_diffusion.reports.results import read_all
from merged_diffusion.reports.tables import BEGINNINGS, Number, Table, written

from .conftest import bits, expert, quality

CIFAR = {"name": "cifar10", "n": 10000}
MARKDOWN = r"""**Exact likelihood of digits/test (24 images) over the threshold (table 1)**

| model | gamma | bits/dim | difference | evaluations |
|---|---:|---:|---:|---:|
| quality expert alone (small\_edm) |  | 1.800 ± 0.060 | +0.050 ± 0.010 | 100 |
| **eta 0.3** | **-6.681** | **1.700 ± 0.040** |  | **100** |
| likelihood expert alone (small\_vdm) |  | 1.750 ± 0.050 | +0.050 ± 0.010 | 100 |

- ± is one standard error.
- Differences are to eta 0.3000, paired image by image.
"""
LATEX = r"""% needs \usepackage{booktabs}
\begin{table}
  \centering
  \caption{Exact likelihood of digits/test (24 images) over the threshold (table 1)}
  \begin{tabular}{lrrrr}
    \toprule
    model & gamma & bits/dim & difference & evaluations \\
    \midrule
    quality expert alone (small\_edm) &  & $1.800 \pm 0.060$ & $+0.050 \pm 0.010$ & $100$ \\
    \textbf{eta 0.3} & $\mathbf{-6.681}$ & $\mathbf{1.700 \pm 0.040}$ &  & $\mathbf{100}$ \\
    likelihood expert alone (small\_vdm) &  & $1.750 \pm 0.050$ & $+0.050 \pm 0.010$ & $100$ \\
    \bottomrule
  \end{tabular}
  \par\footnotesize $\pm$ is one standard error.
  \par\footnotesize Differences are to eta 0.3000, paired image by image.
\end{table}
"""
CSV = """model,gamma,bits/dim,bits/dim se,difference,difference se,evaluations
quality expert alone (small_edm),,1.8,0.06,0.05,0.01,100.4
eta 0.3,-6.6808000000000005,1.7,0.04,,,100.4
likelihood expert alone (small_vdm),,1.75,0.05,0.05,0.01,100.4
"""


@pytest.mark.parametrize(("form", "text"), [("markdown", MARKDOWN), ("latex", LATEX), ("csv", CSV)])
def test_table_1_in_every_format(make_sweep, form, text):
    assert exported([make_sweep()], form=form).text == text


@pytest.mark.parametrize("form", list(BEGINNINGS))
@pytest.mark.parametrize("data", [{}, CIFAR])
def test_every_table_is_known_again_by_its_beginning(make_sweep, form, data):
    drawn = [quality(v, 0.1) for v in (9.0, 2.0, 2.5)]
    results = [
        make_sweep(data=data),
        make_sweep("drawn", metric="sample", sampler="ode", summaries=drawn, data=data),
        make_sweep("bound", metric="vlb", data=data),
    ]
    for number in range(1, 7):
        assert BEGINNINGS[form].search(exported(results, form=form, number=number).text), number


def test_latex_escapes_what_is_a_command():
    table = Table("50% of {a}_b & #1 ~ ^ \\ $", ["x"], [[r"\input{/etc/passwd}"], [Number(-1.5, 2)]])
    text = written(table, "latex")
    caption = r"50\% of \{a\}\_b \& \#1 \textasciitilde{} \textasciicircum{} \textbackslash{} \$"
    assert f"\\caption{{{caption}}}" in text
    assert r"\textbackslash{}input\{/etc/passwd\}" in text
    assert "$-1.50$" in text


def test_markdown_escapes_what_would_break_a_row():
    assert r"| a\|b \<i\> |" in written(Table("t", ["x"], [["a|b <i>"]]), "markdown")


def test_csv_quotes_commas():
    rows = list(csv.reader(io.StringIO(written(Table("t", ["a, b"], [['x,"y"']]), "csv"))))
    assert rows == [["a, b"], ['x,"y"']]


def test_paper_stands_beside_its_own_data_only(make_sweep):
    own = exported([make_sweep("cifar", data=CIFAR)]).text
    assert "| paper bits/dim | paper evaluations |" in own
    assert "| 3.21 | 204 |" in own  # EDM alone
    assert "| **2.63** | **253** |" in own  # eta 0.3
    assert "paper bits" not in exported([make_sweep("digits")]).text
    assert "paper bits" not in exported([make_sweep("modified", data=CIFAR | {"modified": True})]).text
    assert "paper bits" not in exported([make_sweep("train", data=CIFAR | {"split": "train"})]).text


def test_paper_has_no_figure_for_other_thresholds(make_sweep):
    lines = exported([make_sweep(data=CIFAR, etas=(0.25,))]).text.splitlines()
    assert next(line for line in lines if "eta 0.25" in line).endswith("|  |  |")


def test_table_5_has_the_spread_of_repeats(make_sweep):
    repeated = {"repeats": {"n": 10, "mean": 2.65, "std": 0.007, "means": []}}
    summaries = [bits(2.65, 0.01, **repeated), bits(2.64, 0.01), bits(3.2, 0.02)]
    text = exported([make_sweep(metric="vlb", summaries=summaries, data=CIFAR)]).text
    assert "| 2.650 ± 0.010 | +0.050 ± 0.010 | 0.007 | 2.65 | 0.005 |" in text


def test_table_2_shows_both_samplers(make_sweep):
    sweeps = [
        make_sweep(
            sampler,
            metric="sample",
            sampler=sampler,
            summaries=[quality(v, 0.1) for v in values],
            data=CIFAR,
        )
        for sampler, values in (("ode", (9.0, 2.0, 2.5)), ("ancestral", (9.5, 3.0, 3.5)))
    ]
    text = exported(sweeps).text
    best = "| **eta 0.3** | **-6.681** | **ode** | **2.00 ± 0.10** |  | **1000** | **120** "
    assert best + "| **2.01** | **169** |" in text
    assert "| 2.50 ± 0.10 | +0.05 ± 0.01 | 1000 | 120 |" in text
    assert "Differences are to eta 0.3000, of the same ids and noise." in text
    assert "| **ancestral** | **3.00 ± 0.10** |  | **1000** | **120** | **3.39** | **256** |" in text


def test_a_sweep_of_samples_stands_beside_scores_of_the_other_split(make_sweep):
    scored = make_sweep("scored")
    drawn = [quality(v, 0.1) for v in (9.0, 2.0, 2.5)]
    other = {"split": "train", "sha256": None}
    samples = make_sweep("drawn", metric="sample", sampler="heun", summaries=drawn, data=other)
    assert "Distance of samples from digits/train" in exported([scored, samples], number=2).text
    elsewhere = make_sweep(
        "photos", metric="sample", sampler="heun", summaries=drawn, data={"name": "photos"}
    )
    with pytest.raises(RunMismatchError):
        exported([scored, elsewhere])
    train = make_sweep("train", data={"split": "train"})
    with pytest.raises(RunMismatchError, match="split"):
        exported([samples, scored, train])


def test_the_literature_stands_beside_samples_of_its_sets(make_sweep):
    drawn = [quality(v, 0.1) for v in (9.0, 2.0, 2.5)]
    data = {"name": "cifar10", "split": "train", "sha256": None}
    samples = make_sweep("drawn", metric="sample", sampler="ode", summaries=drawn, data=data)
    for results in ([samples], [samples, make_sweep("scored", data=CIFAR)]):
        assert "Kingma et al. 2021" in exported(results, number=3).text


@pytest.mark.parametrize("number", [3, 6])
def test_literature_stands_above_our_rows(make_sweep, number):
    nll = make_sweep("nll", data=CIFAR)
    drawn = make_sweep(
        "drawn",
        metric="sample",
        sampler="ode",
        summaries=[quality(v, 0.1) for v in (9.0, 2.0, 2.5)],
        data=CIFAR,
    )
    lines = exported([nll, drawn], number=number).text.splitlines()
    assert any(line.startswith("| VDM | Kingma et al. 2021 | 2.65 b | 7.41 |") for line in lines)
    assert "| **ours: eta 0.3** | **this run** | **1.700 ± 0.040** | **2.00 ± 0.10** | **120** |" in lines
    assert sum("ours:" in line for line in lines) == 3


def test_literature_of_other_data_is_left_out(make_sweep):
    text = exported([make_sweep()], what="literature").text
    assert "Kingma" not in text
    assert "not of digits/test" in text


def test_every_row_of_the_literature_is_cited():
    rows = published()["literature"]
    assert len(rows) == 19
    for row in rows:
        assert row["citation"] == "the paper" or row["citation"][-4:].isdigit(), row
        assert row["cifar10"]


@pytest.mark.parametrize("number", ["table2", "table5"])
def test_published_rows_follow_the_grid(number):
    table = published()[number]
    assert tuple(table["columns"]) == paper.COLUMNS
    for name in paper.TABLE_1:
        assert all(len(row) == len(paper.COLUMNS) for row in table[name].values())


def test_table_4_is_the_ends_of_the_ranges(make_sweep):
    lines = exported([make_sweep()], number=4).text.splitlines()
    assert r"| quality (small\_edm) | t\_min | 1 | 0.002 | -12.430 |" in lines
    assert r"| quality (small\_edm) | t\_max | 1 | 80.0 | 8.764 |" in lines


def test_failed_threshold_is_in_the_table_as_failed(make_sweep):
    found = exported([make_sweep(summaries=[bits(1.75, 0.05), None, bits(1.8, 0.06)])])
    assert "| eta 0.3 | -6.681 | failed |" in found.text
    assert any("eta 0.3000 failed: diverged" in warning for warning in found.warnings)


def test_other_data_are_refused(make_sweep):
    a, b = make_sweep("a"), make_sweep("b", data={"sha256": "f0"})
    with pytest.raises(RunMismatchError, match="different data: sha256 e8 and f0"):
        exported([a, b])


def test_other_seed_and_other_experts_are_told(make_sweep):
    table = {"experts": {"likelihood": expert("o", -13.3, 5.0, "bb") | {"source": "other"}}}
    _, warnings = read_all([make_sweep("a"), make_sweep("b", seed=1), make_sweep("c", pair=table)])
    assert any("other seeds (0 and 1)" in warning for warning in warnings)
    assert any("other likelihood experts: bundled:small_vdm and other" in warning for warning in warnings)


def test_table_of_another_metric_is_refused(make_sweep):
    with pytest.raises(UsageError, match="table 2 shows sample, these are nll"):
        exported([make_sweep()], number=2)


def test_two_names_of_a_table_are_refused(make_sweep):
    with pytest.raises(UsageError, match="both given"):
        exported([make_sweep()], number=1, what="nll")


def test_newer_sweep_is_refused(make_sweep):
    with pytest.raises(RunError, match="format 2"):
        exported([make_sweep(format=2)])


def test_folder_without_results_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"settings\.json"):
        exported([tmp_path])


def test_a_run_at_the_end_of_eta_has_no_gamma(tmp_path):
    from merged_diffusion.jobs.evaluate import evaluate
    from merged_diffusion.jobs.settings import Settings

    given = {"data": "digits", "eta": 1.0, "limit": 1, "tol": 0.05, "threads": 1, "device": "cpu"}
    evaluate(Settings.of(given), out=tmp_path / "run")
    assert "| eta 1 |  |" in exported([tmp_path / "run"]).text


def test_what_stands_beside_a_distance_has_columns(make_sweep):
    drawn = [quality(v, 0.1) for v in (9.0, 2.0, 2.5)]
    others = [("recall-digits", 0.75, 0.02), ("copies-digits", 0.01, 0.001), ("recall-pixels", 0.1, 0.1)]
    figures = [{"name": name, "value": value, "se": se, "n": 1000} for name, value, se in others]
    drawn[1]["quality"]["others"] = figures
    folder = make_sweep(metric="sample", sampler="ode", summaries=drawn)
    text = exported([folder]).text
    heading = next(line for line in text.splitlines() if line.startswith("| model"))
    assert [cell.strip() for cell in heading.split("|")][4:-1] == [
        "frechet-digits", "difference", "recall", "copies", "images", "evaluations",
    ]  # fmt: skip
    assert "| **0.750 ± 0.020** | **0.010 ± 0.001** |" in text
