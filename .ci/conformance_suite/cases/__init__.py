"""All cases in the order in which both servers see them: later ones ask for the state that earlier ones left."""

from . import (calls, clients, deletions, groups, names, offsets, order, others, pop, pull, query, registration, reply,
               rewind, send, settings, stats, strangers, timers, topics, transactions, views)


def all_cases():
    modules = (topics, send, transactions, offsets, pull, query, clients, order, groups, stats, names, strangers,
               registration, deletions, timers, reply, calls, rewind, views, pop, settings, others)
    return [case for module in modules for case in module.cases()]
