"""The heroscript language: playbooks of actions, their parameters, times and stores.

    from play import parse, PlayBook, Params, OurTime

Stands alone: it imports nothing of the other rooms. Files are touched in `play.sources` (reading playbooks) and
`play.kvs` (stores) only; everything else is text in, values out.
"""

from play.action import Action, ActionType
from play.errors import Mistake, ParseError, PlayError
from play.ourtime import OurTime
from play.params import Params
from play.playbook import PlayBook
from play.script import Script, parse

__all__ = [
    "Action",
    "ActionType",
    "Mistake",
    "OurTime",
    "Params",
    "ParseError",
    "PlayBook",
    "PlayError",
    "Script",
    "parse",
]
