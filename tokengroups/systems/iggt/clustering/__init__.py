"""Instances from an instance field: a shared front and back end, and a method of choice between them."""

from tokengroups.systems.iggt.clustering.cluster import METHODS, Instances, cluster_field
from tokengroups.systems.iggt.clustering.config import ClusteringConfig

__all__ = ["METHODS", "ClusteringConfig", "Instances", "cluster_field"]
