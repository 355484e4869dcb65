"""Published genotypes: the cells as their authors wrote them down, in networks of the published sizes."""

import published as authors
import pytest

from jaxnas.evaluation.cost import genotype_cost, total
from jaxnas.names import PUBLISHED, SPACES
from jaxnas.spaces import published
from jaxnas.spaces.darts import snas_network
from jaxnas.spaces.genotype import Genotype, from_darts
from jaxnas.spaces.imagenet import darts_imagenet_network
from jaxnas.spaces.network import check

NAMES = ("DARTS_V1", "DARTS_V2", "NASNET", "AMOEBANET", "SNAS_MILD_EDGE_ALL", "GDAS_F1")


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_the_authors(name):
    theirs, ours = from_darts(getattr(authors, name)), getattr(published, name)
    assert (theirs.cells, theirs.outputs) == (ours.cells, ours.outputs)


def test_every_one_has_a_name_and_a_network():
    assert len(PUBLISHED) == 18 and set(NAMES) < set(PUBLISHED)
    for name, found in PUBLISHED.items():
        assert isinstance(found, Genotype) and name.isupper()
        choice = SPACES[found.space]
        check(found, choice.network(*choice.official, 10))


# millions of parameters on ImageNet: table 2 of arXiv:1806.09055, 1904.12760, 1907.05737
@pytest.mark.parametrize("found, millions", [("DARTS_V2", 4.7), ("P_DARTS", 4.9), ("PC_DARTS_IMAGENET", 5.3)])
def test_sizes_on_imagenet(found, millions):
    cost = total(genotype_cost(PUBLISHED[found], darts_imagenet_network()))
    assert round(cost.parameters / 1e6, 1) == millions


def test_norms_behind_the_pools_of_snas():
    """SNAS-Series builds its mild cell with 2,663,542 parameters; with bare pools it has 2,661,382."""
    assert total(genotype_cost(published.SNAS_MILD, snas_network())).parameters == 2_663_542
