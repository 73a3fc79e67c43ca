"""All cases in the order in which both servers see them: later ones ask for the state that earlier ones left."""

from . import clients, deletions, groups, names, offsets, order, pull, send, stats, strangers, topics


def all_cases():
    return [case for module in (topics, send, offsets, pull, clients, order, groups, stats, names, strangers, deletions)
            for case in module.cases()]
