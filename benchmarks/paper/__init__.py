"""The five questions of the FedBABU paper (Oh, Kim, Yun, ICLR 2022): run, cached, resumed and reported.

cells.py        a cell of the paper's grid, and its recipe
wanted.py       what a question measures of a trained cell
questions/      one file each: which cells, what is measured, tables, figure, what the numbers say
store.py        the folder of runs and evaluations, by content and shared between the questions
plan.py         what is there, what is to be done, and what it costs
runner.py       processes that do it
results.py      what was measured, over seeds
report.py       Markdown, CSV and figures
"""
