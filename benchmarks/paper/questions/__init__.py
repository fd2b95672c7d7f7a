"""The paper's questions, one file each."""

from __future__ import annotations

from fbkit.benchmarks.paper.questions.question import Answer, Question, Table
from fbkit.benchmarks.paper.questions.rq1 import RQ1
from fbkit.benchmarks.paper.questions.rq2 import RQ2
from fbkit.benchmarks.paper.questions.rq3 import RQ3
from fbkit.benchmarks.paper.questions.rq4 import RQ4
from fbkit.benchmarks.paper.questions.rq5 import RQ5

QUESTIONS = {question.number: question for question in (RQ1, RQ2, RQ3, RQ4, RQ5)}

__all__ = ["QUESTIONS", "Answer", "Question", "Table"]
