"""Label hierarchies: what belongs to what, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from mil_bench.errors import InputError
from mil_bench.hierarchy import LabelHierarchy


@pytest.fixture
def tree() -> LabelHierarchy:
    # Children of a coarse class do not stand side by side: an implementation that assumes so would
    # be caught.
    return LabelHierarchy(("a0", "b0", "a1", "b1", "c0"), ("a", "b", "c"), (0, 1, 0, 1, 2))


def test_lifting_matches_a_hand_calculation(tree: LabelHierarchy) -> None:
    fine = np.array([[0.5, 0.125, 0.25, 0.0, 0.125], [0.0, 0.25, 0.0, 0.75, 0.0]])
    assert tree.lift(fine).tolist() == [[0.75, 0.125, 0.125], [0.0, 1.0, 0.0]]


def test_lifted_probabilities_sum_to_one(tree: LabelHierarchy) -> None:
    fine = np.random.default_rng(0).dirichlet(np.ones(5), size=(7, 3))
    coarse = tree.lift(fine)
    assert coarse.shape == (7, 3, 3)
    np.testing.assert_allclose(coarse.sum(-1), 1.0, rtol=0, atol=1e-15)


def test_every_row_of_the_lift_matrix_holds_a_single_one(tree: LabelHierarchy) -> None:
    assert tree.lift_matrix.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_coarse_labels_follow_the_parents(tree: LabelHierarchy) -> None:
    labels = np.array([[4, 3, 2], [0, 1, 1]])
    assert tree.coarse_of(labels).tolist() == [[2, 1, 0], [0, 1, 1]]


def test_lifting_a_one_hot_label_gives_its_coarse_label(tree: LabelHierarchy) -> None:
    lifted = tree.lift(np.eye(tree.n_fine))
    assert lifted.argmax(1).tolist() == tree.coarse_of(np.arange(tree.n_fine)).tolist()


def test_groups_number_fine_classes_in_reading_order() -> None:
    tree = LabelHierarchy.from_groups({"benign": ["N", "PB"], "malignant": ["IC"]})
    assert tree == LabelHierarchy(("N", "PB", "IC"), ("benign", "malignant"), (0, 0, 1))
    assert (tree.n_fine, tree.n_coarse) == (3, 2)


def test_a_flat_hierarchy_lifts_to_itself() -> None:
    tree = LabelHierarchy.flat(["x", "y", "z"])
    fine = np.array([[0.2, 0.3, 0.5]])
    assert tree.coarse == tree.fine == ("x", "y", "z")
    assert tree.lift(fine).tolist() == fine.tolist()


def test_a_hierarchy_survives_json(tree: LabelHierarchy) -> None:
    assert LabelHierarchy.from_json(tree.to_json()) == tree


@pytest.mark.parametrize(
    ("fine", "coarse", "parent", "problem"),
    [
        (("x", "y", "x"), ("a", "b"), (0, 1, 1), "a fine class is named twice in ['x', 'y', 'x']"),
        (("x", "y"), ("a", "a"), (0, 1), "a coarse class is named twice in ['a', 'a']"),
        (("x",), ("a",), (0,), "at least two fine classes are needed, there are 1"),
        ((), (), (), "at least two fine classes are needed, there are 0"),
        (("x", "y", "z"), ("a",), (0, 0), "3 fine classes but 2 parents"),
        (("x", "y"), ("a",), (0, 1), "parents [1] are outside 0..0"),
        (("x", "y"), ("a",), (0, -1), "parents [-1] are outside 0..0"),
        (("x", "y"), ("a", "b", "c"), (0, 0), "coarse classes without a fine class: b, c"),
    ],
)
def test_a_malformed_hierarchy_names_its_problem(
    fine: tuple[str, ...], coarse: tuple[str, ...], parent: tuple[int, ...], problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        LabelHierarchy(fine, coarse, parent)
    assert problem in caught.value.problems
    assert str(caught.value).endswith("Give every fine class exactly one coarse class.")


def test_all_problems_of_a_hierarchy_come_together() -> None:
    with pytest.raises(InputError) as caught:
        LabelHierarchy(("x", "x"), ("a", "b"), (0, 5, 0))
    assert len(caught.value.problems) == 4


def test_a_fine_class_in_two_groups_is_refused() -> None:
    with pytest.raises(InputError, match="a fine class is named twice"):
        LabelHierarchy.from_groups({"a": ["x", "y"], "b": ["y"]})
