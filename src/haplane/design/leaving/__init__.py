"""How long connections go to an apiserver that does not answer: one module for each program that balances. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from haplane.components.base import View
from haplane.design.design import Design
from haplane.design.leaving import haproxy, nginx
from haplane.design.link import Link, no_other_apiserver, worst
from haplane.model.cluster import BalancerProgram


@dataclass(frozen=True)
class _Formulas:
    """Of one balancer. silent: with how many apiservers there are, and how many of them are lost; hung, unready: with
    why the apiserver is so.
    """

    silent: Callable[[View, int, int], Link]
    refused: Callable[[View], Link]
    hung: Callable[[View, str], Link]
    unready: Callable[[View, str], Link]


_FORMULAS: Mapping[BalancerProgram, _Formulas] = MappingProxyType(
    {
        BalancerProgram.HAPROXY: _Formulas(haproxy.silent, haproxy.refused, haproxy.hung, haproxy.unready),
        BalancerProgram.NGINX: _Formulas(nginx.silent, nginx.refused, nginx.hung, nginx.unready),
    }
)


def silent(design: Design, lost: int = 1) -> Link:
    """A connection goes to an apiserver whose machine does not answer any more. lost: so many at once."""
    count = len(design.cluster.control_plane)
    return _worst(design, lambda of, view: of.silent(view, count, lost), lost)


def refused(design: Design) -> Link:
    """The apiserver is dead, and its machine refuses for it."""
    return _worst(design, lambda of, view: of.refused(view))


def hung(design: Design, why: str) -> Link:
    """An apiserver takes connections and does not answer."""
    return _worst(design, lambda of, view: of.hung(view, why))


def unready(design: Design, why: str) -> Link:
    """An apiserver says, from now on, that it is not ready."""
    return _worst(design, lambda of, view: of.unready(view, why))


def _worst(design: Design, link: Callable[[_Formulas, View], Link], lost: int = 1) -> Link:
    cluster = design.cluster
    if len(cluster.control_plane) <= lost:
        return no_other_apiserver()
    formulas = _FORMULAS[cluster.balanced_by]
    return worst(link(formulas, design.view(one.name)) for one in cluster.balancers)
