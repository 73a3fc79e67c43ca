"""All cases in the order in which both servers see them: later ones ask for the state that earlier ones left."""

from . import (clients, deletions, groups, names, offsets, order, others, pop, pull, registration, send, stats, strangers,
               topics)


def all_cases():
    modules = (topics, send, offsets, pull, clients, order, groups, stats, names, strangers, registration, deletions, pop,
               others)
    return [case for module in modules for case in module.cases()]
