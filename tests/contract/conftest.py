"""Fixtures of the contract: every test that asks for one of them runs for every agent of the registry."""

import pytest

import sbbatch


@pytest.fixture(params=sbbatch.ALGORITHMS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def algorithm(name):
    return sbbatch.ALGORITHMS[name]
