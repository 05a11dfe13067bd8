"""What the README says of medsal, and of those libraries that the tests have anyway."""

import pytest

from tests.peers.__main__ import LIBRARIES, QUESTIONS

# MONAI's warnings of its own affairs, captum's of hooks.
pytestmark = pytest.mark.filterwarnings("ignore")
GUIDED = [question for question in QUESTIONS if question.startswith("guided")]


@pytest.mark.parametrize("question", QUESTIONS)
def test_medsal_answers_well(question: str) -> None:
    expected = "refuses" if "LeakyReLU" in question else "yes"
    assert QUESTIONS[question](LIBRARIES["medsal"]()).startswith(expected)


@pytest.mark.parametrize("question", GUIDED)
def test_monai_gives_the_plain_gradient(question: str) -> None:
    assert QUESTIONS[question](LIBRARIES["MONAI"]()) == "no: the plain gradient"


@pytest.mark.parametrize("question", GUIDED[1:])
def test_captum_gives_the_plain_gradient_where_there_is_no_module(question: str) -> None:
    assert QUESTIONS[question](LIBRARIES["captum"]()) == "no: the plain gradient"


def test_monai_inverts_mixes_and_leaves_traces() -> None:
    monai = LIBRARIES["MONAI"]()
    for question in ("the map is large where Grad-CAM is", "samples of a batch stay apart"):
        assert QUESTIONS[question](monai) == "no"
    assert QUESTIONS["the model stays as it was"](monai) == "no: hooks, .grad, modes"
    with pytest.raises(RuntimeError):
        QUESTIONS["right before an in-place ReLU"](monai)
