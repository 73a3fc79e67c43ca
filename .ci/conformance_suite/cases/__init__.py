"""All cases in the order in which both servers see them: later ones ask for the state that earlier ones left."""

from . import (clients, deletions, groups, names, offsets, order, others, pull, query, registration, send, stats, strangers,
               topics)


def all_cases():
    modules = (topics, send, offsets, pull, query, clients, order, groups, stats, names, strangers, registration, deletions, others)
    return [case for module in modules for case in module.cases()]
